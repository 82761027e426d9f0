"""Listening: shared ports, sockets of the right mode, and errors that name who is in the way."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from gatepost.config.endpoints import TcpAddress, UnixAddress
from gatepost.net.listener import ListenError, listen, port_holder
from peers.programs import require_root

NOBODY = 65534

HOLD = """
import socket, sys
held = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
if sys.argv[2] == "shared":
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
held.bind((sys.argv[1], 0))
held.listen()
print(held.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(host: str = "127.0.0.1", how: str = "alone") -> Iterator[tuple[int, int]]:
    """Another program that holds a port: (port, process id)."""
    command = [sys.executable, "-c", HOLD, host, how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process.pid
        finally:
            process.communicate()


@contextmanager
def listening(
    address: TcpAddress | UnixAddress, count: int = 1, home: Path = Path("/")
) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(closing(one)) for one in listen(address, count=count, home=home)]


def port_of(sockets: list[socket.socket]) -> int:
    [port] = {one.getsockname()[1] for one in sockets}
    return int(port)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def test_sockets_share_a_port_and_each_gets_connections() -> None:
    with listening(TcpAddress("127.0.0.1", 0), 3) as sockets:
        address = ("127.0.0.1", port_of(sockets))
        with ExitStack() as clients:
            for _ in range(90):
                clients.enter_context(socket.create_connection(address, timeout=5))
            counts = [0, 0, 0]
            for at, one in enumerate(sockets):
                assert not one.getblocking()
                while True:
                    try:
                        one.accept()[0].close()
                    except BlockingIOError:
                        break
                    counts[at] += 1
        assert sum(counts) == 90
        assert min(counts) > 0


def test_a_port_that_was_just_left_can_be_taken_again() -> None:
    with listening(TcpAddress("127.0.0.1", 0)) as sockets:
        port = port_of(sockets)
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            sockets[0].accept()[0].close()
    with listening(TcpAddress("127.0.0.1", port), 2) as sockets:
        assert port_of(sockets) == port


@needs_ipv6
def test_the_wildcards_are_two_listeners() -> None:
    with listening(TcpAddress("::", 0)) as six, listening(TcpAddress("0.0.0.0", port_of(six))) as four:
        for host, sockets in (("::1", six), ("127.0.0.1", four)):
            with socket.create_connection((host, port_of(sockets)), timeout=5):
                sockets[0].accept()[0].close()


@pytest.mark.parametrize("how", ["alone", "shared"])
def test_who_holds_a_port_is_named(how: str) -> None:
    with holder(how=how) as (port, process):
        program = Path(f"/proc/{process}/comm").read_text().strip()
        with pytest.raises(ListenError) as refused:
            listen(TcpAddress("127.0.0.1", port), count=2, home=Path("/"))
        assert str(refused.value) == (
            f"cannot listen on 127.0.0.1:{port}: the port is in use; it is held by {program} (process {process}); "
            "stop it or change the listener's address"
        )
    with listening(TcpAddress("127.0.0.1", port)):
        pass


@needs_ipv6
def test_who_holds_a_port_of_ipv6_is_named() -> None:
    with holder("::1") as (port, process):
        with pytest.raises(ListenError, match=rf"cannot listen on \[::1\]:{port}: .*\(process {process}\)"):
            listen(TcpAddress("::1", port), count=1, home=Path("/"))
        assert port_holder(port).endswith(f"(process {process})")
    assert port_holder(port) == ""


def test_two_of_us_do_not_share_a_port_unseen() -> None:
    us = rf"it is held by .* \(process {os.getpid()}\)"
    with listening(TcpAddress("127.0.0.1", 0), 2) as sockets, pytest.raises(ListenError, match=us):
        listen(TcpAddress("127.0.0.1", port_of(sockets)), count=2, home=Path("/"))


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(ListenError, match=r"cannot listen on 192\.0\.2\.1:2525: this machine has no such address"):
        listen(TcpAddress("192.0.2.1", 2525), count=1, home=Path("/"))


def test_no_descriptor_is_left_open_by_a_refusal(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        for _ in range(3):
            with pytest.raises(ListenError):
                listen(TcpAddress("127.0.0.1", held.getsockname()[1]), count=3, home=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ListenError):
        listen(UnixAddress("file/socket"), count=1, home=tmp_path)
    with pytest.raises(ListenError):
        listen(UnixAddress("file"), count=1, home=tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


AS_NOBODY = f"""
import os, sys
from pathlib import Path
from gatepost.config.endpoints import TcpAddress
from gatepost.net.listener import ListenError, listen
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
try:
    listen(TcpAddress("127.0.0.1", int(sys.argv[1])), count=1, home=Path("/"))
except ListenError as error:
    print(error)
"""


def as_nobody(port: int) -> str:
    require_root("only root can become nobody")
    done = subprocess.run([sys.executable, "-c", AS_NOBODY, str(port)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_low_port_without_root() -> None:
    first_free = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if first_free.exists() and int(first_free.read_text()) <= 1019:
        pytest.skip("low ports are for everybody here")
    assert as_nobody(1019) == (
        "cannot listen on 127.0.0.1:1019: ports below 1024 need root or CAP_NET_BIND_SERVICE; see docs/operation.md"
    )


def test_a_holder_who_may_not_be_seen() -> None:
    with holder() as (port, _):
        assert as_nobody(port) == (
            f"cannot listen on 127.0.0.1:{port}: the port is in use; "
            "another program holds it (as root, `ss -ltnp` shows which); stop it or change the listener's address"
        )


# -- UNIX sockets --


def test_a_unix_socket_is_for_owner_and_group(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        with listening(UnixAddress("run/lmtp"), 2, tmp_path) as sockets:
            path = tmp_path / "run" / "lmtp"
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert [one.getsockname() for one in sockets] == [str(path)] * 2
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                sockets[1].accept()[0].close()  # one queue of connections for both
    finally:
        assert os.umask(old) == 0o022


def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    with listening(UnixAddress("lmtp"), 1, tmp_path):
        pass
    assert (tmp_path / "lmtp").is_socket()
    with listening(UnixAddress("lmtp"), 1, tmp_path) as sockets, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "lmtp"))
        sockets[0].accept()[0].close()


def test_a_socket_that_is_served_is_left_alone(tmp_path: Path) -> None:
    with listening(UnixAddress("lmtp"), 1, tmp_path) as sockets:
        with pytest.raises(ListenError, match="another program serves it; stop that program or choose another path"):
            listen(UnixAddress("lmtp"), count=1, home=tmp_path)
        sockets[0].accept()[0].close()  # our look at it
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "lmtp"))


def test_a_server_too_busy_to_answer_keeps_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    with socket.socket(socket.AF_UNIX) as busy, ExitStack() as clients:
        busy.bind(str(path))
        busy.listen(0)
        for _ in range(10):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            try:
                client.connect(str(path))
            except BlockingIOError:
                break
        with pytest.raises(ListenError, match="another program serves it"):
            listen(UnixAddress("lmtp"), count=1, home=tmp_path)
        assert path.is_socket()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mail")
    (tmp_path / "link").symlink_to(precious)
    for name in ("precious", "link"):
        with pytest.raises(
            ListenError, match=f"cannot listen on unix:{tmp_path}/{name}: .*check its folder and rights"
        ):
            listen(UnixAddress(name), count=1, home=tmp_path)
    assert precious.read_text() == "mail"


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="too long"):
        listen(UnixAddress("x" * 200), count=1, home=tmp_path)
