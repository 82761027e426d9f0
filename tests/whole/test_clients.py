"""Real clients send through a real server: what lands where, and who is refused with what."""

from __future__ import annotations

import base64
import email.policy
import re
import smtplib
import subprocess
import uuid
from collections.abc import Iterator
from email.message import EmailMessage, Message
from pathlib import Path

import pytest

from peers.gatepost import GatepostInstance, People
from peers.programs import require
from peers.sink import SmtpSink, TakenMessage
from peers.wire import Wire

BIG = 20 * 1024 * 1024
MIB = 1024 * 1024

PEOPLE = People(
    domains=("here.test", "catch.test", "xn--mnchen-3ya.test"),
    accounts={
        "ann@here.test": "ann-secret",
        "ben@here.test": 'ben "secret" \\ with % and ü',
        "kim@here.test": "kim-secret",
        "jürgen@here.test": "jürgen-secret",
    },
    forwards={
        "hello@here.test": ("ann@here.test",),
        "out@here.test": ("someone@far.test",),
        "team@here.test": ("ann@here.test", "hello@here.test", "ben@here.test", "someone@far.test"),
        "kim@here.test": ("kim@far.test",),
        "@catch.test": ("ben@here.test",),
        "exact@catch.test": ("ann@here.test",),
        "@münchen.test": ("ben@here.test",),
    },
    keeping=("kim@here.test",),
)


@pytest.fixture(scope="module")
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as sink:
        yield sink


@pytest.fixture(scope="module")
def gatepost(tmp_path_factory: pytest.TempPathFactory, sink: SmtpSink) -> Iterator[GatepostInstance]:
    folder = tmp_path_factory.mktemp("gatepost")
    toml = f"""
        [[listener]]
        role = "lmtp"
        address = "unix:run/lmtp"

        [delivery]
        relayhost = "{sink.relayhost}"
    """
    with GatepostInstance(folder, toml, people=PEOPLE, workers=2) as instance:
        yield instance


@pytest.fixture
def subject() -> str:
    """One that no other message has."""
    return f"test {uuid.uuid4().hex}"


def message(subject: str, text: str = "It works.\r\n") -> bytes:
    return f"From: <x@far.test>\r\nSubject: {subject}\r\n\r\n{text}".encode()


def text_of(mail: Message) -> str:
    text = mail.get_payload()
    assert isinstance(text, str)
    return text.replace("\r\n", "\n")


def taken(sink: SmtpSink, subject: str, gatepost: GatepostInstance) -> list[TakenMessage]:
    """What the sink has of this subject, once the queue is empty."""
    gatepost.wait_until_empty()
    return [one for one in sink.messages if f"Subject: {subject}\r\n".encode() in one.content]


def is_in(gatepost: GatepostInstance, address: str, subject: str) -> bool:
    return any(one["Subject"] == subject for one in gatepost.maildir(address))


# -- what lands where --


def test_mail_from_anybody_lands_in_the_maildir_with_its_trace(gatepost: GatepostInstance, subject: str) -> None:
    with gatepost.smtp("mx") as client:
        assert client.sendmail("x@far.test", ["ann@here.test"], message(subject, "one\r\n..two\r\n.\r\n")) == {}
    (mail,) = gatepost.wait_for_mail("ann@here.test", subject)
    assert mail["Return-Path"] == "<x@far.test>"
    assert mail["Delivered-To"] == "ann@here.test"
    received = str(mail["Received"])
    assert received.startswith("from client.test (unknown [127.0.0.1])")
    assert "by mail.here.test" in received and "with ESMTP id" in received and "for <ann@here.test>" in received
    assert text_of(mail) == "one\n..two\n.\n"


@pytest.mark.parametrize(
    ("recipient", "lands"),
    [
        ("hello@here.test", ["ann@here.test"]),
        ("HELLO@Here.Test", ["ann@here.test"]),
        ("team@here.test", ["ann@here.test", "ben@here.test"]),
        ("kim@here.test", ["kim@here.test"]),
        ("ann+news@here.test", ["ann@here.test"]),
        ("hello+a+b@here.test", ["ann@here.test"]),
        ("whoever@catch.test", ["ben@here.test"]),
        ("exact@catch.test", ["ann@here.test"]),
        ("wer@xn--mnchen-3ya.test", ["ben@here.test"]),
        ('"ann"@here.test', ["ann@here.test"]),
    ],
)
def test_recipients_and_where_they_lead(
    gatepost: GatepostInstance, subject: str, recipient: str, lands: list[str]
) -> None:
    with gatepost.smtp("mx") as client:
        client.sendmail("x@far.test", [recipient], message(subject))
    gatepost.wait_until_empty()
    for address in ("ann@here.test", "ben@here.test", "kim@here.test"):
        copies = [one for one in gatepost.maildir(address) if one["Subject"] == subject]
        assert len(copies) == lands.count(address), address


@pytest.mark.parametrize(
    ("recipient", "leaves_for"),
    [
        ("out@here.test", "someone@far.test"),
        ("kim@here.test", "kim@far.test"),
        ("out+t@here.test", "someone+t@far.test"),
    ],
)
def test_forwards_that_leave_go_to_the_next_hop(
    gatepost: GatepostInstance, sink: SmtpSink, subject: str, recipient: str, leaves_for: str
) -> None:
    with gatepost.smtp("mx") as client:
        client.sendmail("x@far.test", [recipient], message(subject))
    (left,) = taken(sink, subject, gatepost)
    assert left.recipients == (leaves_for,)
    assert left.sender == "x@far.test"
    assert left.content.endswith(b"\r\n\r\nIt works.\r\n")


def test_postmaster_without_a_domain_is_somebody(gatepost: GatepostInstance) -> None:
    with Wire(gatepost.address("mx")) as wire:
        wire.hello()
        wire.ask("MAIL FROM:<>")
        # RFC 5321 §4.5.1. Nobody is postmaster here yet; it is known where it leads, and that nobody is there.
        assert wire.ask("RCPT TO:<postmaster>").startswith("550 5.1.1 <postmaster")
    with gatepost.edits() as edits:
        edits.add_forward("postmaster@here.test", ["ann@here.test"])
    try:
        with Wire(gatepost.address("mx")) as wire:
            wire.hello()
            assert wire.ask("MAIL FROM:<>", "RCPT TO:<postmaster>").startswith("250 2.1.5")
    finally:
        with gatepost.edits() as edits:
            edits.remove_forward("postmaster@here.test")


# -- who is refused --


def refusal(gatepost: GatepostInstance, sender: str, recipient: str, role: str = "mx", login: str = "") -> str:
    with gatepost.smtp(role, login) as client, pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        client.sendmail(sender, [recipient], message("never"))
    code, text = refused.value.recipients[recipient]
    return f"{code} {text.decode()}"


def test_strangers_may_not_relay(gatepost: GatepostInstance) -> None:
    far = ("z@far.test", "z@[127.0.0.1]", "a%here.test@far.test", '"z@far.test"@far.test', "ann@sub.here.test")
    with Wire(gatepost.address("mx")) as wire:
        wire.hello()
        wire.ask("MAIL FROM:<ann@here.test>")
        for recipient in (*far, "@here.test:z@far.test"):  # RFC 5321 appendix C: a source route is dropped
            wanted = recipient.rpartition(":")[2]
            assert wire.ask(f"RCPT TO:<{recipient}>") == f"554 5.7.1 <{wanted}>: Relay access denied"


def test_unknown_users_are_refused_at_rcpt(gatepost: GatepostInstance) -> None:
    for recipient in ("nobody@here.test", "nobody+ann@here.test", "annx@here.test"):
        assert refusal(gatepost, "x@far.test", recipient).startswith(f"550 5.1.1 <{recipient}>: ")


def test_a_login_opens_the_relay_and_only_for_ones_own_senders(
    gatepost: GatepostInstance, sink: SmtpSink, subject: str
) -> None:
    for role in ("submission", "submissions"):
        with gatepost.smtp(role, "ann@here.test") as client:
            assert client.sendmail("ann@here.test", ["z@far.test"], message(subject)) == {}
        answer = refusal(gatepost, "ben@here.test", "z@far.test", role, "ann@here.test")
        assert answer.startswith("553 5.7.1 <ben@here.test>: ") and "not owned by" in answer
        # What is forwarded to her, and to her alone, is hers too.
        with gatepost.smtp(role, "ann@here.test") as client:
            client.sendmail("hello@here.test", ["z@far.test"], message("as hello"))
    assert [one.sender for one in taken(sink, subject, gatepost)] == ["ann@here.test"] * 2


def test_a_wrong_password_is_told_as_such_and_nothing_more(gatepost: GatepostInstance) -> None:
    answers = set()
    for login, password in (("ann@here.test", "wrong"), ("nobody@here.test", "ann-secret"), ("hello@here.test", "x")):
        with gatepost.smtp("submission") as client, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            client.login(login, password)
        answers.add((refused.value.smtp_code, refused.value.smtp_error))
    assert answers == {(535, b"5.7.8 Error: authentication failed")}


def test_no_password_before_tls(gatepost: GatepostInstance) -> None:
    initial = base64.b64encode(b"\0ann@here.test\0ann-secret").decode()
    for role in ("mx", "submission"):
        with Wire(gatepost.address(role)) as wire:
            assert not [line for line in wire.hello() if line.startswith("AUTH")]
            assert wire.ask(f"AUTH PLAIN {initial}")[:3] in ("503", "530", "538")
    with Wire(gatepost.address("submission")) as wire:
        assert wire.ask("EHLO client.test", "MAIL FROM:<ann@here.test>").startswith("530 5.7.0 Must issue a STARTTLS")
        assert wire.ask("STARTTLS").startswith("220")
        wire.start_tls(gatepost.tls())
        assert "AUTH PLAIN LOGIN" in wire.hello()
        assert wire.ask("MAIL FROM:<ann@here.test>").startswith("530 5.7.0 Authentication required")
        assert wire.ask("AUTH LOGIN", "*").startswith("501 5.7.0")
        assert wire.ask("AUTH LOGIN") == "334 VXNlcm5hbWU6"
        assert wire.ask(base64.b64encode(b"ann@here.test").decode()) == "334 UGFzc3dvcmQ6"
        assert wire.ask(base64.b64encode(b"ann-secret").decode()).startswith("235 2.7.0")
        assert wire.ask("MAIL FROM:<ann@here.test>").startswith("250")


# -- programs --


@pytest.mark.peer
@pytest.mark.parametrize("login", ["ann@here.test", "ben@here.test"])
@pytest.mark.parametrize(
    ("role", "options"),
    [
        ("submission", ["--tls", "--auth", "PLAIN"]),
        ("submission", ["--tls", "--auth", "LOGIN"]),
        ("submissions", ["--tls-on-connect", "--auth", "LOGIN"]),
    ],
)
def test_swaks(gatepost: GatepostInstance, subject: str, role: str, options: list[str], login: str) -> None:
    swaks = [require("swaks"), "--server", "localhost", "--port", str(gatepost.ports[role]), "--helo", "client.test"]
    credentials = ["--auth-user", login, "--auth-password", PEOPLE.accounts[login]]
    envelope = ["--from", login, "--to", "hello@here.test", "--header", f"Subject: {subject}"]
    verify = ["--tls-verify", "--tls-ca-path", str(gatepost.ca)]
    done = subprocess.run([*swaks, *options, *credentials, *envelope, *verify], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    (mail,) = gatepost.wait_for_mail("ann@here.test", subject)
    assert "with ESMTPSA" in str(mail["Received"])


@pytest.mark.peer
def test_swaks_to_mx_and_to_lmtp(gatepost: GatepostInstance, subject: str) -> None:
    swaks = [require("swaks"), "--from", "x@far.test", "--to", "ann@here.test", "--header", f"Subject: {subject}"]
    mx = ["--server", f"127.0.0.1:{gatepost.ports['mx']}"]
    for options in (mx, [*mx, "--tls"], ["--protocol", "LMTP", "--socket", str(gatepost.home.path / "run" / "lmtp")]):
        done = subprocess.run([*swaks, *options, "--helo", "client.test"], capture_output=True, timeout=60)
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    mail = gatepost.wait_for_mail("ann@here.test", subject, 3)
    protocols = [re.findall(r"with (\w+) id", str(one["Received"])) for one in mail]
    assert sorted(protocols) == [["ESMTP"], ["ESMTPS"], ["LMTP"]]
    denied = subprocess.run([*swaks[:3], "--to", "z@far.test", *mx], capture_output=True, timeout=60, text=True)
    assert denied.returncode == 24 and "554 5.7.1 <z@far.test>: Relay access denied" in denied.stdout


@pytest.mark.peer
@pytest.mark.parametrize(("role", "scheme"), [("mx", "smtp"), ("submission", "smtp"), ("submissions", "smtps")])
def test_curl(gatepost: GatepostInstance, tmp_path: Path, subject: str, role: str, scheme: str) -> None:
    file = tmp_path / "message"
    file.write_bytes(message(subject))
    command = [require("curl"), "--silent", "--show-error", "--upload-file", str(file)]
    command += ["--url", f"{scheme}://localhost:{gatepost.ports[role]}/client.test", "--cacert", str(gatepost.ca)]
    command += ["--mail-from", "ann@here.test", "--mail-rcpt", "hello@here.test"]
    command += ["--ssl-reqd", "--user", "ann@here.test:ann-secret"] if role != "mx" else []
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    gatepost.wait_for_mail("ann@here.test", subject)


@pytest.mark.peer
@pytest.mark.parametrize("role", ["submission", "submissions"])
def test_openssl_s_client(gatepost: GatepostInstance, tmp_path: Path, subject: str, role: str) -> None:
    initial = base64.b64encode(b"\0ann@here.test\0ann-secret").decode()
    command = [require("openssl"), "s_client", "-connect", f"localhost:{gatepost.ports[role]}", "-quiet", "-crlf"]
    command += ["-CAfile", str(gatepost.ca), "-verify_return_error", "-verify_hostname", "localhost"]
    command += ["-starttls", "smtp"] if role == "submission" else []
    # With -quiet, neither Q nor R are openssl's own words.
    # What it prints besides goes to a file, so that no pipe fills up.
    with (
        (tmp_path / "stderr").open("wb") as said,
        subprocess.Popen(
            ["timeout", "60", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
        ) as client,
    ):
        assert client.stdin is not None and client.stdout is not None

        def ask(line: str) -> bytes:
            assert client.stdin is not None and client.stdout is not None
            client.stdin.write(f"{line}\n".encode())
            client.stdin.flush()
            while (answer := client.stdout.readline())[3:4] == b"-":
                pass
            return answer

        if role == "submissions":  # else openssl has read the greeting itself
            assert client.stdout.readline().startswith(b"220 ")
        assert ask("EHLO client.test").startswith(b"250 ")
        assert ask(f"AUTH PLAIN {initial}").startswith(b"235 ")
        assert ask("MAIL FROM:<ann@here.test>").startswith(b"250 ")
        assert ask("RCPT TO:<hello@here.test>").startswith(b"250 ")
        assert ask("DATA").startswith(b"354 ")
        assert ask(f"Subject: {subject}\n\nby openssl\n.").startswith(b"250 2.0.0 Ok: queued as ")
        assert ask("QUIT").startswith(b"221 ")
        client.stdin.close()
        assert client.wait(20) == 0
    (mail,) = gatepost.wait_for_mail("ann@here.test", subject)
    assert "by openssl" in str(mail.get_payload())


def test_gatepost_send(gatepost: GatepostInstance, tmp_path: Path, subject: str) -> None:
    password = tmp_path / "password"
    password.write_text("ann-secret\n")
    for role in ("submission", "submissions"):
        gatepost.run(
            *("send", "--via", role, "--server", f"localhost:{gatepost.ports[role]}", "--user", "ann@here.test"),
            *("--password-file", str(password), "--from", "ann@here.test", "--subject", subject, "hello@here.test"),
        )
    assert len(gatepost.wait_for_mail("ann@here.test", subject, 2)) == 2


# -- LMTP and the extensions --


@pytest.mark.parametrize("where", ["tcp", "unix"])
def test_lmtp_over_tcp_and_unix_sockets(gatepost: GatepostInstance, subject: str, where: str) -> None:
    if where == "tcp":
        client = smtplib.LMTP("127.0.0.1", gatepost.ports["lmtp"], local_hostname="client.test", timeout=30)
    else:
        client = smtplib.LMTP(str(gatepost.home.path / "run" / "lmtp"), local_hostname="client.test")
    with client:
        # smtplib reads one reply at the end, so one recipient may be good. More of them: in the next test.
        refused = client.sendmail("x@far.test", ["nobody@here.test", "ann@here.test", "z@far.test"], message(subject))
    assert {address: code for address, (code, _) in refused.items()} == {"nobody@here.test": 550, "z@far.test": 554}
    (mail,) = gatepost.wait_for_mail("ann@here.test", subject)
    assert "with LMTP" in str(mail["Received"])


def test_lmtp_gives_one_reply_per_recipient_on_the_wire(gatepost: GatepostInstance, subject: str) -> None:
    with Wire(str(gatepost.home.path / "run" / "lmtp")) as wire:
        assert " LMTP " in wire.greeting
        assert wire.ask("EHLO client.test").startswith("500 5.5.1")
        wire.hello("LHLO")
        wire.envelope("x@far.test", ["ann@here.test", "ben@here.test", "kim@here.test"])
        assert wire.ask("DATA").startswith("354")
        wire.send(message(subject) + b".\r\nQUIT\r\n")
        assert [answer[:10] for answer in wire.replies(4)] == ["250 2.0.0 "] * 3 + ["221 2.0.0 "]
        assert wire.reply() == ""


def test_lmtp_is_no_open_relay(gatepost: GatepostInstance) -> None:
    with Wire(str(gatepost.home.path / "run" / "lmtp")) as wire:
        wire.hello("LHLO")
        assert wire.ask("MAIL FROM:<x@far.test>", "RCPT TO:<z@far.test>").startswith("554 5.7.1")


def test_smtputf8(gatepost: GatepostInstance, sink: SmtpSink, subject: str) -> None:
    mail = EmailMessage(email.policy.SMTPUTF8)
    mail["From"], mail["Subject"], mail["X-Grüße"[:3]] = "jörg@far.test", subject, "ü"
    mail.set_content("Grüße", cte="8bit")
    with gatepost.smtp("mx") as client:
        client.send_message(mail, "jörg@far.test", ["jürgen@here.test", "wer@münchen.test", "out+grüße@here.test"])
    (kept,) = gatepost.wait_for_mail("jürgen@here.test", subject)
    path = bytes(kept)
    assert "Return-Path: <jörg@far.test>".encode() in path and b"with UTF8SMTP" in path
    gatepost.wait_for_mail("ben@here.test", subject)
    (left,) = taken(sink, subject, gatepost)
    assert (left.sender, left.recipients) == ("jörg@far.test", ("someone+grüße@far.test",))
    assert "SMTPUTF8" in left.sender_parameters
    with Wire(gatepost.address("mx")) as wire:
        wire.hello()
        wire.ask("MAIL FROM:<x@far.test>")
        assert wire.ask("RCPT TO:<jürgen@here.test>").startswith("553 5.6.7")


def test_bdat_in_pieces_and_pipelined(gatepost: GatepostInstance, subject: str) -> None:
    content = message(subject, "a line\r\n.\r\nQUIT\r\n..\r\nlast")  # no dot ends it, nor need CRLF
    first, second = content[:30], content[30:]
    with Wire(gatepost.address("mx")) as wire:
        wire.hello()
        wire.send(
            b"MAIL FROM:<x@far.test> BODY=8BITMIME\r\nRCPT TO:<ann@here.test>\r\n"
            + b"BDAT %d\r\n%b" % (len(first), first)
            + b"BDAT %d LAST\r\n%b" % (len(second), second)
            + b"NOOP\r\n"
        )
        assert [answer[:4] for answer in wire.replies(5)] == ["250 "] * 5
        wire.envelope("x@far.test", ["ann@here.test"])
        assert wire.ask("BDAT 0 LAST").startswith("250 2.0.0 Ok: queued")
        wire.send(b"MAIL FROM:<x@far.test>\r\nBDAT 5\r\nQUIT\nNOOP\r\n")
        assert [answer[:9] for answer in wire.replies(3)] == [
            "250 2.1.0",
            "554 5.5.1",
            "250 2.0.0",
        ]  # no recipient, no QUIT
    (mail,) = gatepost.wait_for_mail("ann@here.test", subject)
    assert text_of(mail) == "a line\n.\nQUIT\n..\nlast\n"


def test_a_success_report_arrives(gatepost: GatepostInstance, subject: str) -> None:
    content = f"From: ann@here.test\r\nSubject: {subject}\r\n\r\nx\r\n".encode()
    with gatepost.smtp("submission", "ann@here.test") as client:
        client.sendmail(
            *("ann@here.test", ["ben@here.test"], content),
            mail_options=["RET=HDRS", "ENVID=my+2Bid"],
            rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;ben+2Bx@here.test"],
        )
    gatepost.wait_for_mail("ben@here.test", subject)
    reports = gatepost.wait_for_mail("ann@here.test", "Successful Mail Delivery Report", timeout=10)
    (report,) = [report for report in reports if subject in str(report)]
    # walk: the report, its text, the status with a part for the message and one for the recipient, the header
    _, _, status, _, _, headers = report.walk()
    assert report["Return-Path"] == "<>"
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"
    fields = str(status)
    assert "Action: delivered" in fields and "Status: 2.0.0" in fields
    assert "Original-Envelope-Id: my+id" in fields
    assert "Original-Recipient: rfc822;ben+x@here.test" in fields.replace("; ", ";")
    assert "Final-Recipient: rfc822;ben@here.test" in fields.replace("; ", ";")
    assert headers.get_content_type() == "text/rfc822-headers"


def test_a_message_of_20_mb_takes_little_memory(gatepost: GatepostInstance, sink: SmtpSink, subject: str) -> None:
    line = b"x" * 76 + b"\r\n"
    content = message(subject, "") + line * (BIG // len(line))
    before = gatepost.memory("VmHWM")
    with gatepost.smtp("submission", "ann@here.test", timeout=60) as client:
        client.sendmail("ann@here.test", ["ben@here.test", "z@far.test"], content)
    (left,) = taken(sink, subject, gatepost)
    (kept,) = gatepost.wait_for_mail("ben@here.test", subject)
    grown = gatepost.memory("VmHWM") - before
    assert left.content.endswith(content[-BIG:])
    assert bytes(kept).replace(b"\n", b"\r\n").endswith(content[-BIG:])
    print(f"20 MB in and out twice: workers' peak memory grew by {grown / MIB:.1f} MiB")
    assert grown < 16 * MIB


def test_a_message_over_the_limit_is_refused_early_and_late(gatepost: GatepostInstance) -> None:
    with Wire(gatepost.address("mx")) as wire:
        assert "SIZE 52428800" in wire.hello()
        assert wire.ask("MAIL FROM:<x@far.test> SIZE=52428801").startswith("552 5.3.4")
