"""The questions a worker asks, answered from memory until anybody changes anything.

Each look-up first asks the store for its generation (SQLite: `PRAGMA data_version`, about 3 µs). While that stands,
answers come out of bounded dicts, "there is none" among them; once it moves, all are forgotten. So a change is seen at
the very next look-up, and a storm of unknown addresses costs bounded memory and one indexed SELECT each.

Records that are switched off are returned too, with `active` false. Raises StorageError when the store cannot be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from gatepost.directory.records import Account, Domain, Forward
from gatepost.directory.selects import (
    ACCOUNT,
    DOMAIN,
    FIRST_DOMAIN,
    FORWARD,
    FORWARDS_TO,
    account_of,
    domain_of,
    forwards_of,
)
from gatepost.storage.reader import Reader, SqliteReader

Answer = TypeVar("Answer")

MAX_ANSWERS = 4096  # of each kind; about 1 MB for each 1,000 accounts


class Directory:
    """Who lives here, as one worker sees it. Belongs to one event loop and its thread; make it after the fork."""

    def __init__(self, path: Path | str, *, reader: Reader | None = None, max_answers: int = MAX_ANSWERS) -> None:
        """Look things up in the SQLite file `path`, migrated before, or in `reader`. Raises StorageUnavailable."""
        self._reader = reader if reader is not None else SqliteReader(path)
        self._max_answers = max_answers
        self._generation = -1
        self._domains: dict[str, Domain | None] = {}
        self._accounts: dict[str, Account | None] = {}
        self._forwards: dict[str, Forward | None] = {}
        self._forwards_to: dict[str, tuple[Forward, ...]] = {}
        self._first_domain: dict[str, Domain | None] = {}

    async def domain(self, name: str) -> Domain | None:
        """The domain of this name (A-labels, lower case)."""
        generation = self.generation()
        if name in self._domains:
            return self._domains[name]
        rows = await self._reader.rows(DOMAIN, {"name": name})
        return self._remember(self._domains, name, domain_of(rows[0]) if rows else None, generation)

    async def first_domain(self) -> Domain | None:
        """The domain that was added first of those that still exist; where bare `postmaster` belongs."""
        generation = self.generation()
        if "" in self._first_domain:
            return self._first_domain[""]
        rows = await self._reader.rows(FIRST_DOMAIN, {})
        return self._remember(self._first_domain, "", domain_of(rows[0]) if rows else None, generation)

    async def account(self, key: str) -> Account | None:
        """The account of this address, given as `Address.key`."""
        generation = self.generation()
        if key in self._accounts:
            return self._accounts[key]
        rows = await self._reader.rows(ACCOUNT, {"key": key})
        return self._remember(self._accounts, key, account_of(rows[0]) if rows else None, generation)

    async def forward(self, source: str) -> Forward | None:
        """The forward of exactly this source, an `Address.key` or `@domain`."""
        generation = self.generation()
        if source in self._forwards:
            return self._forwards[source]
        forwards = forwards_of(await self._reader.rows(FORWARD, {"key": source}))
        return self._remember(self._forwards, source, forwards[0] if forwards else None, generation)

    async def forwards_to(self, target: str) -> tuple[Forward, ...]:
        """All forwards that name exactly this target, an `Address.key` or `@domain`, ordered by source."""
        generation = self.generation()
        if target in self._forwards_to:
            return self._forwards_to[target]
        forwards = tuple(forwards_of(await self._reader.rows(FORWARDS_TO, {"key": target})))
        return self._remember(self._forwards_to, target, forwards, generation)

    def close(self) -> None:
        """Close the store."""
        self._reader.close()

    def generation(self) -> int:
        """A number that changes with every change of the directory; what was learnt before is forgotten then."""
        generation = self._reader.generation()
        if generation != self._generation:
            for answers in (self._domains, self._accounts, self._forwards, self._forwards_to, self._first_domain):
                answers.clear()
            self._generation = generation
        return generation

    def _remember(self, answers: dict[str, Answer], key: str, answer: Answer, generation: int) -> Answer:
        if generation == self._generation:  # else it may be older than a change that came while we waited
            if len(answers) >= self._max_answers:
                del answers[next(iter(answers))]  # the oldest
            answers[key] = answer
        return answer
