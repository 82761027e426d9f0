"""How much waits, for a page, a metric or the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gatepost.queue.records import JobState
from gatepost.storage.errors import storage_errors
from gatepost.storage.sqlite import connect

_STATES = "SELECT state, count(*) FROM job GROUP BY state"
# Through the jobs: the table message is as large as all mail in it.
_MESSAGES = "SELECT count(DISTINCT message) FROM job"
_OLDEST = "SELECT arrived_at FROM message ORDER BY number LIMIT 1"
_FIRST_DUE = "SELECT min(next_attempt_at) FROM job WHERE state = 'waiting'"


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """What waits in a shard: messages, and jobs by state. Times are seconds since 1970, None where nothing waits."""

    messages: int
    active: int
    waiting: int
    hold: int
    oldest_arrived_at: float | None
    next_attempt_at: float | None  # of the waiting job that is due first


def read_statistics(path: Path) -> QueueStatistics:
    """Count in the database of a shard, at one moment. Reads every job. Raises StorageError."""
    connection = connect(path, readonly=True)
    try:
        with storage_errors(path):
            connection.execute("BEGIN")
            states = dict(connection.execute(_STATES).fetchall())
            oldest = connection.execute(_OLDEST).fetchone()
            return QueueStatistics(
                messages=connection.execute(_MESSAGES).fetchone()[0],
                active=states.get(JobState.ACTIVE.value, 0),
                waiting=states.get(JobState.WAITING.value, 0),
                hold=states.get(JobState.HOLD.value, 0),
                oldest_arrived_at=oldest[0] if oldest else None,
                next_attempt_at=connection.execute(_FIRST_DUE).fetchone()[0],
            )
    finally:
        connection.close()
