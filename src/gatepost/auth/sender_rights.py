"""SenderRights: which addresses an account may write as sender (Postfix: smtpd_sender_login_maps and the mismatch checks).

An address is an account's own if mail to it goes straight to the account:
- its own address, with or without a tag;
- the source of a forward that names the account as a target (`sales@` -> the account), with or without a tag;
- any other address of a domain whose catch-all names the account, or the same local part at the account's domain, as
  target; but not one that is somebody else's: another account's, or the source of another forward.
What is written for the tagged address goes before what is written for the one without, as it does for mail. One step
only: a forward to a forward gives no right. Case of letters does not count. Disabled forwards and domains give no
right; an account that was disabled since it logged in has none left.

The null sender is everybody's: receipts have no other (RFC 8098 §3, RFC 3834 §3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

from gatepost.auth.residents import Residents
from gatepost.directory.records import Account, Forward, parse_end
from gatepost.mail.address import Address, BadAddress
from gatepost.mail.peer import Identity
from gatepost.mail.steps import Steps


@dataclass(frozen=True, slots=True)
class SenderVerdict:
    """Whether a sender is allowed, and the steps that led there, the deciding one last. For operators."""

    allowed: bool
    steps: Steps

    @property
    def reason(self) -> str:
        """What decided."""
        return self.steps.lines()[-1]


class SenderRights:
    """Asks the directory anew each time, so a change counts from the next sender on."""

    def __init__(self, residents: Residents, recipient_delimiter: str) -> None:
        """`recipient_delimiter` separates `user` from `tag`; "" for no tags."""
        self._residents = residents
        self._delimiter = recipient_delimiter

    async def may_send_as(self, identity: Identity, sender: Address | None) -> SenderVerdict:
        """Whether who logged in as `identity` may write `sender` (None: the null sender). Raises StorageError."""
        steps = Steps()
        return SenderVerdict(await self._decide(identity.account, sender, steps), steps)

    async def has_owner(self, sender: Address) -> bool:
        """Whether `sender` is some account's own, so that nobody else should write it. Raises StorageError."""
        domain = await self._residents.domain(sender.domain)
        if domain is None or not domain.active:
            return False
        account, forward = await self._holder(sender)
        if account is not None:
            return True
        targets = _targets(forward, sender) if forward is not None and forward.active else []
        spellings = [spelling for target in targets for spelling in self._spellings(target)]
        return any([await self._residents.account(spelling.key) is not None for spelling in spellings])

    async def _decide(self, account: Address, sender: Address | None, steps: Steps) -> bool:
        if not await self._is_open(account):
            steps.note("account {} is gone or disabled", account)
            return False
        if sender is None:
            steps.note("the null sender is everybody's")
            return True
        domain = await self._residents.domain(sender.domain)
        if domain is None or not domain.active:
            steps.note("the domain of {} is {}", sender, "not ours" if domain is None else "disabled")
            return False
        holder, forward = await self._holder(sender)
        if holder is not None and holder.address.key == account.key:
            steps.note("{} is the account's own address", sender)
            return True
        if forward is not None:
            return self._grants(forward, account, sender, steps)
        if holder is not None:
            steps.note("{} belongs to another account, {}", sender, holder.address)
        else:
            steps.note("{} has neither an account nor a forward", sender)
        return False

    async def _holder(self, sender: Address) -> tuple[Account | None, Forward | None]:
        """The account and the forward, disabled or not, that the address belongs to first; both, one or neither."""
        for spelling in self._spellings(sender):
            account = await self._residents.account(spelling.key)
            forward = await self._residents.forward(spelling.key)
            if account is not None or forward is not None:
                return account, forward
        return None, await self._residents.forward(f"@{sender.domain}")

    def _grants(self, forward: Forward, account: Address, sender: Address, steps: Steps) -> bool:
        if not forward.active:
            steps.note("forward {} is disabled", forward.display)
            return False
        granted = any(
            spelling.key == account.key for target in _targets(forward, sender) for spelling in self._spellings(target)
        )
        steps.note("forward {} {} straight to {}", forward.display, "goes" if granted else "does not go", account)
        return granted

    async def _is_open(self, account: Address) -> bool:
        domain = await self._residents.domain(account.domain)
        found = await self._residents.account(account.key)
        return domain is not None and domain.active and found is not None and found.active

    def _spellings(self, address: Address) -> tuple[Address, ...]:
        """The address as it is, and without its tag if it has one. Nothing for an empty local part (`""@domain`)."""
        base, _ = address.split_extension(self._delimiter)
        spellings = (address, base) if base != address else (address,)
        return spellings if address.local else ()


def _targets(forward: Forward, sender: Address) -> list[Address]:
    """Where mail for `sender` goes by this forward; `@domain` is the same local part there."""
    targets = []
    for text in forward.targets:
        try:
            end = parse_end(text)
        except BadAddress:
            continue  # written into the table by hand: it leads nowhere
        targets.append(Address(end.local or sender.local, end.domain))
    return targets
