"""Villages: who lives where, for tests of those who ask the directory (routing, auth, policy, intake).

Village       a directory in dicts; takes anything, loops and dead targets too, and counts what it is asked
SqlVillage    the same words, kept by the real directory in an SQLite file; refuses what the command line refuses
now           run a coroutine that must not suspend, without an event loop
"""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from gatepost.directory.edits import DirectoryEdits
from gatepost.directory.lookups import Directory
from gatepost.directory.records import Account, Domain, Forward, parse_end
from gatepost.mail.address import parse_address

T = TypeVar("T")


def now(answer: Coroutine[Any, Any, T]) -> T:
    """What the coroutine gives, which must not suspend."""
    try:
        answer.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    answer.close()
    raise AssertionError("it suspended")


class Village:
    """A directory in dicts."""

    def __init__(self) -> None:
        self.domains: dict[str, Domain] = {}
        self.accounts: dict[str, Account] = {}
        self.forwards: dict[str, Forward] = {}
        self.asked = 0
        self._generation = 0

    def add_domain(self, name: str, *, active: bool = True) -> None:
        """A domain, or another state of one that is there."""
        self.domains[name] = Domain(name, active)
        self._generation += 1

    def add_account(self, text: str, *, active: bool = True, has_mailbox: bool = True) -> None:
        """An account, or another state of one that is there."""
        address = parse_address(text)
        self.accounts[address.key] = Account(address, "", active, has_mailbox)
        self._generation += 1

    def add_forward(self, source: str, *targets: str, keep_copy: bool = False, active: bool = True) -> None:
        """A forward in the place of one that may be there. Targets are not looked at."""
        key = parse_end(source).key
        self.forwards[key] = Forward(key, targets, keep_copy, active, source)
        self._generation += 1

    def generation(self) -> int:
        """Changes with each change."""
        return self._generation

    async def domain(self, name: str) -> Domain | None:
        """See directory.lookups."""
        self.asked += 1
        return self.domains.get(name)

    async def account(self, key: str) -> Account | None:
        """See directory.lookups."""
        self.asked += 1
        return self.accounts.get(key)

    async def forward(self, source: str) -> Forward | None:
        """See directory.lookups."""
        self.asked += 1
        return self.forwards.get(source)

    async def first_domain(self) -> Domain | None:
        """See directory.lookups."""
        self.asked += 1
        return next(iter(self.domains.values()), None)


class SqlVillage:
    """The real directory. Close it."""

    def __init__(self, path: Path) -> None:
        self.edits = DirectoryEdits(path)
        self.directory = Directory(path)

    def close(self) -> None:
        """Close both ends."""
        self.directory.close()
        self.edits.close()

    def add_domain(self, name: str, *, active: bool = True) -> None:
        """A new domain."""
        self.edits.add_domain(name)
        self.edits.set_domain_active(name, active)

    def add_account(self, text: str, *, active: bool = True, has_mailbox: bool = True) -> None:
        """A new account."""
        self.edits.add_account(text, has_mailbox=has_mailbox)
        self.edits.set_account_active(text, active)

    def add_forward(self, source: str, *targets: str, keep_copy: bool = False, active: bool = True) -> None:
        """A new forward."""
        self.edits.add_forward(source, targets, keep_copy=keep_copy)
        self.edits.set_forward_active(source, active)

    def generation(self) -> int:
        """See directory.lookups."""
        return self.directory.generation()

    async def domain(self, name: str) -> Domain | None:
        """See directory.lookups."""
        return await self.directory.domain(name)

    async def account(self, key: str) -> Account | None:
        """See directory.lookups."""
        return await self.directory.account(key)

    async def forward(self, source: str) -> Forward | None:
        """See directory.lookups."""
        return await self.directory.forward(source)

    async def first_domain(self) -> Domain | None:
        """See directory.lookups."""
        return await self.directory.first_domain()
