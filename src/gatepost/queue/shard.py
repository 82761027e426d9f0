"""QueueShard: one worker's part of the queue, as intake and delivery see it.

A shard is a folder `<home>/queue/<number>` with `queue.sqlite`, `bodies/` and `lock`. It has exactly one owner at a time;
the command line may look into its database and change it meanwhile (inspect.py), and then `changed` tells what is left to
be done.

    QueueShard.add -----> ACTIVE ---- finish(Delivered, Failed) ----> gone, and with its last job the message
                          ^    |
                 take_due |    | finish(Deferred), release_lease, a crash
                          |    v
                         WAITING <--- release ---- HOLD <--- hold --- ACTIVE, WAITING

The instant of commitment is the COMMIT in writer.py: before it the sender has no answer and the message no row; after it
the message is ours until the COMMIT that deletes its last job. What happens between two commits can only make an attempt
happen twice.

A job is "leased" while it is in this process's memory. `take_due` never gives out a leased job, whatever an operator did
to its row meanwhile: one that was held and released while it was being attempted is not attempted twice at a time.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from gatepost.config.settings import QueueSettings
from gatepost.mail.clock import Clock
from gatepost.mail.queue_id import QueueIdSource, queue_id
from gatepost.queue import rows
from gatepost.queue.bodies import BodyWriter, file_errors, remove, sweep, sync_file
from gatepost.queue.lock import ShardLock
from gatepost.queue.records import Body, JobResult, JobState, NewMessage, QueuedMessage
from gatepost.queue.rows import JobKey
from gatepost.queue.statistics import QueueStatistics, read_statistics
from gatepost.queue.writer import Addition, Writer
from gatepost.storage.errors import StorageError, StorageUnavailable, storage_errors
from gatepost.storage.migrate import migrate
from gatepost.storage.sqlite import connect, transaction

DATABASE = "queue.sqlite"
BODIES = "bodies"
SYNC_THREADS = 4  # body files synced at a time: journaling file systems sync several as fast as one


class QueueShard:
    """See the module. All methods are for the thread of the event loop that was running at `open`."""

    def __init__(self, folder: Path, number: int, *, settings: QueueSettings, clock: Clock) -> None:
        """`folder` is `<home>/queue/<number>`; nothing is touched before `open`."""
        self.number = number
        self._folder = folder
        self._path = folder / DATABASE
        self._bodies = folder / BODIES
        self._settings = settings
        self._clock = clock
        self._lock = ShardLock(folder / "lock")
        self._leased: set[JobKey] = set()
        self._unsynced: dict[int, int] = {}  # descriptors of body files by message
        self._sync_threads: ThreadPoolExecutor | None = None
        self._closed = True

    def open(self) -> None:
        """Lock, migrate, recover, start. Call it within the event loop. Raises ShardBusy, StorageError."""
        self._loop = asyncio.get_running_loop()
        with file_errors(self._bodies):
            self._bodies.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.take()
        try:
            migrate(self._path, "queue")
            self._connection = connect(self._path, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise
        except BaseException:
            self._lock.give_back()
            raise
        self._writer.start()
        self._closed = False

    def _prepare(self) -> None:
        connection = self._connection
        with storage_errors(self._path):
            # Debian's SQLite overwrites all that is deleted with zeros, which doubles what a message writes. FAST does
            # so only in pages that are written anyhow.
            connection.execute("PRAGMA secure_delete = FAST")
            # A log that grew while a reader kept it from being used again shall not stay that large.
            connection.execute("PRAGMA journal_size_limit = 67108864")
            with transaction(connection):
                self._last_given = rows.prepare_shard(connection, self.number, self._clock.now())
            with file_errors(self._bodies):
                sweep(self._bodies, lambda numbers: rows.existing(connection, numbers))
        self._ids = QueueIdSource(self.number, self._clock, self._last_given)
        self._writer = Writer(
            connection, self._path, shard=self.number, last_number=self._last_given, settle=self._settle
        )

    def close(self) -> None:
        """Commit what is pending, end the thread, let go of the shard.

        What is still leased is due at once when the shard is opened next. Raises StorageError if results could not be
        written: those jobs will be attempted again.
        """
        if self._closed:
            return
        self._closed = True
        if self._sync_threads is not None:
            self._sync_threads.shutdown(wait=True)
        error = self._writer.close()
        try:
            with suppress(sqlite3.Error):  # numbers of messages that were never stored; those that were are safe
                rows.set_last_number(self._connection, self.number, self._last_given)
            self._connection.close()
        finally:
            self._lock.give_back()
        if error is not None:
            raise error

    # Taking mail in

    def next_number(self) -> int:
        """A queue number never given before, nor after the clock was set back, nor after a restart."""
        self._last_given = self._ids.next_number()
        return self._last_given

    def body_writer(self, number: int) -> BodyWriter:
        """Where the bytes of message `number` go."""
        return BodyWriter(self._bodies / queue_id(number), number, self._settings.body_file_size, self._unsynced)

    def add(self, message: NewMessage, *, keep_active: bool = True) -> asyncio.Future[QueuedMessage]:
        """Store a message; done when it is on disk. Fails with StorageFull or StorageUnavailable: nothing was stored.

        Its jobs are active and the caller has them, but for those handed in on HOLD. With `keep_active` False they wait
        and are due at once, `activated_at` is 0, and it is `take_due` that gives them out. So it goes with a message
        whose future was cancelled.
        """
        stored: asyncio.Future[QueuedMessage] = self._loop.create_future()
        if self._closed:
            stored.set_exception(StorageUnavailable(self._path, "this part of the queue is closed"))
            return stored
        now = self._clock.now()
        state = JobState.ACTIVE if keep_active else JobState.WAITING
        job_rows = rows.job_rows(message, state, now)
        addition = Addition(message, stored, keep_active, rows.message_row(message), job_rows)
        if keep_active:
            self._leased.update(addition.keys())
        if message.body.path is None:
            self._writer.add(addition)
        else:
            self._sync_first(addition, message.body.path)
        return stored

    def _sync_first(self, addition: Addition, path: Path) -> None:
        """Sync the file in another thread, so that small messages need not wait for it; then store the message."""
        if self._sync_threads is None:
            self._sync_threads = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix=f"queue-{self.number}-sync")
        file = self._unsynced.pop(addition.message.number)

        def sync() -> None:
            try:
                sync_file(file, path)
            except StorageError as error:
                remove(path)
                addition.error = error
                self._loop.call_soon_threadsafe(self._settle, [addition])
            else:
                self._writer.add(addition)

        self._sync_threads.submit(sync)

    def _settle(self, additions: Sequence[Addition]) -> None:
        now = self._clock.now()
        for addition in additions:
            stored, message = addition.stored, addition.message
            if addition.error is not None:
                self._leased.difference_update(addition.keys())
                if not stored.done():
                    stored.set_exception(addition.error)
            elif stored.done():  # cancelled: it is stored all the same, and nobody has it in memory
                if addition.keep_active:
                    self._let_go(addition.keys())
            else:
                jobs = addition.jobs()
                for job in jobs:
                    job.state = JobState.ACTIVE if addition.keep_active else JobState.WAITING
                stored.set_result(
                    QueuedMessage(
                        number=message.number,
                        envelope=message.envelope,
                        body=message.body,
                        arrived_at=message.arrived_at,
                        jobs=jobs,
                        is_bounce=message.is_bounce,
                        activated_at=now if addition.keep_active else 0.0,
                    )
                )

    # Sending mail on

    def finish(self, results: Iterable[JobResult]) -> None:
        """Write how attempts ended: with the next commit, at the latest in 0.1 s, and again until it is written."""
        results = list(results)
        for result in results:
            self._leased.discard((result.message, result.job))
        self._writer.finish(results)

    async def take_due(self, limit: int, *, max_bytes: int | None = None) -> list[QueuedMessage]:
        """Lease at most `limit` waiting jobs that are due, by message, those due longest first.

        Stops before the bodies in memory are more than `max_bytes`, but gives at least one message. Raises StorageError.
        """
        now = self._clock.now()

        def take(connection: sqlite3.Connection) -> list[QueuedMessage]:
            with transaction(connection):
                due = rows.due_jobs(connection, now, limit)
                leased = [key for key in due if key in self._leased]
                free = [key for key in due if key not in self._leased]
                messages = rows.load(connection, free, self._bodies, max_bytes)
                taken = [(message.number, job.number) for message in messages for job in message.jobs]
                rows.activate(connection, taken + leased)  # what is leased is active, whatever an operator made of it
            self._leased.update(taken)
            self._writer.in_files.update(message.number for message in messages if message.body.path is not None)
            return messages

        def forget(messages: list[QueuedMessage]) -> None:
            self._let_go([(message.number, job.number) for message in messages for job in message.jobs])

        answer = self._writer.call(take, forget=forget)
        try:
            messages = await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                forget(answer.result())  # cancelled between the answer and our turn: nobody else knows of it
            raise
        for message in messages:
            message.activated_at = now
            for job in message.jobs:
                job.state = JobState.ACTIVE
        return messages

    async def release_lease(self, jobs: Collection[JobKey]) -> None:
        """Give jobs (message, job number) back: they wait and are due now, but those on hold stay so. Raises StorageError."""
        await self._release(jobs)

    def _let_go(self, jobs: Collection[JobKey]) -> None:
        if jobs and not self._closed:
            # Should it fail, the rows stay active until the shard is opened next.
            self._release(jobs).add_done_callback(lambda answer: answer.cancelled() or answer.exception())

    def _release(self, jobs: Collection[JobKey]) -> asyncio.Future[None]:
        now = self._clock.now()
        self._leased.difference_update(jobs)

        def release(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                rows.release(connection, jobs, now)

        return self._writer.call(release)

    async def next_due_at(self) -> float | None:
        """When the next waiting job is due (seconds since 1970; may be past); None where none waits."""
        return await self._writer.call(rows.first_due_at)

    async def existing(self, numbers: Collection[int]) -> set[int]:
        """Which of these messages still have jobs, counting all results handed in before. Raises StorageError."""
        return await self._writer.call(lambda connection: rows.existing(connection, numbers))

    async def body(self, number: int) -> Body:
        """The body of a message, read again; in memory where it is small. Raises StorageError, or LookupError where there
        is no such message."""
        body = await self._writer.call(lambda connection: rows.load_body(connection, number, self._bodies))
        if body is None:
            raise LookupError(f"{queue_id(number)} is no longer in the queue")
        return body

    async def changed(self, numbers: Collection[int]) -> dict[int, frozenset[int]]:
        """Which jobs of each of these messages are still to be done, after an operator changed some.

        The caller drops the others: those in flight it leaves alone, those not yet begun it gives to `release_lease`,
        which leaves them held or deleted as they are. Raises StorageError.
        """
        active = await self._writer.call(lambda connection: rows.active_jobs(connection, numbers))
        to_do: dict[int, set[int]] = {number: set() for number in numbers}
        for message, job in active:
            to_do[message].add(job)
        return {number: frozenset(jobs) for number, jobs in to_do.items()}

    async def statistics(self) -> QueueStatistics:
        """Counts by state. Reads every job, in another thread; for a page or a metric, not for each message."""
        return await self._loop.run_in_executor(None, read_statistics, self._path)
