"""The kit's Postfix starts, takes mail, sends it on or keeps it, and leaves nothing behind."""

from __future__ import annotations

import mailbox
import smtplib
import subprocess

import pytest

from peers.postfix import PostfixInstance, processes_of_group, refuses_connections
from peers.programs import require
from peers.sink import SmtpSink, wait_until

pytestmark = pytest.mark.peer

MESSAGE = b"From: a@example.test\r\nSubject: kit\r\n\r\n.dot\r\nhello\r\n"


def send(postfix: PostfixInstance, recipient: str) -> None:
    with smtplib.SMTP("127.0.0.1", postfix.port, "client.test", timeout=10) as client:
        client.sendmail("a@example.test", [recipient], MESSAGE)


def test_it_relays_to_the_sink_and_leaves_no_process_port_or_file() -> None:
    with SmtpSink() as sink, PostfixInstance(relayhost=sink.relayhost) as postfix:
        group, folder = postfix.pid, postfix.folder
        send(postfix, "b@other.test")
        (message,) = sink.wait()
        assert (message.sender, message.recipients) == ("a@example.test", ("b@other.test",))
        assert message.content.endswith(b"\r\n\r\n.dot\r\nhello\r\n")
        assert message.helo == "postfix.test"
        wait_until(lambda: "removed" in postfix.log())
        assert "status=sent (250 2.0.0 Ok: taken)" in postfix.log()
        assert "queue is empty" in postfix.run("postqueue", "-p")
        assert len(processes_of_group(group)) > 3
    assert processes_of_group(group) == []
    assert refuses_connections(postfix.port)
    assert not folder.exists()


def test_it_keeps_mail_for_its_mailboxes_and_refuses_strangers() -> None:
    with PostfixInstance(mailboxes=("kay@keep.test",)) as postfix:
        send(postfix, "kay@keep.test")
        wait_until(lambda: "status=sent" in postfix.log())
        kept = list(mailbox.Maildir(postfix.maildir("kay@keep.test"), create=False))
        assert [message["Subject"] for message in kept] == ["kit"]
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(postfix, "nobody@keep.test")


def test_two_run_side_by_side_with_settings_and_services_of_their_own() -> None:
    with SmtpSink() as sink, PostfixInstance(relayhost=sink.relayhost) as second:
        size = {"message_size_limit": "2000000"}
        with PostfixInstance(size, relayhost=second.relayhost, services={"flush unix": "n - n - 0 discard"}) as first:
            assert "message_size_limit = 2000000" in first.run("postconf", "message_size_limit")
            send(first, "b@other.test")
            (message,) = sink.wait()
        assert message.content.count(b"Received:") == 2


def test_postfix_own_tools_speak_to_it() -> None:
    with PostfixInstance(mailboxes=("kay@keep.test",)) as postfix:
        swaks = require("swaks")
        done = subprocess.run(
            [swaks, "--server", f"127.0.0.1:{postfix.port}", "--from", "a@example.test", "--to", "kay@keep.test"],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stdout
        wait_until(lambda: postfix.log().count("status=sent") == 1)


def test_one_that_cannot_start_says_why_and_is_cleared_away() -> None:
    postfix = PostfixInstance(services={"flush unix": "n - n"})
    with pytest.raises(AssertionError, match=r"Postfix did not start:\n(.*\n)*.*bad field count"), postfix:
        pass
    assert not postfix.folder.exists()
