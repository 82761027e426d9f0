"""What no client should send, sent over real sockets: a clear reply or a clean end, flat memory, others unharmed.

Beside every test somebody else's session is open, which was in the middle of a message before and ends it afterwards.
"""

from __future__ import annotations

import base64
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from peers.gatepost import GatepostInstance, with_forwards
from peers.ports import free_port
from peers.sink import wait_until
from peers.wire import Wire

MIB = 1024 * 1024
SLOW = free_port()
GROWTH = 20 * MIB  # bytes a worker's memory may grow in a test, and keep

ENVELOPE = b"MAIL FROM:<x@far.test>\r\nRCPT TO:<ann@here.test>\r\n"


@pytest.fixture(scope="module")
def gatepost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatepostInstance]:
    # Errors cost no time here, or the tests would take it.
    mx = f"""
        error_sleep_time = 0
        [[listener]]
        role = "mx"
        address = "127.0.0.1:{SLOW}"
        reverse_lookup = false
        command_time_limit = 1
        data_time_limit = 1
        session_time_limit = 10
    """
    people = with_forwards({"@catch.test": ("ben@here.test",)})
    people = type(people)((*people.domains, "catch.test"), people.accounts, people.forwards)
    with GatepostInstance(
        tmp_path_factory.mktemp("gatepost"), people=people, listeners={"mx": mx, "submission": "error_sleep_time = 0"}
    ) as instance:
        yield instance


@pytest.fixture(autouse=True)
def bystander(gatepost: GatepostInstance, request: pytest.FixtureRequest) -> Iterator[Wire]:
    """Somebody else's session, and what must hold for the server when the test is over."""
    name = request.node.name
    before = gatepost.memory()
    pids = [worker["pid"] for worker in gatepost.status()]
    with Wire(gatepost.address("mx")) as other:
        other.hello()
        other.envelope("y@far.test", ["ann@here.test"])
        assert other.ask("DATA").startswith("354")
        other.send(f"Subject: beside {name}\r\n\r\nhalf ".encode())
        yield other
        other.send(b"and half\r\n.\r\n")
        assert other.reply().startswith("250 2.0.0 Ok: queued")
    gatepost.wait_for_mail("ann@here.test", f"beside {name}")
    assert [worker["pid"] for worker in gatepost.status()] == pids, "a worker died"
    log = gatepost.log() + gatepost.output.read_text()
    assert "Traceback" not in log and "Internal error" not in log, log[-3000:]
    grown = gatepost.memory() - before
    print(f"{name}: memory grew by {grown / MIB:.1f} MiB")
    assert grown < GROWTH


def wire(gatepost: GatepostInstance, timeout: float = 20.0) -> Wire:
    return Wire(gatepost.address("mx"), timeout=timeout)


def pour(connection: Wire, pieces: Iterator[bytes]) -> threading.Thread:
    """Send from a thread, until the server has enough of it."""

    def send() -> None:
        try:
            for piece in pieces:
                connection.send(piece)
        except OSError:
            pass

    thread = threading.Thread(target=send)
    thread.start()
    return thread


# -- lines --


def test_garbage(gatepost: GatepostInstance) -> None:
    source = random.Random(7)
    verbs = [
        b"EHLO ",
        b"MAIL FROM:",
        b"RCPT TO:",
        b"DATA",
        b"BDAT ",
        b"AUTH ",
        b"\r\n",
        b"\n",
        b"\0",
        b"<",
        b">",
        b"RSET\r\n",
    ]
    for _ in range(60):
        if source.random() < 0.5:
            data = source.randbytes(source.randrange(1, 5000))
        else:
            data = b"".join(source.choice([*verbs, source.randbytes(3)]) for _ in range(source.randrange(1, 200)))
        with wire(gatepost) as client:
            try:
                client.send(data)
                client.socket.shutdown(socket.SHUT_WR)
                said = client.rest()
            except OSError:
                continue  # it had enough of it: closed, while we still spoke
            assert b"\r\n354" not in said or b"\r\n250 2.1.5" in said
            for line in said.split(b"\r\n"):
                assert not line or line[:3].isdigit(), line


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"\0\0\0\0\r\n", "500 5.5.2"),
        (b"\r\n", "500 5.5.2"),
        (b"\xff\xfe\xfd\r\n", "500 5.5.2"),
        ("GRÜẞE\r\n".encode(), "500 5.5.2"),
        (b"MAIL FROM:<a\0b@far.test>\r\n", "501 5.1.7"),
        (b"MAIL FROM:<a b@far.test>\r\n", "501 5.5.4"),
        (b"MAIL FROM:<\xc3\xbc@far.test>\r\n", "553 5.6.7"),
        (b"MAIL FROM:<x@far.test> SIZE=9999999999999999999999\r\n", "5"),
        (b"MAIL FROM:<x@far.test> SIZE=-1\r\n", "501 5.5.4"),
        (b"MAIL FROM:<x@far.test> WHAT=1\r\n", "555 5.5.4"),
        (b"MAIL FROM:<" + b"a" * 2000 + b"@far.test>\r\n", "501 5.1.7"),
        (b"BDAT -1\r\n", "503 5.5.1"),
        (b"BDAT 99999999999999999999999999\r\n", "503 5.5.1"),
        (b"EHLO \0\r\n", "501 5.5.4"),
        (b"RCPT TO:<ann@here.test>\r\n", "503 5.5.1"),
        (b"DATA now\r\n", "503 5.5.1"),
        (b"x" * MIB + b"\r\n", "500 5.5.2"),
        (b"NOOP " + b"x" * MIB + b"\r\n", "500 5.5.2"),
        (b"\0" * MIB + b"\r\n", "500 5.5.2"),
    ],
    ids=lambda value: None if isinstance(value, str) else value[:24].decode("ascii", "backslashreplace"),
)
def test_a_bad_line_gets_a_reply_and_the_next_is_heard(gatepost: GatepostInstance, line: bytes, reply: str) -> None:
    with wire(gatepost) as client:
        client.hello()
        client.send(line)
        assert (said := client.reply()).startswith(reply), said
        assert client.ask("NOOP").startswith("250")
        client.envelope("x@far.test", ["ann@here.test"])


def test_half_lines_are_waited_for(gatepost: GatepostInstance) -> None:
    with wire(gatepost) as client:
        for byte in b"EHLO client.test\r":
            client.send(bytes([byte]))
            time.sleep(0.001)
        client.send(b"\n")
        assert client.reply().startswith("250")
        client.send(b"MAIL FROM:<x@f")
    with wire(gatepost) as client:
        client.hello()
        client.send(b"QUI")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.rest() == b""


@pytest.mark.parametrize("command", [b"NOOP\n", b"NO\rOP\r\n", b"MAIL FROM:<x@far.test>\nRCPT TO:<ann@here.test>\r\n"])
def test_bare_line_ends_in_commands_end_the_session(gatepost: GatepostInstance, command: bytes) -> None:
    with wire(gatepost) as client:
        client.hello()
        client.send(command)
        assert client.reply().startswith("500 5.5.2")
        assert client.reply() == ""


# -- messages --


@pytest.mark.parametrize(
    "smuggled",
    [
        b"\n.\n",
        b"\r\n.\n",
        b"\n.\r\n",
        b"\r.\r",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
        b"\r\r\n.\r\r\n",
    ],
)
def test_nothing_but_crlf_dot_crlf_ends_a_message(gatepost: GatepostInstance, smuggled: bytes) -> None:
    with wire(gatepost) as client:
        client.hello()
        client.envelope("x@far.test", ["ben@here.test"])
        assert client.ask("DATA").startswith("354")
        inner = b"MAIL FROM:<evil@far.test>\r\nRCPT TO:<ben@here.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"
        client.send(b"Subject: outer\r\n\r\ntext" + smuggled + inner + b".\r\nQUIT\r\n")
        end = client.reply()
        assert end.startswith("250" if b"\0" in smuggled else "550 5.6.11" if "5.6.11" in end else "5"), end
        assert client.reply().startswith("221")
        assert client.reply() == ""
    gatepost.wait_until_empty()
    assert not [mail for mail in gatepost.maildir("ben@here.test") if mail["Subject"] == "smuggled"]


@pytest.mark.parametrize(
    ("content", "reply"),
    [
        (b"x" * MIB, "5"),  # one line of a header
        (b"\r\n" + b"x" * MIB, "5"),
        (b"\r\n" + b"\xff\0\x80" * 80_000, "250"),
        (b"X: " + b"y" * 600 * 1024, "5"),
        (b"X: y\r\n" * 200_000, "552 5.3.4"),
        (b"Received: from a by b\r\n" * 51, "554 5.4.6"),
        (b" starts with a blank\r\n\r\n", "250"),
        (b"", "250"),
    ],
    ids=["line in header", "line in body", "8-bit", "folded header", "large header", "hops", "blank", "empty"],
)
def test_odd_messages(gatepost: GatepostInstance, content: bytes, reply: str) -> None:
    with wire(gatepost) as client:
        client.hello()
        client.envelope("x@far.test", ["ben@here.test"])
        assert client.ask("DATA").startswith("354")
        client.send(content + (b"" if not content or content.endswith(b"\r\n") else b"\r\n") + b".\r\n")
        assert (said := client.reply()).startswith(reply), said
        assert client.ask("NOOP").startswith("250")
    gatepost.wait_until_empty()


@pytest.mark.parametrize(
    "before", [b"", ENVELOPE + b"DATA\r\n", ENVELOPE + b"DATA\r\n\r\n", ENVELOPE + b"BDAT 104857600 LAST\r\n"]
)
def test_a_hundred_megabytes_without_a_line_end(gatepost: GatepostInstance, before: bytes) -> None:
    began = time.monotonic()
    memory = gatepost.memory("VmHWM")
    with wire(gatepost, 60) as client:
        client.hello()
        for command in before.splitlines(keepends=True):
            client.send(command)
            if command.strip() and not command.startswith(b"BDAT"):
                assert client.reply()[0] in "23"
        block = b"x" * MIB
        for _ in range(100):
            client.send(block)
        client.send(b"" if b"BDAT" in before else b"\r\n.\r\n")
        said = client.reply()
        assert said.startswith("500 5.5.2" if not before else "5"), said
        if not before:
            assert client.reply().startswith("500 5.5.2")  # the dot
        assert client.ask("NOOP").startswith("250")
    peak = gatepost.memory("VmHWM") - memory
    print(f"100 MB without CRLF: {time.monotonic() - began:.1f} s, peak grew by {peak / MIB:.1f} MiB")
    assert peak < GROWTH


def test_a_flood_of_recipients(gatepost: GatepostInstance, request: pytest.FixtureRequest) -> None:
    count = request.config.getoption("--recipients")
    with wire(gatepost, 60) as client:
        client.hello()
        client.envelope("x@far.test", ["ann@here.test"])
        numbers = range(0, count, 1000)
        thread = pour(
            client, (b"".join(b"RCPT TO:<r%d@catch.test>\r\n" % (at + n) for n in range(1000)) for at in numbers)
        )
        replies = [reply for reply in client.rest().decode().split("\r\n") if reply]
        thread.join(60)
    accepted, refused = (sum(reply.startswith(code) for reply in replies) for code in ("250 2.1.5", "452 4.5.3"))
    print(f"{count} recipients: {accepted} taken, {refused} refused, then {replies[-1]!r}")
    assert accepted == 999 and 0 < refused <= 1100
    assert set(replies[accepted + refused :]) <= {"421 4.7.0 mail.here.test Error: too many errors"}


def test_a_thousand_recipients_are_no_trouble(gatepost: GatepostInstance) -> None:
    with wire(gatepost, 60) as client:
        client.hello()
        client.envelope("x@far.test", [])
        client.send(b"".join(b"RCPT TO:<r%d@catch.test>\r\n" % number for number in range(1000)))
        assert {reply[:9] for reply in client.replies(1000)} == {"250 2.1.5"}
        assert client.ask("RCPT TO:<one@catch.test>").startswith("452 4.5.3")
        assert client.ask("DATA").startswith("354")
        client.send(b"Subject: thousandfold\r\n\r\nx\r\n.\r\n")
        assert client.reply().startswith("250")
    assert len(gatepost.wait_for_mail("ben@here.test", "thousandfold")) == 1  # one address in the end, one copy


# -- out of step --


@pytest.mark.parametrize("group", [b"EHLO a\r\nNOOP\r\n", ENVELOPE + b"DATA\r\nSubject: early\r\n\r\nx\r\n.\r\n"])
def test_who_does_not_wait_where_one_must_is_cut_off(gatepost: GatepostInstance, group: bytes) -> None:
    with wire(gatepost) as client:
        if not group.startswith(b"EHLO"):
            client.hello()
        client.send(group)
        said = client.rest().decode().split("\r\n")
        assert said[-2].startswith("554 5.5.0 ") and "354" not in [line[:3] for line in said]
    gatepost.wait_until_empty()
    assert not [mail for mail in gatepost.maildir("ann@here.test") if mail["Subject"] == "early"]


def test_talking_before_the_greeting(gatepost: GatepostInstance) -> None:
    for _ in range(5):
        with socket.create_connection(gatepost.address("mx"), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: mail.here.test\r\n\r\n")
            said = client.recv(65536)
            assert said[:3] in (b"554", b"220")
            while piece := client.recv(65536):
                said += piece
            assert said.splitlines()[-1][:3] in (b"554", b"221"), said


@pytest.mark.parametrize(
    "lines",
    [
        [b"AUTH PLAIN ====", b""],
        [b"AUTH PLAIN !!!!", b""],
        [b"AUTH PLAIN AGFub", b""],
        [b"AUTH PLAIN " + base64.b64encode(b"no NULs"), b""],
        [b"AUTH PLAIN " + base64.b64encode(b"\0\xff\0\xff"), b""],
        [b"AUTH PLAIN", b"\xff\xff"],
        [b"AUTH LOGIN", b"*"],
        [b"AUTH LOGIN", b"="],
        [b"AUTH LOGIN", b"\0"],
        [b"AUTH LOGIN", b"x" * 12_000],
        [b"AUTH LOGIN", b"x" * MIB],
        [b"AUTH CRAM-MD5", b""],
        [b"AUTH", b""],
    ],
    ids=range(13),
)
def test_bad_logins(gatepost: GatepostInstance, lines: list[bytes]) -> None:
    with Wire(gatepost.address("submission")) as client:
        client.hello()
        client.ask("STARTTLS")
        client.start_tls(gatepost.tls())
        client.hello()
        said = ""
        for line in filter(None, lines):
            client.send(line + b"\r\n")
            said = client.reply()
        assert said[:3] in ("500", "501", "504", "535"), said
        assert client.ask("NOOP").startswith("250")
        good = base64.b64encode(b"\0ann@here.test\0ann-secret").decode()
        assert client.ask(f"AUTH PLAIN {good}").startswith("235")


def test_too_many_errors_end_a_session(gatepost: GatepostInstance) -> None:
    with wire(gatepost) as client:
        client.hello()
        client.send(b"WHAT\r\n" * 100)
        said = client.rest().decode().splitlines()
    assert [line[:3] for line in said] == ["500"] * 20 + ["421"]


# -- time --


@pytest.mark.parametrize(
    "before", [b"", b"EHLO c\r\n", b"EHLO c\r\n" + ENVELOPE, b"EHLO c\r\n" + ENVELOPE + b"DATA\r\n"]
)
def test_who_says_nothing_is_hung_up_on(gatepost: GatepostInstance, before: bytes) -> None:
    with Wire(("127.0.0.1", SLOW)) as client:
        for command in before.splitlines(keepends=True):
            client.send(command)
            client.reply()
        began = time.monotonic()
        assert client.reply().startswith("421 4.4.2 ")
        assert client.reply() == ""
        assert 0.5 < time.monotonic() - began < 5


def test_who_sends_a_command_byte_by_byte_is_hung_up_on(gatepost: GatepostInstance) -> None:
    """A byte now and then must not keep a session alive (slowloris)."""
    with Wire(("127.0.0.1", SLOW), timeout=0.2) as client:
        began = time.monotonic()
        said = ""
        while not said:
            assert time.monotonic() - began < 6, "still connected"
            client.send(b"N")
            try:
                said = client.reply()
            except TimeoutError:
                pass
        assert said.startswith("421 4.4.2 ")


def test_who_drips_a_message_lasts_no_longer_than_a_session(gatepost: GatepostInstance) -> None:
    with Wire(("127.0.0.1", SLOW), timeout=0.5) as client:
        client.hello()
        client.envelope("x@far.test", ["ben@here.test"])
        client.ask("DATA")
        began = time.monotonic()
        said = ""
        while not said:
            assert time.monotonic() - began < 14, "still connected"
            client.send(b"x")
            try:
                said = client.reply()
            except TimeoutError:
                pass
        assert said.startswith("421 4.4.2 ")


def test_who_never_reads_is_not_read_either(gatepost: GatepostInstance) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(3)
        client.connect(("127.0.0.1", SLOW))
        client.recv(1000)
        client.sendall(b"EHLO client.test\r\n")
        client.recv(1000)
        client.sendall(ENVELOPE)
        sent = 0
        with pytest.raises(OSError):  # first nothing more can be sent, then the connection is gone
            while sent < 64 * MIB:
                sent += client.send(b"BDAT 1\r\nx" * 10_000)
        print(f"a client that does not read could send {sent / 1024:.0f} KiB")
        assert sent < 16 * MIB
        wait_until(lambda: gatepost.status()[0]["sessions"] == 1, 10)
