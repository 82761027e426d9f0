"""The log of a known run: pflogsumm counts it right, the JSON lines tell the same, and it can be rotated."""

from __future__ import annotations

import json
import os
import re
import smtplib
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from peers.gatepost import GatepostInstance, with_forwards
from peers.ports import free_port
from peers.programs import require
from peers.sink import SmtpSink, wait_until
from peers.wire import Wire

FAR = free_port()


@dataclass(frozen=True, slots=True)
class Run:
    """A server with its log complete, and what pflogsumm says of it."""

    gatepost: GatepostInstance
    log: str
    report: str

    def total(self, name: str) -> int:
        found = re.search(rf"^ +(\d+) +{name}\b", self.report, re.MULTILINE)
        assert found, f"{name} is not in the report:\n{self.report}"
        return int(found[1])

    def table(self, title: str) -> list[list[str]]:
        body = self.report.split(f"\n{title}\n", 1)[1].split("\n\n", 1)[0]
        return sorted(line.split() for line in body.splitlines() if line.strip() and not re.fullmatch(r"[ -]+", line))


def answer(verb: str, rest: str) -> str | None:
    """The next hop's mood."""
    if verb != "RCPT":
        return None
    if "gone" in rest:
        return "550 5.1.1 <gone@far.test>: no such user"
    return "450 4.2.1 <later@far.test>: come again" if "later" in rest else None


def message(subject: str) -> bytes:
    return f"Subject: {subject}\r\nMessage-ID: <{subject}@far.test>\r\n\r\n{subject}\r\n".encode()


def do_what_is_known(gatepost: GatepostInstance, sink: SmtpSink) -> None:
    with gatepost.smtp("mx") as client:
        for number in range(3):
            client.sendmail("x@far.test", ["ann@here.test"], message(f"in{number}"))
        client.sendmail("y@far.test", ["hello@here.test"], message("forward"))
        client.sendmail("y@far.test", ["out@here.test"], message("away"))
        for recipient in ("nobody@here.test", "z@far.test", "zz@far.test"):
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                client.sendmail("x@far.test", [recipient], message("never"))
    with gatepost.smtp("submission", "ann@here.test") as client:
        client.sendmail("ann@here.test", ["ben@here.test", "z@far.test"], message("two"))
        client.sendmail("ann@here.test", ["later@far.test"], message("later"))
        client.sendmail("ann@here.test", ["gone@far.test"], message("gone"))
    with gatepost.smtp("submissions") as client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.login("ann@here.test", "wrong")
    gatepost.wait_for_mail("ann@here.test", "Undelivered Mail Returned to Sender")
    gatepost.wait_for_log("to=<later@far.test>")
    gatepost.run("queue", "retry", "--all")
    wait_until(lambda: gatepost.log().count("to=<later@far.test>") == 2)
    sink.answer = None
    gatepost.run("queue", "retry", "--all")
    gatepost.wait_until_empty()
    wait_until(lambda: gatepost.log().count(": removed") == 9)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    toml = f'[delivery]\nrelayhost = "[127.0.0.1]:{FAR}"\n[log]\njson_file = "log/mail.json"'
    people = with_forwards({"hello@here.test": ("ann@here.test",), "out@here.test": ("someone@far.test",)})
    with (
        SmtpSink(port=FAR, answer=answer) as sink,
        GatepostInstance(tmp_path_factory.mktemp("gatepost"), toml, people=people) as gatepost,
    ):
        do_what_is_known(gatepost, sink)
        report = subprocess.run(
            [require("pflogsumm"), str(gatepost.home.path / "log" / "mail.log")],
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert report.stderr == ""
        yield Run(gatepost, gatepost.log(), report.stdout)


@pytest.mark.peer
def test_pflogsumm_counts_messages(run: Run) -> None:
    print(run.report.split("Per-Hour", 1)[0])
    counts = {
        name: run.total(name) for name in ("received", "delivered", "forwarded", "deferred", "bounced", "rejected")
    }
    assert counts == {
        "received": 8,  # five by mx, three by submission; the bounce came from nobody
        "delivered": 9,  # each of the eight but one, one of them twice, and the bounce
        "forwarded": 0,  # what Postfix's own local daemon does; aliases count with neither
        "deferred": 1,
        "bounced": 1,
        "rejected": 3,
    }
    assert "(2  deferrals)" in run.report


@pytest.mark.peer
def test_pflogsumm_names_senders_recipients_and_reasons(run: Run) -> None:
    assert run.table("Senders by message count") == [["2", "y@far.test"], ["3", "ann@here.test"], ["3", "x@far.test"]]
    assert ["5", "ann@here.test"] in run.table("Recipients by message count")
    # What it makes of the reason, as it does with Postfix's: the words after the last colon.
    assert re.search(r"message deferral detail\n-+\n +smtp \(total: 2\)\n +2 +come again", run.report)
    assert re.search(r"message bounce detail \(by relay\)\n-+\n.*\(total: 1\)\n +1 +no such user", run.report)
    assert re.search(r"Relay access denied \(total: 2\)", run.report)
    assert re.search(r"User unknown.* \(total: 1\)\n +1 +nobody@here\.test", run.report)
    assert re.search(r"SASL (PLAIN|LOGIN) authentication failed", run.report)


def test_each_line_is_one_of_postfix(run: Run) -> None:
    line = re.compile(
        r"\w{3} [ \d]\d \d\d:\d\d:\d\d mail\.here\.test postfix/"
        r"(?:(?:submission|submissions|smtps)/)?(?:master|smtpd|cleanup|qmgr|smtp|virtual|bounce|tls|worker)\[\d+\]: \S.*"
    )
    for one in run.log.splitlines():
        assert line.fullmatch(one), one
    ids = re.findall(r"qmgr\[\d+\]: (\w+): from=", run.log)
    assert len(ids) >= 9 and len(set(re.findall(r"(\w+): removed", run.log))) == 9


def test_json_tells_the_same(run: Run) -> None:
    file = run.gatepost.home.path / "log" / "mail.json"
    events = [json.loads(line) for line in file.read_text().splitlines()]
    kinds = Counter(event["event"] for event in events)
    print(dict(kinds))
    attempts = Counter(event["outcome"] for event in events if event["event"] == "recipient_attempted")
    assert kinds["message_received"] == 9 and kinds["message_removed"] == 9
    assert attempts == {"delivered": 9, "deferred": 2, "failed": 1}
    assert kinds["command_rejected"] == 3 and kinds["login_failed"] == 2  # smtplib tries PLAIN, then LOGIN


def test_nothing_secret_is_logged(run: Run) -> None:
    everything = run.log + (run.gatepost.home.path / "log" / "mail.json").read_text() + run.gatepost.output.read_text()
    for secret in ("ann-secret", "YW5uLXNlY3JldA", "$argon2", "wrong\\u0000", "AGFubkBoZXJlLnRlc3QA"):
        assert secret not in everything
    assert "Traceback" not in everything


def test_the_log_is_rotated_by_sighup(run: Run) -> None:
    gatepost = run.gatepost
    file = gatepost.home.path / "log" / "mail.log"
    old = file.rename(file.with_name("mail.log.1"))
    gatepost.reload()
    wait_until(lambda: file.exists())
    wait_until(lambda: "settings reloaded" in gatepost.log())
    size = old.stat().st_size
    with Wire(gatepost.address("mx")) as wire:
        wire.hello()
        assert wire.ask("QUIT").startswith("221")
    gatepost.wait_for_log("disconnect from")  # the worker writes to the new file too
    assert old.stat().st_size == size
