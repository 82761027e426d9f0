"""Chain: a listener's restriction lists, run in Postfix's order when a recipient is named: helo, sender, relay, recipient, and
last whether the recipient exists.

A reject ends everything; a permit ends its own list; the relay rule stands by itself and no permit passes it by.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from gatepost.auth.sender_rights import SenderRights
from gatepost.config.settings import ListenerSettings
from gatepost.mail.reply import Reply
from gatepost.mail.steps import Steps
from gatepost.policy.relay import PERMITS, RELAY_DENIED, may_relay
from gatepost.policy.restrictions import ALWAYS_LAST, RESTRICTIONS, List, Permit, Restriction
from gatepost.policy.situation import Situation


class UnknownRestriction(ValueError):
    """A list names a restriction that there is none of, or that may not stand there. The text names list and nearest name."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`refusal` None: the recipient is accepted. `restriction` names the check that decided."""

    refusal: Reply | None
    restriction: str


class Chain:
    """The lists of one listener, checked once."""

    def __init__(self, listener: ListenerSettings, rights: SenderRights) -> None:
        """Raises UnknownRestriction."""
        self._listener = listener
        self._rights = rights
        self._helo = _named("helo", listener.helo_restrictions)
        self._sender = _named("sender", listener.sender_restrictions)
        self._recipient = [*_named("recipient", listener.recipient_restrictions), ALWAYS_LAST]
        check_relay_restrictions(listener)

    async def judge(self, situation: Situation, steps: Steps | None = None) -> Verdict:
        """May this recipient be accepted? Raises StorageError where the directory cannot be read."""
        for restrictions in (self._helo, self._sender):
            verdict = await self._run(restrictions, situation, steps)
            if verdict is not None:
                return verdict
        resolution = situation.resolution
        relay = may_relay(self._listener, situation.peer, situation.identity, is_ours=resolution.is_ours)
        if steps is not None:
            steps.note("relay: {}", relay.rule if relay.allowed else f"{relay.rule} refuses")
        if not relay.allowed:
            refusal = Reply(RELAY_DENIED.code, RELAY_DENIED.enhanced, f"<{resolution.address}>: {RELAY_DENIED.text}")
            return Verdict(refusal, relay.rule)
        verdict = await self._run(self._recipient, situation, steps)
        if verdict is None and resolution.refusal is not None:
            # A permit in the recipient list does not create the mailbox.
            verdict = await self._run([ALWAYS_LAST], situation, steps)
        return verdict or Verdict(None, relay.rule)

    async def _run(
        self, restrictions: Sequence[Restriction], situation: Situation, steps: Steps | None
    ) -> Verdict | None:
        for restriction in restrictions:
            answer = await restriction.check(situation, self._rights)
            if answer is None:
                continue
            if isinstance(answer, Permit):
                if steps is not None:
                    steps.note("{} permits", restriction.name)
                return None
            if steps is not None:
                steps.note("{} refuses: {}", restriction.name, answer)
            return Verdict(answer, restriction.name)
        return None


def check_relay_restrictions(listener: ListenerSettings) -> None:
    """Raises UnknownRestriction unless the list holds permits of the relay rule only."""
    for name in listener.relay_restrictions:
        if name not in PERMITS and name != "reject_unauth_destination":
            raise UnknownRestriction(_unknown("relay", name, [*PERMITS, "reject_unauth_destination"]))


def _named(where: List, names: Sequence[str]) -> list[Restriction]:
    found = []
    for name in names:
        restriction = RESTRICTIONS.get(name)
        if restriction is None or where not in restriction.lists:
            raise UnknownRestriction(
                _unknown(where, name, [row.name for row in RESTRICTIONS.values() if where in row.lists])
            )
        found.append(restriction)
    return found


def _unknown(where: str, name: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {nearest[0]}?" if nearest else f"; it may hold {', '.join(known)}"
    return f"{where}_restrictions: {name!r} is no restriction that may stand there{hint}"
