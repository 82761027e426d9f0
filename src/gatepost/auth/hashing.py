"""HashingPool: hashes made and compared off the event loop, so many at a time and no more.

Promises: at most `hash_threads` hashes are computed at once, even if those who waited for them have gone; at most
`waiting_limit` wait for their turn, first come first served; whoever comes beyond that is told at once (Overloaded), so
a flood of logins costs bounded memory and mail goes on: argon2 runs without the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gatepost.auth.passwords import hash_password, needs_rehash, stand_in, verify_password
from gatepost.config.settings import PasswordSettings

WAITING_LIMIT = 200
NICENESS = 10  # how far hashing stands back behind the event loops when the processor is short

Verify = Callable[[str, str], bool]
Result = TypeVar("Result")


class Overloaded(Exception):
    """Too many hashes wait already: a temporary failure."""


class HashingPool:
    """A few threads for hashes. Belongs to one event loop; close it when that ends."""

    def __init__(
        self, settings: PasswordSettings, *, waiting_limit: int = WAITING_LIMIT, verify: Verify = verify_password
    ) -> None:
        """`verify` compares a stored password with a given one, in a thread; tests count with it."""
        self._settings = settings
        self._stand_in = stand_in(settings)
        self._verify = verify
        self._waiting_limit = waiting_limit
        self._waiting = 0
        self._turn = asyncio.Semaphore(settings.hash_threads)
        self._threads = ThreadPoolExecutor(settings.hash_threads, "hash", initializer=_stand_back)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return self._waiting

    async def verify(self, stored: str, password: str) -> bool:
        """Whether `stored` was made of `password`. Raises UnknownStoredForm, HashingFailed, Overloaded."""
        return await self._in_turn(lambda: self._verify(stored, password))

    async def verify_nobody(self, password: str) -> None:
        """Take as long as `verify` does, for a login that has nothing to compare with. Raises as `verify` does."""
        await self._in_turn(lambda: self._verify(self._stand_in, password))

    async def hash(self, password: str) -> str:
        """`password` as it is stored. Raises BadPassword, HashingFailed, Overloaded."""
        return await self._in_turn(lambda: hash_password(password, self._settings))

    def needs_rehash(self, stored: str) -> bool:
        """Whether `stored` was made with other parameters than those set now. Raises UnknownStoredForm."""
        return needs_rehash(stored, self._settings)

    def close(self) -> None:
        """Let the hashes that run come to their end; nothing else is begun."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _in_turn(self, work: Callable[[], Result]) -> Result:
        if self._turn.locked() and self._waiting >= self._waiting_limit:
            raise Overloaded(f"{self._waiting} logins wait for their password to be hashed already")
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        loop = asyncio.get_running_loop()
        # The turn ends when the thread is done, not when the session that asked has gone: else a peer that asks and
        # hangs up, again and again, would heap up hashes behind the threads.
        future = self._threads.submit(work)
        future.add_done_callback(lambda _: _end_turn(loop, self._turn))
        return await asyncio.wrap_future(future)


def _end_turn(loop: asyncio.AbstractEventLoop, turn: asyncio.Semaphore) -> None:
    try:
        loop.call_soon_threadsafe(turn.release)
    except RuntimeError:
        pass  # the loop was closed meanwhile: nobody waits any more


def _stand_back() -> None:
    """Let event loops go first. On Linux a niceness belongs to one thread; elsewhere it would slow the process."""
    if sys.platform == "linux":
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        except OSError:
            pass  # not permitted in some containers; hashing works without it
