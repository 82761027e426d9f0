"""Forwards, followed to their ends.

For `user+tag@d` these are asked in this order, and the first that exists decides: the forward of the whole address, its account,
the forward of `user@d`, the account `user@d`, the catch-all `@d`. Forwards that are switched off and accounts without a
mailbox do not count. So a catch-all never takes an account's mail (in Postfix it would), and "keep a copy" is a property of
a forward. A forward that names its own source among its targets keeps a copy too, as Postfix's tables say it.

Limits: a chain longer than `recursion_limit`, more than `expansion_limit` recipients, and a loop (named, with the addresses on
it) are faults: mail for the address waits at its sender until somebody has mended the forward. Forwards that spread out and
meet again cost no more than each address once for each length of chain that leads to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from gatepost.config.settings import ForwardSettings
from gatepost.directory.records import Account, Domain, Forward, parse_end
from gatepost.mail.address import MAX_LOCAL, Address, BadAddress
from gatepost.mail.steps import Steps


class Residents(Protocol):
    """What routing asks of the directory."""

    async def domain(self, name: str) -> Domain | None: ...
    async def account(self, key: str) -> Account | None: ...
    async def forward(self, source: str) -> Forward | None: ...
    async def first_domain(self) -> Domain | None: ...
    def generation(self) -> int: ...


class ExpansionFault(Exception):
    """The forwards of an address cannot be followed. The text is for the operator."""


class NoSuchRecipient(Exception):
    """The domain is ours and nobody there has this address. `disabled`: somebody had."""

    def __init__(self, address: Address, *, disabled: bool = False) -> None:
        super().__init__(str(address))
        self.address = address
        self.disabled = disabled


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An end of an expansion: the account's mailbox; `address` still has its tag."""

    address: Address
    account: Address


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An end of an expansion: an address in a domain that is not ours."""

    address: Address


End = Mailbox | Elsewhere


@dataclass(slots=True)
class Expansion:
    """One address on its way to its ends."""

    directory: Residents
    settings: ForwardSettings
    delimiter: str
    steps: Steps
    ends: dict[str, End] = field(default_factory=dict)
    _followed: dict[str, int] = field(default_factory=dict)  # by key, how long a chain led there
    _steps_left: int = field(init=False)

    def __post_init__(self) -> None:
        """So many addresses may be looked at: more than any expansion within the limits has, but for dead targets."""
        self._steps_left = self.settings.expansion_limit * (self.settings.recursion_limit + 1)

    async def follow(self, address: Address, chain: tuple[str, ...] = ()) -> None:
        """Add the ends of `address`. Raises ExpansionFault; NoSuchRecipient for the address asked for, never for a target."""
        if address.key in chain:
            raise ExpansionFault(
                f"forwards go in a circle: {' -> '.join([*chain[chain.index(address.key) :], address.key])}"
            )
        if len(chain) > self.settings.recursion_limit:
            raise ExpansionFault(f"more than {self.settings.recursion_limit} forwards in a row: {' -> '.join(chain)}")
        if self._followed.get(address.key, -1) >= len(chain):
            return  # other forwards led there, and by a chain as long
        self._followed[address.key] = len(chain)
        self._steps_left -= 1
        if self._steps_left < 0:
            raise ExpansionFault(f"too many forwards and dead targets behind {(*chain, address.key)[0]}")
        domain = await self.directory.domain(address.domain)
        if domain is None or not domain.active:
            self.steps.note("{} is not ours", address.domain)
            self._add(Elsewhere(address))
            return
        base, extension = address.split_extension(self.delimiter)
        forward = await self.directory.forward(address.key)
        if forward is not None and forward.active:
            await self._forward(forward, address, "", chain)
        elif (account := await self.directory.account(address.key)) is not None and account.has_mailbox:
            self._deliver(account, address)
        elif extension and (forward := await self.directory.forward(base.key)) is not None and forward.active:
            await self._forward(forward, address, extension, chain)
        elif extension and (account := await self.directory.account(base.key)) is not None and account.has_mailbox:
            self.steps.note("{} is {} with the tag {}", address, base, extension)
            self._deliver(account, address)
        elif (forward := await self.directory.forward(f"@{address.domain}")) is not None and forward.active:
            await self._forward(forward, address, "", chain)
        else:
            self.steps.note("{} has neither an account nor a forward", address)
            raise NoSuchRecipient(address)

    def _deliver(self, account: Account, address: Address) -> None:
        if not account.active:
            self.steps.note("account {} is disabled", account.address)
            raise NoSuchRecipient(address, disabled=True)
        self.steps.note("account {} keeps it", account.address)
        self._add(Mailbox(address, account.address))

    def _add(self, end: End) -> None:
        self.ends.setdefault(end.address.key, end)
        if len(self.ends) > self.settings.expansion_limit:
            raise ExpansionFault(
                f"an address may become {self.settings.expansion_limit} recipients, this one becomes more"
            )

    async def _forward(self, forward: Forward, address: Address, extension: str, chain: tuple[str, ...]) -> None:
        self.steps.note(
            "forward {} -> {}{}", forward.source, ", ".join(forward.targets), " (keeps a copy)" * forward.keep_copy
        )
        chain = (*chain, address.key)
        own = address.split_extension(self.delimiter)[0] if extension else address
        keep = forward.keep_copy
        for target in forward.targets:
            try:
                to = self._target(target, address, extension)
            except BadAddress:  # written into the table by hand
                self.steps.note("target {} is dropped: it is no address", target)
                continue
            if to.key in (address.key, own.key):
                keep = True
            else:
                await self._follow_target(to, chain)
        if keep:
            await self._keep_copy(own, address)

    async def _keep_copy(self, own: Address, address: Address) -> None:
        account = await self.directory.account(own.key)
        if account is None or not account.has_mailbox:
            self.steps.note("{} has no mailbox to keep a copy in", own)
        elif not account.active and self.ends:
            # The account's own mailbox is a target like others: where it is closed, they get their mail all the same.
            self.steps.note("account {} is disabled and keeps no copy", account.address)
        else:
            self._deliver(account, address)

    def _target(self, text: str, address: Address, extension: str) -> Address:
        target = parse_end(text)
        if not target.local:
            return address.with_domain(target.domain)
        if extension and self.settings.propagate_extension:
            tagged = f"{target.local}{self.delimiter}{extension}"
            if len(tagged.encode()) <= MAX_LOCAL:  # a longer one is no address; the tag is lost, not the mail
                return Address(tagged, target.domain)
        return Address(target.local, target.domain)

    async def _follow_target(self, target: Address, chain: tuple[str, ...]) -> None:
        try:
            await self.follow(target, chain)
        except NoSuchRecipient as missing:
            # One dead target must not cost the others their mail; where all are dead nothing is left, and that is told.
            self.steps.note("target {} is dropped: nobody has it", missing.address)
