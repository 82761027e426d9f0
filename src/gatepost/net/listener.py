"""Sockets to listen on, and who holds a port that is taken.

TCP sockets are bound with SO_REUSEPORT, one for each worker, so that the kernel spreads connections and a worker that dies
loses none of the others. Before that one is bound without it: else a second server of the same user could share the port unseen.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from gatepost.config.endpoints import TcpAddress, UnixAddress

BACKLOG = 1024


class ListenError(Exception):
    """An address cannot be listened on. The text names it, the reason, who holds it where that is known, and what to do."""


def listen(address: TcpAddress | UnixAddress, *, count: int, home: Path) -> list[socket.socket]:
    """`count` sockets listening on one address (the same one `count` times for a UNIX socket). Raises ListenError."""
    if isinstance(address, UnixAddress):
        listening = _listen_unix(home / address.path)
        return [listening, *(listening.dup() for _ in range(count - 1))]
    bound: list[socket.socket] = []
    try:
        with _tcp_socket(address, shared=False):
            pass
        for _ in range(count):
            bound.append(_tcp_socket(address, shared=True))
            address = TcpAddress(address.host, bound[0].getsockname()[1])
        for listening in bound:
            listening.listen(BACKLOG)  # may find the port in use only now
    except OSError as error:
        for listening in bound:
            listening.close()
        raise ListenError(_explain(address, error)) from None
    return bound


def _tcp_socket(address: TcpAddress, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # "[::]:25" and "0.0.0.0:25" are two listeners
        made.bind((address.host, address.port))
    except OSError:
        made.close()
        raise
    made.setblocking(False)
    return made


def _listen_unix(path: Path) -> socket.socket:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and stat.S_ISSOCK(path.lstat().st_mode):
            _refuse_if_served(path)
            path.unlink()
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o117)  # 0660 from the first moment
        try:
            made.bind(str(path))
        except OSError:
            made.close()
            raise
        finally:
            os.umask(old)
    except OSError as error:
        raise ListenError(
            f"cannot listen on unix:{path}: {error.strerror or error}; check its folder and rights"
        ) from None
    made.listen(BACKLOG)
    made.setblocking(False)
    return made


def _refuse_if_served(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return  # left behind by somebody who is gone
        except OSError:
            pass  # too busy to answer, or not for us to ask: somebody's
    raise ListenError(
        f"cannot listen on unix:{path}: another program serves it; stop that program or choose another path"
    )


def _explain(address: TcpAddress, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        holder = port_holder(address.port)
        who = f"it is held by {holder}" if holder else "another program holds it (as root, `ss -ltnp` shows which)"
        return f"cannot listen on {address}: the port is in use; {who}; stop it or change the listener's address"
    if error.errno == errno.EACCES:
        return f"cannot listen on {address}: ports below 1024 need root or CAP_NET_BIND_SERVICE; see docs/operation.md"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {address}: this machine has no such address"
    return f"cannot listen on {address}: {error.strerror or error}"


def port_holder(port: int) -> str:
    """Name and process id of who listens on a TCP port, as far as this user may see; "" where it cannot be known (Linux)."""
    inodes = {inode for table in ("/proc/net/tcp", "/proc/net/tcp6") for inode in _listening_inodes(Path(table), port)}
    if not inodes:
        return ""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()) in wanted for link in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue  # gone meanwhile, or somebody else's
    return ""


def _listening_inodes(table: Path, port: int) -> list[str]:
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []
    # Columns: sl local_address rem_address st … inode; state 0A is LISTEN (proc(5)).
    return [row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port]


def local_addresses() -> frozenset[str]:
    """The IP addresses of this machine, as far as the kernel tells (Linux); at least those of the loopback interface."""
    found = {"127.0.0.1", "::1"}
    with suppress(OSError, ValueError):
        found |= _local_ipv4(Path("/proc/net/fib_trie").read_text().splitlines())
    with suppress(OSError, ValueError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            found.add(str(ipaddress.IPv6Address(int(line.split()[0], 16))))
    return frozenset(found)


def _local_ipv4(lines: list[str]) -> set[str]:
    # A line "|-- 192.0.2.1" is followed by "/32 host LOCAL" where the address is ours.
    return {
        above.split()[-1]
        for above, line in pairwise(lines)
        if line.strip().startswith("/32 host LOCAL") and "--" in above
    }
