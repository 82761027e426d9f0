"""Restrictions, each declared once: Postfix's name, a sentence, the lists it may stand in, and the check itself.

More of them come with the issue on the gate; what is here is what needs no DNS.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gatepost.auth.sender_rights import SenderRights
from gatepost.mail.address import Address
from gatepost.mail.reply import Reply
from gatepost.policy.relay import in_networks
from gatepost.policy.situation import Situation

_HOST = re.compile(
    r"(?=.{1,253}$)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)


class Permit:
    """Ends the list it was given in."""


PERMIT = Permit()
Answer: TypeAlias = Reply | Permit | None


Check: TypeAlias = Callable[[Situation, SenderRights], Awaitable[Answer]]
List: TypeAlias = Literal["helo", "sender", "recipient"]
ANY: tuple[List, ...] = ("helo", "sender", "recipient")


@dataclass(frozen=True, slots=True)
class Restriction:
    """A named check."""

    name: str
    sentence: str
    lists: tuple[List, ...]
    check: Check


async def _permit_mynetworks(situation: Situation, rights: SenderRights) -> Answer:
    return PERMIT if in_networks(situation.peer, situation.listener.mynetworks) else None


async def _permit_sasl_authenticated(situation: Situation, rights: SenderRights) -> Answer:
    return PERMIT if situation.identity is not None else None


async def _permit(situation: Situation, rights: SenderRights) -> Answer:
    return PERMIT


async def _reject(situation: Situation, rights: SenderRights) -> Answer:
    return Reply(554, "5.7.1", f"<{situation.resolution.address}>: Recipient address rejected: Access denied")


async def _defer(situation: Situation, rights: SenderRights) -> Answer:
    return Reply(450, "4.3.2", f"<{situation.resolution.address}>: Recipient address rejected: Try again later")


async def _reject_invalid_helo(situation: Situation, rights: SenderRights) -> Answer:
    helo = situation.helo
    # As in Postfix, who says no HELO at all is not caught here; that is what helo_required is for.
    if not helo or _HOST.fullmatch(helo) or (helo.startswith("[") and helo.endswith("]")):
        return None
    return Reply(501, "5.5.2", f"<{helo}>: Helo command rejected: Invalid name")


async def _reject_non_fqdn_helo(situation: Situation, rights: SenderRights) -> Answer:
    helo = situation.helo
    if not helo or helo.startswith("["):
        return None
    if _HOST.fullmatch(helo) and "." in helo and not helo.rpartition(".")[2].isdigit():  # 192.0.2.1 is no name
        return None
    return Reply(504, "5.5.2", f"<{helo}>: Helo command rejected: need fully-qualified hostname")


def _is_qualified(address: Address | None) -> bool:
    return address is None or "." in address.domain or ":" in address.domain or not address.domain


async def _reject_non_fqdn_sender(situation: Situation, rights: SenderRights) -> Answer:
    if _is_qualified(situation.sender):
        return None
    return Reply(504, "5.5.2", f"<{situation.sender}>: Sender address rejected: need fully-qualified address")


async def _reject_non_fqdn_recipient(situation: Situation, rights: SenderRights) -> Answer:
    recipient = situation.resolution.address
    if _is_qualified(recipient):
        return None
    return Reply(504, "5.5.2", f"<{recipient}>: Recipient address rejected: need fully-qualified address")


async def _authenticated_mismatch(situation: Situation, rights: SenderRights) -> Answer:
    identity, sender = situation.identity, situation.sender
    if identity is None or sender is None or (await rights.may_send_as(identity, sender)).allowed:
        return None
    return Reply(553, "5.7.1", f"<{sender}>: Sender address rejected: not owned by user {identity.account}")


async def _unauthenticated_mismatch(situation: Situation, rights: SenderRights) -> Answer:
    sender = situation.sender
    if situation.identity is not None or sender is None or not await rights.has_owner(sender):
        return None
    return Reply(553, "5.7.1", f"<{sender}>: Sender address rejected: not logged in")


async def _mismatch(situation: Situation, rights: SenderRights) -> Answer:
    return await _authenticated_mismatch(situation, rights) or await _unauthenticated_mismatch(situation, rights)


async def _reject_unlisted_recipient(situation: Situation, rights: SenderRights) -> Answer:
    refusal = situation.resolution.refusal
    if refusal is None:
        return None
    return Reply(refusal.code, refusal.enhanced, f"<{situation.resolution.address}>: {refusal.text}")


_ALL = (
    Restriction("permit_mynetworks", "Passes clients in the listener's mynetworks.", ANY, _permit_mynetworks),
    Restriction("permit_sasl_authenticated", "Passes clients that logged in.", ANY, _permit_sasl_authenticated),
    Restriction("permit", "Passes everybody.", ANY, _permit),
    Restriction("reject", "Refuses everybody.", ANY, _reject),
    Restriction("defer", "Tells everybody to come again later.", ANY, _defer),
    Restriction("reject_invalid_helo_hostname", "Refuses a HELO name that is no host name.", ANY, _reject_invalid_helo),
    Restriction("reject_non_fqdn_helo_hostname", "Refuses a HELO name without a domain.", ANY, _reject_non_fqdn_helo),
    Restriction("reject_non_fqdn_sender", "Refuses a sender whose domain has no dot.", ANY, _reject_non_fqdn_sender),
    Restriction(
        "reject_non_fqdn_recipient", "Refuses a recipient whose domain has no dot.", ANY, _reject_non_fqdn_recipient
    ),
    Restriction(
        "reject_sender_login_mismatch",
        "Refuses a sender that is not the client's own, and one of ours from a client that has not logged in.",
        ANY,
        _mismatch,
    ),
    Restriction(
        "reject_authenticated_sender_login_mismatch",
        "Refuses a sender that does not belong to the account that is logged in.",
        ANY,
        _authenticated_mismatch,
    ),
    Restriction(
        "reject_unauthenticated_sender_login_mismatch",
        "Refuses a sender of ours from a client that has not logged in.",
        ANY,
        _unauthenticated_mismatch,
    ),
    Restriction(
        "reject_unlisted_recipient",
        "Refuses a recipient of ours that does not exist; always done at the end, listed or not.",
        ("recipient",),
        _reject_unlisted_recipient,
    ),
)

RESTRICTIONS: Mapping[str, Restriction] = {restriction.name: restriction for restriction in _ALL}
ALWAYS_LAST = RESTRICTIONS["reject_unlisted_recipient"]
