"""Explain: what would happen to this recipient, to this login. The live path is walked and its steps are printed; nothing here
decides anything by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gatepost.auth.hashing import HashingPool
from gatepost.auth.login import Login
from gatepost.config.settings import Settings
from gatepost.directory.lookups import Directory
from gatepost.mail.address import Address, BadAddress, parse_address
from gatepost.routing.router import Router


@dataclass(frozen=True, slots=True)
class Explanation:
    """The steps in order, and how it ended."""

    steps: tuple[str, ...]
    end: str
    is_good: bool


def parse_recipient(text: str) -> Address:
    """An address as RCPT takes it, the bare `postmaster` too. Raises BadAddress."""
    return Address("postmaster", "") if text.lower() == "postmaster" else parse_address(text)


async def explain_recipient(settings: Settings, directory: Path, text: str) -> Explanation:
    """Where mail for an address goes, as RCPT would find out. Raises StorageError."""
    try:
        address = parse_recipient(text)
    except BadAddress as bad:
        return Explanation((), f"501 5.1.3 Bad recipient address: {bad}", False)
    residents = Directory(directory)
    try:
        resolution = await Router(residents, settings).resolve(address)
    finally:
        residents.close()
    steps = list(resolution.steps.lines())
    if resolution.refusal is not None:
        return Explanation(tuple(steps), f"refused: {resolution.refusal}", False)
    ends = ", ".join(f"{target.address} by {target.route}" for target in resolution.targets)
    if not resolution.is_ours:
        steps.append(
            "only clients that may relay can send there (relay_restrictions); all others: 554 5.7.1 Relay access denied"
        )
    return Explanation(tuple(steps), f"accepted: {ends}", True)


async def explain_login(settings: Settings, directory: Path, login: str, password: str | None) -> Explanation:
    """How a login would go; without a password all steps but the comparison."""
    residents = Directory(directory)
    hashing = HashingPool(settings.passwords)
    try:
        verdict = await Login(residents, hashing).verify(login, password)
    finally:
        residents.close()
        hashing.close()
    return Explanation(
        tuple(verdict.steps.lines()),
        "the login succeeds" if verdict.identity else "the login fails",
        verdict.identity is not None,
    )
