"""A running server is changed, and one that cannot start says why."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from peers.gatepost import DOMAIN, GatepostInstance
from peers.ports import free_port
from peers.postfix import refuses_connections
from peers.sink import wait_until
from peers.wire import Wire

MESSAGE = b"Subject: x\r\n\r\nx\r\n"


@pytest.fixture(scope="module")
def gatepost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatepostInstance]:
    with GatepostInstance(tmp_path_factory.mktemp("gatepost"), workers=2) as instance:
        yield instance


@pytest.fixture
def settings(gatepost: GatepostInstance) -> Iterator[Path]:
    """gatepost.toml, put back as it was."""
    file = gatepost.home.settings_file
    before = file.read_text()
    yield file
    file.write_text(before)
    assert gatepost.ask({"do": "reload"}) is not None


def rcpt(wire: Wire, recipient: str) -> str:
    return wire.ask("RSET", "MAIL FROM:<x@far.test>", f"RCPT TO:<{recipient}>")


# -- the directory --


def test_the_directory_is_changed_under_an_open_session(gatepost: GatepostInstance, tmp_path: Path) -> None:
    with Wire(gatepost.address("mx")) as wire:
        wire.hello()
        assert rcpt(wire, "new@here.test").startswith("550 5.1.1")
        gatepost.run("forward", "add", "new@here.test", "ann@here.test")
        assert rcpt(wire, "new@here.test").startswith("250")
        gatepost.run("forward", "disable", "new@here.test")
        assert rcpt(wire, "new@here.test").startswith("550")
        gatepost.run("forward", "enable", "new@here.test")
        gatepost.run("forward", "remove", "new@here.test")
        assert rcpt(wire, "new@here.test").startswith("550 5.1.1")

        assert rcpt(wire, "who@other.test").startswith("554 5.7.1")
        gatepost.run("domain", "add", "other.test")
        assert rcpt(wire, "who@other.test").startswith("550 5.1.1")
        gatepost.run("account", "add", "who@other.test", "--password-stdin", text="correct horse\n")
        assert rcpt(wire, "who@other.test").startswith("250")
    gatepost.people.accounts.update({"who@other.test": "correct horse"})  # type: ignore[attr-defined]
    with gatepost.smtp("submission", "who@other.test") as client:
        assert client.sendmail("who@other.test", ["ann@here.test"], MESSAGE) == {}


# -- settings --


def test_reload_changes_listeners_and_drops_no_connection(gatepost: GatepostInstance, settings: Path) -> None:
    with Wire(gatepost.address("mx")) as wire:
        assert "SIZE 52428800" in wire.hello()
        wire.envelope("x@far.test", ["ann@here.test"])
        assert wire.ask("DATA").startswith("354")
        wire.send(b"Subject: over the reload\r\n\r\n")
        gatepost.configure('recipient_delimiter = "-"', {"mx": 'message_size_limit = "1 MiB"\nhostname = "other.test"'})
        assert gatepost.run("reload") == "reloaded\n"
        for _ in range(4):  # whichever worker it is
            with Wire(gatepost.address("mx")) as another:
                assert another.greeting.startswith("220 other.test ")
                assert "SIZE 1048576" in another.hello()
                assert rcpt(another, "ann-tag@here.test").startswith("250")
                assert rcpt(another, "ann+tag@here.test").startswith("550")
        wire.send(b"done\r\n.\r\n")
        assert wire.reply().startswith("250 2.0.0 Ok: queued as ")
        gatepost.wait_for_mail("ann@here.test", "over the reload", timeout=5)
        time.sleep(1)  # what was delivering before has long gone
        wire.envelope("x@far.test", ["ann@here.test"])
        assert wire.ask("DATA").startswith("354")
        wire.send(b"Subject: after the reload\r\n\r\n.\r\n")
        assert wire.reply().startswith("250 2.0.0 Ok: queued as ")
        gatepost.wait_for_mail("ann@here.test", "after the reload", timeout=5)


def test_sighup_reloads_too(gatepost: GatepostInstance, settings: Path) -> None:
    gatepost.configure("", {"mx": "vrfy = true"})
    gatepost.reload()

    def vrfy() -> bool:
        with Wire(gatepost.address("mx")) as wire:
            return "VRFY" in wire.hello()

    wait_until(lambda: all(vrfy() for _ in range(4)))


def test_wrong_settings_change_nothing(gatepost: GatepostInstance, settings: Path) -> None:
    right = settings.read_text()
    settings.write_text(right.replace("workers = 2", "workers = 2\nrecipient_delimeter = '-'"))
    line = settings.read_text().splitlines().index("recipient_delimeter = '-'") + 1
    failed = gatepost.attempt("reload")
    assert failed.returncode == 1
    assert f"gatepost.toml:{line}: recipient_delimeter: " in failed.stderr and "recipient_delimiter" in failed.stderr
    with Wire(gatepost.address("mx")) as wire:
        wire.hello()
        assert rcpt(wire, "ann+tag@here.test").startswith("250")
    gatepost.wait_for_log("settings not reloaded: ")
    settings.write_text("[[[")
    assert f"{settings}:1" in gatepost.attempt("config", "check").stderr
    assert gatepost.attempt("reload").returncode == 1
    assert gatepost.serves()


def test_what_only_a_restart_can_change_is_told(gatepost: GatepostInstance, settings: Path) -> None:
    settings.write_text(settings.read_text().replace("workers = 2", "workers = 1"))
    gatepost.run("reload")
    gatepost.wait_for_log("waits for a restart: workers")
    assert len(gatepost.status()) == 2


# -- certificates --


def served(gatepost: GatepostInstance) -> bytes:
    with gatepost.smtp("submissions") as client:
        certificate = client.sock.getpeercert(binary_form=True)  # type: ignore[union-attr]
        assert isinstance(certificate, bytes)
        return certificate


def test_a_renewed_certificate_is_served_without_a_restart(gatepost: GatepostInstance) -> None:
    old = served(gatepost)
    with gatepost.smtp("submission", "ann@here.test") as client:
        gatepost.run("ca", "renew", "mail.here.test")
        wait_until(lambda: all(served(gatepost) != old for _ in range(4)), 10)
        assert client.sendmail("ann@here.test", ["ben@here.test"], MESSAGE) == {}  # who was connected still is
    assert ssl.DER_cert_to_PEM_cert(served(gatepost)) in (gatepost.home.path / "tls" / "mail.here.test.crt").read_text()


def test_sni_chooses_the_certificate(gatepost: GatepostInstance) -> None:
    gatepost.run("ca", "issue", "imap.here.test")
    gatepost.run("reload")
    for name in ("imap.here.test", "mail.here.test"):
        with (
            socket.create_connection(gatepost.address("submissions"), timeout=10) as plain,
            gatepost.tls().wrap_socket(plain, server_hostname=name) as connection,  # which checks the name
        ):
            assert connection.recv(100).startswith(b"220 ")


def test_a_broken_certificate_keeps_the_old_one(gatepost: GatepostInstance) -> None:
    file = gatepost.home.path / "tls" / "mail.here.test.crt"
    good, old = file.read_bytes(), served(gatepost)
    try:
        file.write_bytes(b"rubbish")
        time.sleep(1.1)  # looked at once a second
        assert served(gatepost) == old
        gatepost.wait_for_log("the certificate loaded before stays in use")
    finally:
        file.write_bytes(good)


# -- starting and stopping --


def failed_start(gatepost: GatepostInstance) -> str:
    done = gatepost.attempt("serve", "--quiet")
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_second_server_in_the_same_home_is_refused(gatepost: GatepostInstance) -> None:
    assert f"is served already, by process {gatepost.pid}" in failed_start(gatepost)
    assert gatepost.serves()


def test_a_port_in_use_is_named_with_its_holder(tmp_path: Path) -> None:
    gatepost = GatepostInstance(tmp_path)
    with socket.socket() as holder:
        holder.bind(gatepost.address("submission"))
        holder.listen()
        said = failed_start(gatepost)
    assert f"submission: cannot listen on 127.0.0.1:{gatepost.ports['submission']}: the port is in use" in said
    assert f"(process {os.getpid()})" in said
    with gatepost:
        pass  # and now it can


def test_two_homes_cannot_share_a_port(gatepost: GatepostInstance, tmp_path: Path) -> None:
    second = GatepostInstance(tmp_path)
    second.ports["mx"] = gatepost.ports["mx"]
    second.configure()
    assert f"127.0.0.1:{gatepost.ports['mx']}: the port is in use" in failed_start(second)


@pytest.mark.parametrize(
    ("toml", "line", "said"),
    [
        ("recipent_delimiter = '+'", 1, "recipient_delimiter"),
        ("[delivery]\nrelay_host = '[127.0.0.1]'", 2, "relayhost"),
        ("[queue]\nmaximal_backoff_time = 'soon'", 2, "maximal_backoff_time"),
        ("[[listener]]\nrole = 'mx'\naddress = '127.0.0.1:0x'", 3, "address"),
        ("[[listener]]\naddress = '127.0.0.1:1'\nhelo_restrictions = ['permit_mynetwork']", 3, "permit_mynetworks"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_with_its_line(tmp_path: Path, toml: str, line: int, said: str) -> None:
    gatepost = GatepostInstance(tmp_path)
    before = gatepost.home.settings_file.read_text()
    gatepost.configure(toml)
    written = gatepost.home.settings_file.read_text()
    assert written != before
    at = written[: written.index(toml)].count("\n") + line
    error = failed_start(gatepost)
    assert f"gatepost.toml:{at}: " in error and said in error


def test_without_a_server_the_commands_say_so(tmp_path: Path) -> None:
    gatepost = GatepostInstance(tmp_path)
    for command in ("status", "reload", "stop"):
        done = gatepost.attempt(command)
        assert (done.returncode, done.stdout) == (1, "") and "no server runs in" in done.stderr
    missing = subprocess.run(
        [*gatepost.command()[:4], str(tmp_path / "nowhere"), "status"], capture_output=True, text=True
    )
    assert missing.returncode == 1 and "there is no home folder" in missing.stderr


def test_sigterm_lets_messages_on_their_way_in_finish(tmp_path: Path) -> None:
    with GatepostInstance(tmp_path) as gatepost, Wire(gatepost.address("mx")) as wire:
        wire.hello()
        wire.envelope("x@far.test", ["ann@here.test"])
        assert wire.ask("DATA").startswith("354")
        wire.send(b"Subject: last\r\n\r\n")
        with Wire(gatepost.address("mx")) as idle:
            idle.hello()
            os.kill(gatepost.pid, signal.SIGTERM)
            assert idle.reply().startswith("421 4.3.2")
        wait_until(lambda: refuses_connections(gatepost.ports["mx"]))
        wire.send(b"x\r\n.\r\n")
        assert wire.reply().startswith("250 2.0.0 Ok: queued as ")
        assert wire.reply().startswith("421 4.3.2")
        began = time.monotonic()
        assert gatepost.wait() == 0
        assert time.monotonic() - began < 10
        assert gatepost.processes() == []
        if not len(gatepost.maildir("ann@here.test")):
            gatepost.start()  # it was acknowledged, so it is in the queue
        gatepost.wait_for_mail("ann@here.test", "last")


def test_gatepost_stop_ends_it(tmp_path: Path) -> None:
    with GatepostInstance(tmp_path) as gatepost:
        assert gatepost.run("stop") == "stopping\n"
        assert gatepost.wait() == 0
        assert not gatepost.home.control.exists()


def test_a_worker_that_dies_is_started_again(gatepost: GatepostInstance) -> None:
    first, second = (worker["pid"] for worker in gatepost.status())
    os.kill(first, signal.SIGKILL)
    for _ in range(4):  # those that the dead one would have served wait for its successor
        with Wire(gatepost.address("mx")) as wire:
            wire.hello()
    wait_until(gatepost.serves)
    assert first not in (pids := [worker["pid"] for worker in gatepost.status()]) and second in pids
    gatepost.wait_for_log("ended: signal 9; starting it again")


def test_the_port_is_not_given_away_while_it_serves(gatepost: GatepostInstance) -> None:
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            thief.bind(gatepost.address("mx"))


def test_an_ipv6_and_a_unix_listener_serve_the_same(tmp_path: Path) -> None:
    port = free_port()
    toml = f'[[listener]]\naddress = "[::1]:{port}"\nreverse_lookup = false\n[[listener]]\naddress = "unix:run/mx"'
    with GatepostInstance(tmp_path, toml) as gatepost:
        with Wire(str(gatepost.home.path / "run" / "mx")) as wire:
            wire.hello()
            assert rcpt(wire, f"ann@{DOMAIN}").startswith("250")
        with socket.create_connection(("::1", port), timeout=10) as connection:
            assert connection.recv(100).startswith(b"220 ")
