"""JSON lines: read back, complete, safe."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

from hypothesis import given

from gatepost.mail.outcome import Deferred
from gatepost.observe.events import ClientDisconnected, Event
from gatepost.observe.json_lines import MAX_STRING, JsonLines
from observe.sample_events import ONE_OF_EACH, RECEIVED, REJECTED, SENT, TLS, hostile_events

NOON = 1_795_176_000.25
HEAD = {"time": "2026-11-20T12:00:00.250000Z", "host": "mx.example.test", "pid": 7}
CLIENT = {"client_name": "mail.sender.test", "client_address": "192.0.2.17", "client_port": 33123}


def read(event: Event) -> dict[str, Any]:
    line = JsonLines("mx.example.test", 7)(NOON, event)
    assert line.endswith("\n")
    record = json.loads(line)
    assert isinstance(record, dict)
    return record


def test_a_received_message() -> None:
    assert read(RECEIVED) == HEAD | CLIENT | {
        "event": "message_received",
        "service": "smtpd",
        "queue_id": "4dK2Bz1f9Xc0",
        "message_id": "<1.2@sender.test>",
        "sender": "a@sender.test",
        "size": 4213,
        "recipients": 2,
        "login": "",
        "mechanism": "",
    }


def test_a_reply_an_outcome_and_tls_lie_flat() -> None:
    rejected = read(REJECTED)
    assert rejected["event"] == "command_rejected"
    assert (rejected["code"], rejected["enhanced"]) == (554, "5.7.1")
    assert rejected["text"] == "<x@y.test>: Relay access denied"
    assert rejected["restriction"] == "reject_unauth_destination"
    deferred = read(replace(SENT, outcome=Deferred("none", "refused", "4.4.1", site_failed=True)))
    assert deferred["outcome"] == "deferred"
    assert (deferred["relay"], deferred["text"], deferred["status"]) == ("none", "refused", "4.4.1")
    assert deferred["site_failed"] is True
    assert deferred["delays"] == {"before_queue": 0.011, "in_queue": 0.001, "connecting": 0.052, "sending": 0.04}
    assert read(TLS)["tls_version"] == "TLSv1.3"
    assert read(replace(RECEIVED, peer=None))["client_address"] is None


def test_every_field_of_every_event_is_there() -> None:
    compound = {"peer": "client_name", "tls": "tls_bits", "reply": "code", "outcome": "outcome"}
    for event in ONE_OF_EACH:
        record = read(event)
        for field in fields(event):
            assert compound.get(field.name, field.name) in record, (event, field.name)


def test_commands_keep_their_order() -> None:
    disconnected = next(event for event in ONE_OF_EACH if isinstance(event, ClientDisconnected))
    commands = read(disconnected)["commands"]
    assert list(commands) == ["EHLO", "MAIL", "RCPT", "QUIT"]
    assert commands["RCPT"] == {"accepted": 0, "all": 1}


def test_the_second_turns() -> None:
    render = JsonLines("h", 1)
    assert json.loads(render(NOON, RECEIVED))["time"] == "2026-11-20T12:00:00.250000Z"
    assert json.loads(render(NOON + 1, RECEIVED))["time"] == "2026-11-20T12:00:01.250000Z"


def test_long_strings_are_cut() -> None:
    record = read(replace(RECEIVED, sender="y" * 100_000))
    assert len(record["sender"]) == MAX_STRING
    assert record["sender"].endswith("y...")


@given(hostile_events)
def test_whatever_is_in_an_event_its_line_is_one_json_object(event: Event) -> None:
    line = JsonLines("h", 1)(NOON, event)
    assert line.isascii()
    assert line[:-1].isprintable()
    record = json.loads(line)
    for field in fields(event):
        value = getattr(event, field.name)
        if isinstance(value, str) and len(value) <= MAX_STRING:
            assert record[field.name] == value
