"""Chain: a listener's restriction lists, run in Postfix's order when a recipient is named: helo, sender, relay, recipient, and
last whether the recipient exists.

A reject ends everything; a permit ends its own list; the relay rule stands by itself and no permit passes it by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gatepost.auth.sender_rights import SenderRights
from gatepost.config.problems import Complaints, nearest
from gatepost.config.settings import ListenerSettings, Settings
from gatepost.mail.reply import Reply
from gatepost.mail.steps import Steps
from gatepost.policy.relay import PERMITS, RELAY_DENIED, may_relay
from gatepost.policy.restrictions import ALWAYS_LAST, RESTRICTIONS, List, Permit, Restriction
from gatepost.policy.situation import Situation


@dataclass(frozen=True, slots=True)
class Verdict:
    """`refusal` None: the recipient is accepted. `restriction` names the check that decided."""

    refusal: Reply | None
    restriction: str


class Chain:
    """The lists of one listener, whose names `check_restrictions` has found good."""

    def __init__(self, listener: ListenerSettings, rights: SenderRights) -> None:
        self._listener = listener
        self._rights = rights
        self._helo = [RESTRICTIONS[name] for name in listener.helo_restrictions]
        self._sender = [RESTRICTIONS[name] for name in listener.sender_restrictions]
        self._recipient = [RESTRICTIONS[name] for name in listener.recipient_restrictions] + [ALWAYS_LAST]

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


def check_restrictions(settings: Settings, complaints: Complaints) -> None:
    """Every name in every list of every listener: a `config.load` check, so that faults are told with file and line."""
    for number, listener in enumerate(settings.listener):
        lists: dict[str, tuple[Sequence[str], Sequence[str]]] = {
            "helo_restrictions": (listener.helo_restrictions, _allowed("helo")),
            "sender_restrictions": (listener.sender_restrictions, _allowed("sender")),
            "relay_restrictions": (listener.relay_restrictions, [*PERMITS, "reject_unauth_destination"]),
            "recipient_restrictions": (listener.recipient_restrictions, _allowed("recipient")),
        }
        for name, (given, allowed) in lists.items():
            for at, word in enumerate(given):
                if word not in allowed:
                    complaints.say(_unknown(word, allowed), ("listener", number, name, at))


def _allowed(where: List) -> list[str]:
    return [restriction.name for restriction in RESTRICTIONS.values() if where in restriction.lists]


def _unknown(word: str, allowed: Sequence[str]) -> str:
    near, _ = nearest(word, allowed)
    hint = f"did you mean {near}?" if near else f"it may hold {', '.join(allowed)}"
    return f"{word!r} is no restriction that may stand here; {hint}"
