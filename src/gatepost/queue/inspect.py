"""QueueInspector: what operators do with the queue, while the server runs or not.

It works on the shards' databases beside the workers that own them: reads see one moment at a time, changes are
transactions of at most CHUNK jobs, so that a worker is never kept waiting. A running worker must be told which messages
were changed (QueueShard.changed); until then it may still attempt a job that is on hold or was deleted, as it may one
that was in flight. Whatever comes of such an attempt, a held job is not tried again, and a deleted one has no row to
come back from.

Every verb takes a QueueFilter and touches jobs, not whole messages: to delete by recipient takes that recipient's job
and leaves the others. A message goes with its last job. All raise StorageError.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from gatepost.mail.address import BadAddress, parse_domain
from gatepost.mail.clock import Clock
from gatepost.mail.queue_id import queue_id, shard_of
from gatepost.queue import rows
from gatepost.queue.bodies import remove
from gatepost.queue.records import Job, JobState, QueuedMessage
from gatepost.queue.rows import JOB_COLUMNS, KEYS, NUMBERS, JobKey, job_of, key_list, number_list
from gatepost.queue.shard import BODIES, DATABASE
from gatepost.storage.errors import storage_errors
from gatepost.storage.sqlite import connect, transaction

CHUNK = 500
NULL_SENDER = "<>"


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """Which jobs. What is empty or None does not matter; the rest must all hold.

    `sender` and `recipient` are part of an address, or `@domain` for exactly that domain; `sender` may be `<>`.
    `next_hop` is a whole next hop or route (`example.test`, `[mx.test]:2525`, `maildir:u@example.test`) or a transport.
    `reason` is part of the last reason. Letter case does not matter.
    """

    numbers: frozenset[int] | None = None
    sender: str = ""
    recipient: str = ""
    next_hop: str = ""
    state: JobState | None = None
    older_than: float = 0.0  # seconds since arrival
    reason: str = ""

    @property
    def is_all(self) -> bool:
        """Whether it names nothing."""
        return self == QueueFilter()


@dataclass(frozen=True, slots=True)
class ListedMessage:
    """A message without its content, and those of its jobs that were asked for."""

    number: int
    sender: str  # "" for the null sender
    size: int  # bytes
    arrived_at: float  # seconds since 1970
    is_bounce: bool
    jobs: list[Job] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The queue ID."""
        return queue_id(self.number)


@dataclass(frozen=True, slots=True)
class Change:
    """What a verb did: the messages it touched, in order of arrival, and how many jobs of them."""

    numbers: list[int]
    jobs: int

    @property
    def ids(self) -> list[str]:
        """The queue IDs."""
        return [queue_id(number) for number in self.numbers]


_LIST_MESSAGES = """
    SELECT m.number, m.sender, m.size, m.arrived_at, m.is_bounce FROM message AS m
    WHERE m.number > :after AND {message} AND EXISTS (SELECT 1 FROM job AS j WHERE j.message = m.number AND {job})
    ORDER BY m.number LIMIT :limit"""
_LIST_JOBS = f"SELECT {JOB_COLUMNS} FROM job AS j WHERE j.message IN {NUMBERS.replace('?', ':numbers')} AND {{job}}"
_FIND_JOBS = """
    SELECT j.message, j.number FROM job AS j JOIN message AS m ON m.number = j.message
    WHERE (j.message, j.number) > (:after, :after_job) AND {message} AND {job}
    ORDER BY j.message, j.number LIMIT :limit"""
_JOBS_OF_MESSAGE = "SELECT message, number FROM job WHERE message = ? ORDER BY number"

_HOLD = f"""
    UPDATE job SET state = 'hold' WHERE state IN ('active', 'waiting') AND (message, number) IN {KEYS}
    RETURNING message, number"""
_RELEASE = f"""
    UPDATE job SET state = 'waiting', next_attempt_at = ? WHERE state = 'hold' AND (message, number) IN {KEYS}
    RETURNING message, number"""
_RETRY = f"""
    UPDATE job SET next_attempt_at = ? WHERE state = 'waiting' AND (message, number) IN {KEYS}
    RETURNING message, number"""
_DELETE = f"DELETE FROM job WHERE (message, number) IN {KEYS} RETURNING message, number"
_DELETE_EMPTY = f"""
    DELETE FROM message WHERE number IN {NUMBERS} AND NOT EXISTS (SELECT 1 FROM job WHERE job.message = message.number)
    RETURNING number, in_file"""


Keys: TypeAlias = list[JobKey]
_Verb: TypeAlias = Callable[[sqlite3.Connection, Keys, Path], Keys]
"""Changes these jobs, whose bodies may be in this folder, in one transaction; gives those it did change."""


class QueueInspector:
    """All shards below one folder."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """`folder` is `<home>/queue`; it need not exist."""
        self._folder = folder
        self._clock = clock

    def messages(self, which: QueueFilter) -> Iterator[ListedMessage]:
        """Messages with jobs that match, in order of arrival."""
        return heapq.merge(*(self._list(shard, which) for shard in self._shards(which)), key=lambda found: found.number)

    def show(self, number: int) -> QueuedMessage | None:
        """One message with its envelope, jobs, header block and body; None where there is none."""
        shard = self._folder / str(shard_of(number))
        if not (shard / DATABASE).exists():
            return None
        with _reading(shard / DATABASE) as connection:
            jobs = connection.execute(_JOBS_OF_MESSAGE, (number,)).fetchall()
            found = rows.load(connection, jobs, shard / BODIES)
        return found[0] if found else None

    def missing(self, numbers: Iterable[int]) -> set[int]:
        """Which of these messages are not in the queue."""
        missing = set(numbers)
        for shard in self._shards(QueueFilter(frozenset(missing))):
            with _reading(shard / DATABASE) as connection:
                missing -= rows.existing(connection, missing)
        return missing

    def hold(self, which: QueueFilter) -> Change:
        """Not to be attempted until released."""
        return self._change(which, (JobState.ACTIVE, JobState.WAITING), _update(_HOLD))

    def release(self, which: QueueFilter) -> Change:
        """What is on hold waits again and is due now."""
        return self._change(which, (JobState.HOLD,), _update(_RELEASE, self._clock.now()))

    def retry(self, which: QueueFilter) -> Change:
        """What waits is due now. What is on hold stays there."""
        return self._change(which, (JobState.WAITING,), _update(_RETRY, self._clock.now()))

    def delete(self, which: QueueFilter) -> Change:
        """Gone, without a word to the sender."""
        return self._change(which, tuple(JobState), _delete)

    def _shards(self, which: QueueFilter) -> list[Path]:
        found = sorted(
            int(path.parent.name) for path in self._folder.glob(f"*/{DATABASE}") if path.parent.name.isdigit()
        )
        if which.numbers is not None:
            wanted = {shard_of(number) for number in which.numbers}
            found = [number for number in found if number in wanted]
        return [self._folder / str(number) for number in found]

    def _list(self, shard: Path, which: QueueFilter) -> Iterator[ListedMessage]:
        message, job, parameters = self._conditions(which)
        after = 0
        while True:
            with _reading(shard / DATABASE) as connection:
                listed = {
                    number: ListedMessage(number, sender, size, arrived_at, bool(is_bounce))
                    for number, sender, size, arrived_at, is_bounce in connection.execute(
                        _LIST_MESSAGES.format(message=message, job=job), {**parameters, "after": after, "limit": CHUNK}
                    )
                }
                numbers = {"numbers": number_list(listed)}
                for row in connection.execute(_LIST_JOBS.format(job=job), {**parameters, **numbers}):
                    listed[row[0]].jobs.append(job_of(row))
            yield from listed.values()
            if len(listed) < CHUNK:
                return
            after = max(listed)

    def _change(self, which: QueueFilter, states: tuple[JobState, ...], change: _Verb) -> Change:
        touched: set[int] = set()
        count = 0
        message, job, parameters = self._conditions(which)
        words = ", ".join(f"'{state.value}'" for state in states)
        find = _FIND_JOBS.format(message=message, job=f"{job} AND j.state IN ({words})")
        for shard in self._shards(which):
            database = shard / DATABASE
            connection = connect(database)
            try:
                with storage_errors(database):
                    last: JobKey = (0, 0)
                    while True:
                        place = {"after": last[0], "after_job": last[1], "limit": CHUNK}
                        keys: list[JobKey] = connection.execute(find, {**parameters, **place}).fetchall()
                        if keys:
                            done = change(connection, keys, shard / BODIES)
                            touched.update(number for number, _ in done)
                            count += len(done)
                        if len(keys) < CHUNK:
                            break
                        last = keys[-1]
            finally:
                connection.close()
        return Change(sorted(touched), count)

    def _conditions(self, which: QueueFilter) -> tuple[str, str, dict[str, Any]]:
        """Conditions on a message `m` and a job `j`, and their parameters."""
        message, job = ["1 = 1"], ["1 = 1"]
        parameters: dict[str, Any] = {}
        if which.numbers is not None:
            message.append(f"m.number IN {NUMBERS.replace('?', ':wanted')}")
            job.append(f"j.message IN {NUMBERS.replace('?', ':wanted')}")
            parameters["wanted"] = number_list(which.numbers)
        if which.sender == NULL_SENDER:
            message.append("m.sender = ''")
        elif which.sender:
            message.append(_address_condition("m.sender", which.sender))
            parameters["sender"] = _needle(which.sender)
        if which.older_than > 0:
            message.append("m.arrived_at <= :arrived_until")
            parameters["arrived_until"] = self._clock.now() - which.older_than
        if which.recipient:
            job.append(_address_condition("j.recipient", which.recipient))
            parameters["recipient"] = _needle(which.recipient)
        if which.next_hop:
            # "smtp:[127.0.0.1]:25" by itself, by what stands after its first colon, or before it
            at = "instr(j.route, ':')"
            parts = ("j.route", f"substr(j.route, {at} + 1)", f"substr(j.route, 1, {at} - 1)")
            job.append(f"({' OR '.join(f'lower({part}) = :next_hop' for part in parts)})")
            parameters["next_hop"] = which.next_hop.lower()
        if which.state is not None:
            job.append("j.state = :state")
            parameters["state"] = which.state.value
        if which.reason:
            job.append("instr(lower(j.last_reason), :reason) > 0")
            parameters["reason"] = which.reason.lower()
        return " AND ".join(message), " AND ".join(job), parameters


def _address_condition(column: str, text: str) -> str:
    name = column.partition(".")[2]
    if text.startswith("@"):
        return f"substr(lower({column}), -length(:{name})) = :{name}"
    return f"instr(lower({column}), :{name}) > 0"


def _needle(text: str) -> str:
    """What to look for: lower case, and a domain as it is stored, in A-labels."""
    local, at, domain = text.rpartition("@")
    try:
        return f"{local.lower()}@{parse_domain(domain)}" if at else text.lower()
    except BadAddress:
        return text.lower()


def _update(statement: str, *values: float) -> _Verb:
    def update(connection: sqlite3.Connection, keys: Keys, _: Path) -> Keys:
        with transaction(connection):
            return connection.execute(statement, (*values, key_list(keys))).fetchall()

    return update


def _delete(connection: sqlite3.Connection, keys: Keys, bodies: Path) -> Keys:
    with transaction(connection):
        deleted: Keys = connection.execute(_DELETE, (key_list(keys),)).fetchall()
        messages = number_list({number for number, _ in deleted})
        gone = connection.execute(_DELETE_EMPTY, (messages,)).fetchall()
    for number, in_file in gone:
        if in_file:
            remove(bodies / queue_id(number))
    return deleted


@contextmanager
def _reading(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection that sees one moment."""
    connection = connect(database, readonly=True)
    try:
        with storage_errors(database):
            connection.execute("BEGIN")
            yield connection
    finally:
        connection.close()
