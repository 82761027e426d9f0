"""Router.resolve: an address -> where its mail goes, or why it cannot, with the steps that led there.

The live path and `gatepost explain recipient` are the same call. Answers are kept while the directory's generation stands, so a
thousand messages to one address cost one expansion, and a change is seen at the next command.
"""

from __future__ import annotations

from dataclasses import dataclass

from gatepost.config.settings import Settings
from gatepost.mail.address import Address, parse_address
from gatepost.mail.reply import Reply
from gatepost.mail.route import Route
from gatepost.mail.steps import Steps
from gatepost.routing.expansion import End, Expansion, ExpansionFault, Mailbox, NoSuchRecipient, Residents
from gatepost.routing.transports import Transports, to_mailbox

MAX_KEPT = 65_536  # answers, their targets and their steps, counted together; about 15 MB

USER_UNKNOWN = Reply(550, "5.1.1", "Recipient address rejected: User unknown")
DISABLED = Reply(550, "5.2.1", "Recipient address rejected: Mailbox disabled")
FORWARD_FAULT = Reply(451, "4.3.5", "Recipient address rejected: its forwarding is set up wrongly; try again later")


@dataclass(frozen=True, slots=True)
class Target:
    """One recipient after all forwards, and the way to it."""

    address: Address
    route: Route


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where mail for `address` goes: `targets`, or `refusal` where it cannot.

    `is_ours`: the domain is ours, or it is the bare postmaster, so that anybody may send there. `fault` is the operator's
    text where forwards are wrong.
    """

    address: Address
    is_ours: bool
    targets: tuple[Target, ...]
    steps: Steps
    refusal: Reply | None = None
    fault: str = ""


class Router:
    """Answers for one worker."""

    def __init__(self, directory: Residents, settings: Settings) -> None:
        self._directory = directory
        self._settings = settings
        self._transports = Transports(settings.delivery)
        self._postmaster = parse_address(settings.postmaster) if settings.postmaster else None
        self._generation = -1
        self._answers: dict[Address, Resolution] = {}
        self._kept = 0

    async def resolve(self, address: Address) -> Resolution:
        """Where mail for this address goes. Raises StorageError where the directory cannot be read."""
        generation = self._directory.generation()
        if generation != self._generation:
            self._answers.clear()
            self._kept = 0
            self._generation = generation
        answer = self._answers.get(address)
        if answer is None:
            answer = await self._resolve(address)
            if generation == self._generation:
                self._keep(address, answer)
        return answer

    def _keep(self, address: Address, answer: Resolution) -> None:
        """Remember an answer and forget the oldest. A list of thousands, asked for with ever new tags, must not fill memory."""
        if address in self._answers:
            return  # somebody asked at the same time
        self._answers[address] = answer
        self._kept += _weight(answer)
        while self._kept > MAX_KEPT:
            self._kept -= _weight(self._answers.pop(next(iter(self._answers))))

    async def _resolve(self, address: Address) -> Resolution:
        steps = Steps()
        asked = address
        if not address.domain:
            asked = await self._postmaster_address(steps)
            if not asked.domain:
                return Resolution(address, True, (), steps, USER_UNKNOWN)
        domain = await self._directory.domain(asked.domain)
        # RFC 5321 §4.5.1: mail for the bare postmaster is taken, wherever the setting sends it.
        is_ours = not address.domain or (domain is not None and domain.active)
        if domain is not None and not domain.active:
            steps.note("domain {} is disabled", domain.name)
        try:
            ends = await self._expand(asked, steps)
        except ExpansionFault as fault:
            steps.note("{}", fault)
            return Resolution(address, is_ours, (), steps, FORWARD_FAULT, str(fault))
        except NoSuchRecipient as missing:
            return Resolution(address, is_ours, (), steps, DISABLED if missing.disabled else USER_UNKNOWN)
        if not ends:
            steps.note("no target of {} is left", asked)
            return Resolution(address, is_ours, (), steps, USER_UNKNOWN)
        return Resolution(address, is_ours, tuple(self._target(end, steps) for end in ends), steps)

    async def _postmaster_address(self, steps: Steps) -> Address:
        """Whom the bare `postmaster` means (RFC 5321 §4.5.1)."""
        if self._postmaster is not None:
            steps.note("postmaster is {} by the setting postmaster", self._postmaster)
            return self._postmaster
        first = await self._directory.first_domain()
        if first is None:
            steps.note("postmaster belongs to the first domain, and there is none")
            return Address("postmaster", "")
        if not first.active:
            steps.note("postmaster belongs to the first domain, {}, and it is disabled", first.name)
            return Address("postmaster", "")
        steps.note("postmaster belongs to the first domain, {}", first.name)
        return Address("postmaster", first.name)

    async def _expand(self, address: Address, steps: Steps) -> list[End]:
        delimiter = self._settings.recipient_delimiter
        expansion = Expansion(self._directory, self._settings.forwards, delimiter, steps)
        try:
            await expansion.follow(address)
        except NoSuchRecipient as missing:
            # RFC 5321 §4.5.1: every domain that takes mail has a postmaster.
            fallback = self._postmaster
            if missing.disabled or address.local.lower() != "postmaster" or fallback in (None, address):
                raise
            assert fallback is not None
            steps.note("every domain has a postmaster: the setting postmaster names {}", fallback)
            await expansion.follow(fallback)
        return list(expansion.ends.values())

    def _target(self, end: End, steps: Steps) -> Target:
        if isinstance(end, Mailbox):
            return Target(end.address, to_mailbox(end.account))
        route, why = self._transports.to(end.address)
        steps.note("{} goes by {} ({})", end.address, route, why)
        return Target(end.address, route)


def _weight(answer: Resolution) -> int:
    return 1 + len(answer.targets) + answer.steps.count
