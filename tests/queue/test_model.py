"""The shard and its operators against a dictionary, in whatever order hypothesis thinks of."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gatepost.mail.clock import FakeClock
from gatepost.mail.outcome import Outcome
from gatepost.mail.queue_id import queue_id
from gatepost.queue.inspect import Change, QueueFilter, QueueInspector
from gatepost.queue.records import JobResult, JobState
from gatepost.queue.rows import JobKey
from gatepost.queue.shard import QueueShard
from queue_samples import CONTENT, DEFERRED, DELIVERED, FAILED, SETTINGS, new_message

A, W, H = JobState.ACTIVE, JobState.WAITING, JobState.HOLD
PICKS = st.lists(st.integers(0, 30), max_size=4)


class ShardMachine(RuleBasedStateMachine):
    """`jobs` is what should be in the database, `leased` what the worker has in memory."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gatepost-model-"))
        self.clock = FakeClock()
        self.loop = asyncio.new_event_loop()
        self.inspector = QueueInspector(self.folder, self.clock)
        self.jobs: dict[JobKey, tuple[JobState, float]] = {}
        self.leased: set[JobKey] = set()
        self.large: set[int] = set()
        self.highest = 0
        self._open()

    def _open(self) -> None:
        self.shard = QueueShard(self.folder / "1", 1, settings=SETTINGS, clock=self.clock)

        async def opened() -> None:
            self.shard.open()

        self.loop.run_until_complete(opened())

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.shard.close()
            self.loop.close()
            shutil.rmtree(self.folder)

    @rule(recipients=st.integers(1, 3), large=st.booleans(), keep=st.booleans())
    def add(self, recipients: int, large: bool, keep: bool) -> None:
        async def added() -> int:
            content = CONTENT + b"x" * (9000 if large else 0)
            message = new_message(self.shard, *(f"u{at}@b.test" for at in range(recipients)), content=content)
            return (await self.shard.add(message, keep_active=keep)).number

        number = self.loop.run_until_complete(added())
        assert number > self.highest
        self.highest = number
        keys = [(number, at) for at in range(recipients)]
        self.jobs.update(dict.fromkeys(keys, (A if keep else W, self.clock.now())))
        self.leased.update(keys if keep else ())
        self.large.update([number] if large else ())

    @precondition(lambda self: self.leased)
    @rule(picks=PICKS, outcome=st.sampled_from([DELIVERED, FAILED, DEFERRED]), pause=st.integers(0, 3))
    def finish(self, picks: list[int], outcome: Outcome, pause: int) -> None:
        at = self.clock.now() + pause
        done = self._pick(self.leased, picks)

        async def finished() -> None:
            self.shard.finish([JobResult(message, job, outcome, at) for message, job in done])

        self.loop.run_until_complete(finished())
        self.leased -= set(done)
        for key in done:
            if outcome is not DEFERRED:
                self.jobs.pop(key, None)
            elif key in self.jobs:
                self.jobs[key] = (H if self.jobs[key][0] is H else W, at)

    @rule(limit=st.integers(1, 5))
    def take_due(self, limit: int) -> None:
        taken = self.loop.run_until_complete(self.shard.take_due(limit))
        due = sorted((at, *key) for key, (state, at) in self.jobs.items() if state is W and at <= self.clock.now())
        found = {(message.number, job.number) for message in taken for job in message.jobs}
        assert len(found) == sum(len(message.jobs) for message in taken)
        assert not found & self.leased
        due_at = {(number, job): at for at, number, job in due}
        assert found <= due_at.keys()
        # Those due longest: none is left out that is due longer than one that was given.
        chosen = found | {key for key in due_at if key in self.leased and self._was_activated(key)}
        assert len(chosen) == min(limit, len(due))
        latest = max((due_at[key] for key in chosen), default=0.0)
        assert all(at >= latest for key, at in due_at.items() if key not in chosen)
        for key in chosen:
            self.jobs[key] = (A, self.jobs[key][1])
        self.leased |= found

    def _was_activated(self, key: JobKey) -> bool:
        shown = self.inspector.show(key[0])
        return shown is not None and any(job.number == key[1] and job.state is A for job in shown.jobs)

    @precondition(lambda self: self.leased)
    @rule(picks=PICKS)
    def release_lease(self, picks: list[int]) -> None:
        given_back = self._pick(self.leased, picks)
        self.loop.run_until_complete(self.shard.release_lease(given_back))
        self.leased -= set(given_back)
        for key in given_back:
            if self.jobs.get(key, (W, 0.0))[0] is A:
                self.jobs[key] = (W, self.clock.now())

    @rule(picks=PICKS, verb=st.sampled_from(["hold", "release", "retry", "delete"]))
    def operate(self, picks: list[int], verb: str) -> None:
        self.loop.run_until_complete(self.shard.existing([]))  # results handed in before are written
        which = frozenset(number for number, _ in self._pick(self.jobs.keys(), picks))
        change = getattr(self.inspector, verb)(QueueFilter(which))
        touched = []
        for key, (state, at) in list(self.jobs.items()):
            if key[0] not in which:
                continue
            touched.append(key)
            if verb == "hold" and state is not H:
                self.jobs[key] = (H, at)
            elif (verb == "release" and state is H) or (verb == "retry" and state is W):
                self.jobs[key] = (W, self.clock.now())
            elif verb == "delete":
                del self.jobs[key]
            else:
                touched.pop()
        assert change == Change(sorted({number for number, _ in touched}), len(touched))
        to_do = self.loop.run_until_complete(self.shard.changed(which))
        assert to_do == {
            number: frozenset(key[1] for key, (state, _) in self.jobs.items() if key[0] == number and state is A)
            for number in which
        }

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(back=st.booleans())
    def restart(self, back: bool) -> None:
        self.shard.close()
        if back:
            self.clock.advance(-2.0)
        self._open()
        self.leased.clear()
        self.jobs = {
            key: (W, self.clock.now()) if state is A else (state, at) for key, (state, at) in self.jobs.items()
        }

    @invariant()
    def the_database_says_the_same(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.loop.run_until_complete(self.shard.existing([]))
        found = {}
        for message in self.inspector.messages(QueueFilter()):
            for job in message.jobs:
                found[(message.number, job.number)] = (job.state, job.next_attempt_at)
        assert self._without_times_of_active(found) == self._without_times_of_active(self.jobs)
        waiting = [at for state, at in self.jobs.values() if state is W]
        assert self.loop.run_until_complete(self.shard.next_due_at()) == min(waiting, default=None)
        files = {path.name for path in (self.folder / "1" / "bodies").iterdir()}
        assert files == {queue_id(number) for number in self.large & {number for number, _ in self.jobs}}

    @staticmethod
    def _without_times_of_active(jobs: dict[JobKey, tuple[JobState, float]]) -> dict[JobKey, tuple[JobState, float]]:
        return {key: (state, 0.0 if state is A else at) for key, (state, at) in jobs.items()}

    @staticmethod
    def _pick(keys: Collection[JobKey], picks: list[int]) -> list[JobKey]:
        ordered = sorted(keys)
        return sorted({ordered[pick % len(ordered)] for pick in picks}) if ordered else []


TestShard = ShardMachine.TestCase
TestShard.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
