"""Records to rows and back; and no statement of the hot path reads more than it asks for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.mail.address import Address
from gatepost.mail.envelope import Envelope, Notify, Recipient
from gatepost.mail.route import Route
from gatepost.queue import rows
from gatepost.queue.records import Body, Job, JobState, NewMessage
from gatepost.storage.migrate import migrate
from gatepost.storage.sqlite import connect

ADDRESSES = st.sampled_from(
    [
        Address("u", "b.test"),
        Address("a b", "b.test"),
        Address('say "hi" @ \\', "b.test"),
        Address("grüße", "xn--bcher-kva.test"),
        Address("u", "[IPv6:2001:db8::1]"),
        Address("postmaster", ""),
    ]
)
WISHES = st.frozensets(st.sampled_from(get_args(Notify)))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
RECIPIENTS = st.builds(Recipient, ADDRESSES, WISHES, TEXTS)
ENVELOPES = st.builds(
    Envelope,
    sender=st.none() | ADDRESSES,
    recipients=st.lists(RECIPIENTS, max_size=4).map(tuple),
    eight_bit=st.booleans(),
    smtputf8=st.booleans(),
    ret=st.sampled_from(["", "FULL", "HDRS"]),
    envid=TEXTS,
)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("rows") / "queue.sqlite"
    migrate(path, "queue")
    with closing(connect(path)) as opened:
        yield opened


@given(
    envelope=ENVELOPES,
    targets=st.lists(st.tuples(RECIPIENTS, ADDRESSES), min_size=1, max_size=4),
    content=st.binary(max_size=50),
    is_bounce=st.booleans(),
)
def test_what_goes_in_comes_out(
    connection: sqlite3.Connection,
    envelope: Envelope,
    targets: list[tuple[Recipient, Address]],
    content: bytes,
    is_bounce: bool,
) -> None:
    jobs = [
        Job(at, recipient, original, Route("maildir", "u:v@b.test"), next_attempt_at=9.0)
        for at, (recipient, original) in enumerate(targets)
    ]
    message = NewMessage(5, envelope, Body.of(content), jobs, 8.5, is_bounce)
    connection.execute("BEGIN")
    rows.insert(connection, [rows.message_row(message)], rows.job_rows(message, JobState.ACTIVE, 9.0))
    (loaded,) = rows.load(connection, [(5, job.number) for job in jobs], Path("bodies"))
    body = rows.load_body(connection, 5, Path("bodies"))
    connection.execute("ROLLBACK")
    assert (loaded.number, loaded.envelope, loaded.body) == (5, envelope, Body.of(content))
    assert (loaded.arrived_at, loaded.is_bounce) == (8.5, is_bounce)
    assert loaded.jobs == jobs
    assert body == loaded.body


def test_statements_find_their_rows_by_key(connection: sqlite3.Connection) -> None:
    """At 200,000 waiting messages a SCAN would cost a second where a SEARCH costs microseconds."""
    may_scan = {"_RECOVER_JOBS"}  # once, when a shard is opened
    statements = {
        name: text
        for name, text in vars(rows).items()
        if isinstance(text, str) and text.strip().startswith(("SELECT ", "UPDATE ", "DELETE ", "INSERT "))
    }
    assert len(statements) > 12
    for name, text in statements.items():
        plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", ("[]",) * text.count("?")).fetchall()
        scans = [step for *_, step in plan if step.startswith(("SCAN job", "SCAN message", "SCAN shard"))]
        assert not scans or name in may_scan, f"{name}: {scans}"


def test_an_active_job_is_in_no_index_but_its_key(connection: sqlite3.Connection) -> None:
    indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'job'")
    assert {name: "waiting" in sql for name, sql in indexes if sql} == {"job_due": True}
