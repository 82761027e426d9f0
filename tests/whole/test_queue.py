"""What waits in the queue of a running server: seen, held, released, tried again, deleted; warned of, returned, given up."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from peers.gatepost import GatepostInstance, with_forwards
from peers.ports import free_port
from peers.sink import SmtpSink, wait_until

FAR = free_port()  # where the next hop is, when it is there

IMPATIENT = """
    [queue]
    minimal_backoff_time = 1
    maximal_backoff_time = 1
    delay_warning_time = 1
    maximal_queue_lifetime = 3
    bounce_queue_lifetime = 2
"""


def message(subject: str) -> bytes:
    return f"From: <ann@here.test>\r\nSubject: {subject}\r\n\r\n{subject}\r\n".encode()


def send(gatepost: GatepostInstance, subject: str, *recipients: str, sender: str = "ann@here.test") -> None:
    with gatepost.smtp("submission", "ann@here.test") as client:
        assert client.sendmail(sender, recipients or ["z@far.test"], message(subject)) == {}


def listed(gatepost: GatepostInstance, *arguments: str) -> list[dict[str, Any]]:
    lines = gatepost.run("queue", "list", "--json", *arguments)
    found = json.loads(lines)
    return found if isinstance(found, list) else [found]


def states(gatepost: GatepostInstance) -> dict[str, list[str]]:
    """Recipient -> states."""
    found: dict[str, list[str]] = {}
    for one in listed(gatepost):
        for job in one["recipients"]:
            found.setdefault(job["address"], []).append(job["state"])
    return found


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatepostInstance]:
    """Usual times, two workers, and a next hop that is not there."""
    toml = f'[delivery]\nrelayhost = "[127.0.0.1]:{FAR}"\nconnection_cache_time = 0'
    people = with_forwards({"hello@here.test": ("ann@here.test",)})
    with GatepostInstance(tmp_path_factory.mktemp("patient"), toml, people=people, workers=2) as gatepost:
        yield gatepost


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatepostInstance]:
    """Warns after a second and gives up after three; the next hop is never there."""
    toml = f'{IMPATIENT}\n[delivery]\nrelayhost = "[127.0.0.1]:{free_port()}"'
    with GatepostInstance(tmp_path_factory.mktemp("impatient"), toml) as gatepost:
        yield gatepost


@pytest.fixture
def waiting(patient: GatepostInstance) -> Iterator[GatepostInstance]:
    """With three messages that were tried once, for four recipients; and nothing in the end."""
    send(patient, "one", "one@far.test")
    send(patient, "two", "two@far.test", "too@other.test")
    send(patient, "three", "three@far.test")
    wait_until(lambda: list(states(patient).values()) == [["waiting"]] * 4)
    yield patient
    patient.run("queue", "delete", "--all", "--yes")
    assert patient.waiting() == 0


def test_list_and_show(waiting: GatepostInstance) -> None:
    text = waiting.run("queue", "list")
    for part in ("ann@here.test", "one@far.test", "too@other.test", "Connection refused", "3 messages, 4 recipients"):
        assert part in text
    assert [one["recipients"][0]["address"] for one in listed(waiting, "--recipient", "@far.test")] == [
        "one@far.test",
        "two@far.test",
        "three@far.test",
    ]
    assert len(listed(waiting, "--recipient", "@other.test")) == 1
    assert listed(waiting, "--older-than", "1h") == []
    (one,) = listed(waiting, "--recipient", "one@far.test")
    assert one["recipients"][0]["attempts"] == 1 and one["sender"] == "ann@here.test"
    shown = waiting.run("queue", "show", one["id"])
    assert "Subject: one" in shown and "one@far.test by smtp:" in shown
    assert waiting.run("queue", "show", "--body", one["id"]).endswith("\nSubject: one\n\none\n")
    mailq = waiting.run("queue", "list", "--mailq")
    assert re.search(rf"^{one['id']} +\d+ \w\w\w \w\w\w .* ann@here\.test$", mailq, re.MULTILINE)
    assert "-- " in mailq.splitlines()[-1] and "in 3 Requests." in mailq


def test_hold_release_retry_delete(waiting: GatepostInstance) -> None:
    ids = {one["recipients"][0]["address"]: one["id"] for one in listed(waiting)}
    assert "1 recipient of 1 message on hold" in waiting.run("queue", "hold", ids["one@far.test"])
    waiting.run("queue", "delete", ids["three@far.test"])
    gone = waiting.attempt("queue", "delete", ids["three@far.test"])
    assert gone.returncode == 1 and "is not in the queue" in gone.stdout + gone.stderr
    with SmtpSink(port=FAR) as sink:
        waiting.run("queue", "retry", "--all")
        # By the rule the next attempt was five minutes away, and the site counted as dead.
        sink.wait(1, timeout=10)
        wait_until(lambda: states(waiting) == {"one@far.test": ["hold"]})
        assert sorted(who for one in sink.messages for who in one.recipients) == ["too@other.test", "two@far.test"]
        waiting.run("queue", "release", ids["one@far.test"])
        wait_until(lambda: states(waiting) == {})
        assert sorted(who for one in sink.messages for who in one.recipients) == [
            "one@far.test",
            "too@other.test",
            "two@far.test",
        ]
    assert "Nothing of that kind is waiting." in waiting.run("queue", "list")


def test_held_mail_outlives_a_restart(waiting: GatepostInstance) -> None:
    waiting.run("queue", "hold", "--recipient", "@other.test")
    assert waiting.stop() == 0
    assert "too@other.test" in waiting.run("queue", "list")  # with no server running
    with SmtpSink(port=FAR) as sink:
        waiting.start()
        waiting.run("queue", "retry", "--all")
        sink.wait(3, timeout=10)
        wait_until(lambda: states(waiting) == {"too@other.test": ["hold"]})
        waiting.run("queue", "release", "--all")
        sink.wait(4, timeout=10)


def test_deferrals_are_logged_as_postfix_does(waiting: GatepostInstance) -> None:
    log = waiting.wait_for_log("one@far.test", "status=deferred")
    assert re.search(
        r"postfix/smtp\[\d+\]: \w+: to=<one@far.test>, relay=none, delay=[\d.]+, delays=[\d.]+/[\d.]+/[\d.]+/[\d.]+, "
        rf"dsn=4\.4\.1, status=deferred \(connect to 127\.0\.0\.1\[127\.0\.0\.1\]:{FAR}: Connection refused\)",
        log,
    )


def test_a_next_hop_that_defers_and_then_takes(patient: GatepostInstance) -> None:
    def answer(verb: str, rest: str) -> str | None:
        return "451 4.7.1 come again" if verb == "RCPT" and "later" in rest else None

    with SmtpSink(port=FAR, answer=answer) as sink:
        patient.run("queue", "retry", "--all")  # the site counts as alive again
        send(patient, "some", "now@far.test", "later@far.test")
        (taken,) = sink.wait()
        assert taken.recipients == ("now@far.test",)
        patient.wait_for_log("said: 451 4.7.1 come again (in reply to RCPT TO command)")
        wait_until(lambda: states(patient) == {"later@far.test": ["waiting"]})
        sink.answer = None
        patient.run("queue", "retry", "--recipient", "later@far.test")
        sink.wait(2)
        wait_until(lambda: patient.waiting() == 0)


def test_mail_that_is_late_is_warned_of_and_then_returned(impatient: GatepostInstance) -> None:
    began = time.monotonic()
    send(impatient, "late")
    (warning,) = impatient.wait_for_mail("ann@here.test", "Delayed Mail (still being retried)")
    assert "Action: delayed" in warning.as_string() and "Status: 4.4.1" in warning.as_string()
    (bounce,) = impatient.wait_for_mail("ann@here.test", "Undelivered Mail Returned to Sender")
    assert time.monotonic() - began >= 3
    for report in (warning, bounce):
        assert report["Return-Path"] == "<>" and report["Auto-Submitted"] == "auto-replied"
    text = bounce.as_string()
    assert "Action: failed" in text and "Subject: late" in text and "Final-Recipient: rfc822; z@far.test" in text
    impatient.wait_until_empty()
    log = impatient.wait_for_log("status=expired, returned to sender")
    assert len(impatient.maildir("ann@here.test")) == 2, log


def test_a_bounce_that_cannot_be_delivered_is_never_bounced(impatient: GatepostInstance) -> None:
    # From somebody far away to somebody far away: the report has to leave, and cannot.
    with impatient.edits() as edits:
        edits.add_forward("out@here.test", ["z@far.test"])
    before = len(impatient.maildir("ann@here.test"))
    with impatient.smtp("mx") as client:
        client.sendmail("x@far.test", ["out@here.test"], message("nobody is told"))
    impatient.wait_for_log("from=<x@far.test>, status=expired, returned to sender")
    impatient.wait_for_log("from=<>, status=expired")
    impatient.wait_until_empty()
    log = impatient.log()
    reports = re.findall(r"bounce\[\d+\]: (\w+): sender (non-delivery|delay) notification: (\w+)", log)
    mine = {origin for origin, kind, report in reports if f"{report}: to=<x@far.test>" in log}
    assert mine, reports
    assert not {report for _, _, report in reports} & {origin for origin, _, _ in reports}, "a report on a report"
    assert len(impatient.maildir("ann@here.test")) == before


def test_permanent_refusals_bounce_at_once_and_never_to_the_null_sender(patient: GatepostInstance) -> None:
    def answer(verb: str, rest: str) -> str | None:
        return "550 5.1.1 no such user" if verb == "RCPT" else None

    with patient.edits() as edits:
        edits.add_forward("away@here.test", ["gone@far.test"])
    with SmtpSink(port=FAR, answer=answer):
        patient.run("queue", "retry", "--all")
        send(patient, "refused", "gone@far.test")
        (bounce,) = patient.wait_for_mail("ann@here.test", "Undelivered Mail Returned to Sender")
        assert "550 5.1.1 no such user" in bounce.as_string()
        with patient.smtp("mx") as client:
            client.sendmail("", ["away@here.test"], message("from nobody"))
        patient.wait_for_log("to=<gone@far.test>, orig_to=<away@here.test>", "status=bounced")
        patient.wait_until_empty()
    assert len(patient.maildir("ann@here.test")) == 1
