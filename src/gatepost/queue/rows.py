"""Messages and jobs as rows: every SQL statement of the queue's hot path once, and what turns records into rows and back.

Rows go in and out with `executemany`. One INSERT of many rows would let go of the interpreter lock less often, but SQLite
copies each body once more for it, and that was measured to cost more than it saves.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any, TypeAlias, cast

from gatepost.mail.address import Address, BadAddress, parse_address
from gatepost.mail.envelope import Envelope, Notify, Recipient
from gatepost.mail.outcome import Deferred
from gatepost.mail.queue_id import queue_id
from gatepost.mail.route import parse_route
from gatepost.queue.records import Body, Job, JobResult, JobState, NewMessage, QueuedMessage

JobKey: TypeAlias = tuple[int, int]
"""Queue number of the message, number of the job in it."""

_MESSAGE_COLUMNS = (
    "number, sender, recipients, eight_bit, smtputf8, ret, envid, arrived_at, is_bounce, "
    "size, header_size, in_file, content"
)
_NEW_JOB_COLUMNS = "message, number, recipient, original, notify, orcpt, route, state, next_attempt_at"
JOB_COLUMNS = f"{_NEW_JOB_COLUMNS}, attempts, last_reason, last_status, delay_warned"


def _insert(table: str, columns: str) -> str:
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * (columns.count(',') + 1))})"


_INSERT_MESSAGE = _insert("message", _MESSAGE_COLUMNS)
_INSERT_JOB = _insert("job", _NEW_JOB_COLUMNS)
_SET_LAST_NUMBER = "UPDATE shard SET last_number = max(last_number, ?) WHERE number = ?"

# One JSON text holds all keys: one statement, whatever their number.
KEYS = "(SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"
NUMBERS = "(SELECT value FROM json_each(?))"
# One statement for a batch, not one for each row: every step of a statement gives up the GIL and has to win it back.
_DELETE_JOBS = f"DELETE FROM job WHERE (message, number) IN {KEYS}"
_DELETE_MESSAGES = f"""
    DELETE FROM message WHERE number IN {NUMBERS}
        AND NOT EXISTS (SELECT 1 FROM job WHERE job.message = message.number)"""
_DEFER_JOB = """
    UPDATE job SET state = CASE state WHEN 'hold' THEN 'hold' ELSE 'waiting' END, next_attempt_at = ?,
        attempts = attempts + 1, last_reason = ?, last_status = ?, delay_warned = (delay_warned OR ?)
    WHERE message = ? AND number = ?"""

_RECOVER_JOBS = "UPDATE job SET state = 'waiting', next_attempt_at = ? WHERE state = 'active'"
_RELEASE_JOBS = f"{_RECOVER_JOBS} AND (message, number) IN {KEYS}"
_ACTIVATE_JOBS = f"UPDATE job SET state = 'active' WHERE (message, number) IN {KEYS}"
_ACTIVE_JOBS = f"SELECT message, number FROM job WHERE message IN {NUMBERS} AND state = 'active'"
# Message after message, so that what is due longest is read first and a message is read once.
_DUE_JOBS = """
    SELECT message, number, next_attempt_at FROM job
    WHERE state = 'waiting' AND next_attempt_at <= ? ORDER BY next_attempt_at, message LIMIT ?"""
_JOBS = f"SELECT {JOB_COLUMNS} FROM job WHERE (message, number) IN {KEYS} ORDER BY message, number"
_MESSAGES = f"SELECT {_MESSAGE_COLUMNS} FROM message WHERE number IN {NUMBERS}"
_SIZES = f"SELECT number, length(content) FROM message WHERE number IN {NUMBERS}"
_EXISTING = f"SELECT number FROM message WHERE number IN {NUMBERS}"
_FIRST_DUE = "SELECT min(next_attempt_at) FROM job WHERE state = 'waiting'"
_LAST_NUMBER = """
    SELECT max(last_number, coalesce((SELECT max(number) FROM message), 0)) FROM shard WHERE number = ?"""
_MAKE_SHARD = "INSERT INTO shard (number, last_number) VALUES (?, 0) ON CONFLICT DO NOTHING"

Row: TypeAlias = tuple[Any, ...]


# Records to rows.


def message_row(message: NewMessage) -> Row:
    """A row of the table message."""
    envelope, body = message.envelope, message.body
    return (
        message.number,
        envelope.sender_text,
        _recipients_text(envelope.recipients),
        envelope.eight_bit,
        envelope.smtputf8,
        envelope.ret,
        envelope.envid,
        message.arrived_at,
        message.is_bounce,
        body.size,
        len(body.header),
        body.content is None,
        body.header if body.content is None else body.content,
    )


def job_rows(message: NewMessage, state: JobState, due_at: float) -> list[Row]:
    """The rows of its jobs in `state`, but those on hold stay so."""
    word, hold = state.value, JobState.HOLD
    rows = []
    for job in message.jobs:
        recipient = job.recipient
        address = str(recipient.address)
        rows.append(
            (
                message.number,
                job.number,
                address,
                address if job.original is recipient.address else str(job.original),
                ",".join(sorted(recipient.notify)),
                recipient.orcpt,
                str(job.route),
                hold.value if job.state is hold else word,
                due_at,
            )
        )
    return rows


def insert(connection: sqlite3.Connection, messages: Sequence[Row], jobs: Sequence[Row]) -> None:
    """Store rows made by `message_row` and `job_rows`."""
    connection.executemany(_INSERT_MESSAGE, messages)
    connection.executemany(_INSERT_JOB, jobs)


def record_results(connection: sqlite3.Connection, results: Iterable[JobResult]) -> None:
    """Delete or defer jobs, and delete the messages that have none left."""
    finished: list[JobKey] = []
    deferred: list[Row] = []
    for result in results:
        outcome = result.outcome
        if isinstance(outcome, Deferred):
            text = (_storable(outcome.text), _storable(outcome.status))
            deferred.append((result.next_attempt_at, *text, result.delay_warned, result.message, result.job))
        else:
            finished.append((result.message, result.job))
    if deferred:
        connection.executemany(_DEFER_JOB, deferred)
    if finished:
        connection.execute(_DELETE_JOBS, (key_list(finished),))
        connection.execute(_DELETE_MESSAGES, (number_list({message for message, _ in finished}),))


def set_last_number(connection: sqlite3.Connection, shard: int, number: int) -> None:
    """Note that no number up to `number` is to be given again."""
    connection.execute(_SET_LAST_NUMBER, (number, shard))


# Rows to records.


def prepare_shard(connection: sqlite3.Connection, shard: int, now: float) -> int:
    """Make what was in a dead worker's memory due now. Gives the highest number the shard ever stored."""
    connection.execute(_MAKE_SHARD, (shard,))
    connection.execute(_RECOVER_JOBS, (now,))
    return cast(int, connection.execute(_LAST_NUMBER, (shard,)).fetchone()[0])


def due_jobs(connection: sqlite3.Connection, now: float, limit: int) -> list[JobKey]:
    """Waiting jobs whose time has come, those due longest first."""
    return [(message, number) for message, number, _ in connection.execute(_DUE_JOBS, (now, limit))]


def first_due_at(connection: sqlite3.Connection) -> float | None:
    """When the next waiting job is due; None where none waits."""
    return cast("float | None", connection.execute(_FIRST_DUE).fetchone()[0])


def activate(connection: sqlite3.Connection, jobs: Iterable[JobKey]) -> None:
    """Mark jobs as being in memory."""
    connection.execute(_ACTIVATE_JOBS, (key_list(jobs),))


def release(connection: sqlite3.Connection, jobs: Iterable[JobKey], now: float) -> None:
    """Active jobs wait again and are due `now`; those put on hold stay so."""
    connection.execute(_RELEASE_JOBS, (now, key_list(jobs)))


def active_jobs(connection: sqlite3.Connection, messages: Iterable[int]) -> list[JobKey]:
    """Which jobs of these messages are marked as being in memory."""
    return connection.execute(_ACTIVE_JOBS, (number_list(messages),)).fetchall()


def existing(connection: sqlite3.Connection, messages: Iterable[int]) -> set[int]:
    """Which of these messages there are."""
    return {number for (number,) in connection.execute(_EXISTING, (number_list(messages),))}


def load(
    connection: sqlite3.Connection, jobs: Sequence[JobKey], bodies: Path, max_bytes: int | None = None
) -> list[QueuedMessage]:
    """These jobs with their messages, in the order in which `jobs` first names a message.

    The first message always, the others until the bodies in memory would be more than `max_bytes`.
    """
    messages: Iterable[int] = dict.fromkeys(message for message, _ in jobs)
    if max_bytes is not None:
        messages = _first_up_to(connection, list(messages), max_bytes)
        chosen = set(messages)
        jobs = [key for key in jobs if key[0] in chosen]
    loaded = {row[0]: _message(row, bodies) for row in connection.execute(_MESSAGES, (number_list(messages),))}
    for row in connection.execute(_JOBS, (key_list(jobs),)):
        if row[0] in loaded:
            loaded[row[0]].jobs.append(job_of(row))
    return [loaded[number] for number in messages if number in loaded]


def load_body(connection: sqlite3.Connection, number: int, bodies: Path) -> Body | None:
    """The body of one message, None where there is no such message."""
    row = connection.execute(_MESSAGES, (number_list([number]),)).fetchone()
    return None if row is None else _body(row, bodies)


def _first_up_to(connection: sqlite3.Connection, messages: list[int], max_bytes: int) -> list[int]:
    sizes = dict(connection.execute(_SIZES, (number_list(messages),)))
    total = 0
    for at, number in enumerate(messages):
        total += sizes.get(number, 0)
        if at and total > max_bytes:
            return messages[:at]
    return messages


def _message(row: Row, bodies: Path) -> QueuedMessage:
    number, sender, recipients, eight_bit, smtputf8, ret, envid, arrived_at, is_bounce = row[:9]
    return QueuedMessage(
        number=number,
        envelope=Envelope(
            sender=address_of(sender) if sender else None,
            recipients=_recipients(recipients),
            eight_bit=bool(eight_bit),
            smtputf8=bool(smtputf8),
            ret=ret,
            envid=envid,
        ),
        body=_body(row, bodies),
        arrived_at=arrived_at,
        is_bounce=bool(is_bounce),
    )


def _body(row: Row, bodies: Path) -> Body:
    size, header_size, in_file, content = row[9:]
    header = content[:header_size]
    return Body(size, header, path=bodies / queue_id(row[0])) if in_file else Body(size, header, content)


def job_of(row: Row) -> Job:
    """A row of JOB_COLUMNS as a job."""
    _, number, recipient, original, notify, orcpt, route, state, next_attempt_at, attempts, reason, status, warned = row
    wishes = cast("frozenset[Notify]", frozenset(notify.split(",") if notify else ()))
    return Job(
        number=number,
        recipient=Recipient(address_of(recipient), wishes, orcpt),
        original=address_of(original),
        route=parse_route(route),
        state=JobState(state),
        attempts=attempts,
        next_attempt_at=next_attempt_at,
        last_reason=reason,
        last_status=status,
        delay_warned=bool(warned),
    )


def address_of(text: str) -> Address:
    """An address as it was stored."""
    try:
        return parse_address(text)
    except BadAddress:  # the bare postmaster, or one that an older Gatepost took: it was accepted, so it goes on
        local, at, domain = text.rpartition("@")
        return Address(local, domain) if at else Address(text, "")


def _recipients_text(recipients: Iterable[Recipient]) -> str:
    """A JSON list: an address, or a list of address, DSN wishes and original recipient where there are such."""
    texts = []
    for recipient in recipients:
        text = encode_basestring_ascii(str(recipient.address))  # a third of the time json.dumps takes
        if recipient.notify or recipient.orcpt:
            text = json.dumps([str(recipient.address), ",".join(sorted(recipient.notify)), recipient.orcpt])
        texts.append(text)
    return f"[{','.join(texts)}]"


def _recipients(text: str) -> tuple[Recipient, ...]:
    recipients = []
    for entry in json.loads(text):
        address, notify, orcpt = (entry, "", "") if isinstance(entry, str) else entry
        wishes = cast("frozenset[Notify]", frozenset(notify.split(",") if notify else ()))
        recipients.append(Recipient(address_of(address), wishes, orcpt))
    return tuple(recipients)


def _storable(text: str) -> str:
    """A result must not fail to be stored for a stray surrogate in somebody's reply."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def key_list(jobs: Iterable[JobKey]) -> str:
    """What KEYS takes."""
    return f"[{','.join([f'[{message},{number}]' for message, number in jobs])}]"


def number_list(messages: Iterable[int]) -> str:
    """What NUMBERS takes."""
    return f"[{','.join(map(str, messages))}]"
