"""The questions auth asks of the directory, as a Protocol: `directory.lookups.Directory` answers them."""

from __future__ import annotations

from typing import Protocol

from gatepost.directory.records import Account, Domain, Forward


class Residents(Protocol):
    """Who lives here. Each may raise StorageError."""

    async def domain(self, name: str) -> Domain | None:
        """The domain of this name (A-labels, lower case), switched off or not."""

    async def account(self, key: str) -> Account | None:
        """The account of this `Address.key`, switched off or not."""

    async def forward(self, source: str) -> Forward | None:
        """The forward of exactly this source, an `Address.key` or `@domain`, switched off or not."""
