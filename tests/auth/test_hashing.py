"""The pool: at most so many at once, a bounded line, and turns that end with the work."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from gatepost.auth.hashing import HashingPool, Overloaded
from gatepost.auth.passwords import BadPassword, UnknownStoredForm
from gatepost.config.settings import Bytes, PasswordSettings

CHEAP = PasswordSettings(argon2_time_cost=1, argon2_memory_cost=Bytes(8 * 1024), hash_threads=2)


class Gate:
    """Stands in for argon2: each hash waits until the gate is opened; counts how many are in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = threading.Event()
        self.inside = self.most = self.done = 0

    def verify(self, stored: str, password: str) -> bool:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self._open.wait(30)
        with self._lock:
            self.inside -= 1
            self.done += 1
        return stored == password

    def open(self) -> None:
        self._open.set()


def run(scene: Callable[[HashingPool, Gate], Awaitable[None]], waiting_limit: int = 200) -> None:
    async def play() -> None:
        gate = Gate()
        pool = HashingPool(CHEAP, waiting_limit=waiting_limit, verify=gate.verify)
        try:
            await scene(pool, gate)
        finally:
            gate.open()
            await asyncio.to_thread(pool.close)

    asyncio.run(play())


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def test_a_password_is_hashed_and_compared_off_the_event_loop() -> None:
    async def play() -> None:
        pool = HashingPool(CHEAP)
        stored = await pool.hash("secret")
        assert await pool.verify(stored, "secret")
        assert not await pool.verify(stored, "other")
        assert not pool.needs_rehash(stored)
        await pool.verify_nobody("secret")
        with pytest.raises(BadPassword):
            await pool.hash("")
        with pytest.raises(UnknownStoredForm):
            await pool.verify("{CRYPT}x", "secret")
        pool.close()

    asyncio.run(play())


def test_the_event_loop_turns_while_hashes_are_computed() -> None:
    async def scene(pool: HashingPool, gate: Gate) -> None:
        asking = asyncio.ensure_future(pool.verify("a", "a"))
        await until(lambda: gate.inside == 1)  # the loop turned to see it
        assert not asking.done()
        gate.open()
        assert await asking

    run(scene)


def test_five_hundred_at_once_two_run_two_hundred_wait_and_the_rest_is_told() -> None:
    async def scene(pool: HashingPool, gate: Gate) -> None:
        asking = [asyncio.ensure_future(pool.verify("a", "a")) for _ in range(500)]
        await until(lambda: gate.inside == 2)
        assert pool.waiting == 200
        told = [one for one in asking if one.done()]
        assert len(told) == 298
        assert all(isinstance(one.exception(), Overloaded) for one in told)
        gate.open()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert answers.count(True) == 202
        assert (gate.most, gate.done, pool.waiting) == (2, 202, 0)
        assert await pool.verify("a", "a")  # and all is as before

    run(scene)


def test_who_goes_away_gives_up_the_place_but_not_the_thread() -> None:
    async def scene(pool: HashingPool, gate: Gate) -> None:
        running = [asyncio.ensure_future(pool.verify("a", "a")) for _ in range(2)]
        await until(lambda: gate.inside == 2)
        for _ in range(50):  # ask, hang up, ask again
            waiting = [asyncio.ensure_future(pool.verify("a", "a")) for _ in range(2)]
            await asyncio.sleep(0)
            for one in (*running, *waiting):
                one.cancel()
            await asyncio.gather(*running, *waiting, return_exceptions=True)
            running = []
            assert pool.waiting == 0
        gate.open()
        assert await pool.verify("a", "a")
        assert (gate.most, gate.done) == (2, 3)

    run(scene)


def test_no_place_to_wait_is_no_reason_to_refuse_who_need_not_wait() -> None:
    async def scene(pool: HashingPool, gate: Gate) -> None:
        asking = [asyncio.ensure_future(pool.verify("a", "a")) for _ in range(3)]
        await until(lambda: gate.inside == 2)
        assert isinstance(asking[2].exception(), Overloaded)
        gate.open()
        assert await asking[0]
        assert await asking[1]

    run(scene, waiting_limit=0)


def test_a_pool_may_outlive_its_loop() -> None:
    gate = Gate()
    pool = HashingPool(CHEAP, verify=gate.verify)

    async def ask_and_leave() -> None:
        asking = asyncio.ensure_future(pool.verify("a", "a"))
        await until(lambda: gate.inside == 1)
        asking.cancel()

    asyncio.run(ask_and_leave())
    gate.open()
    pool.close()  # the thread finds its loop closed, and says nothing (warnings are errors)
    assert gate.done == 1
