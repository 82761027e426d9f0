"""Domain, Account, Forward: what the directory keeps, as values; and how the two ends of a forward are written.

A source is an address, or `@domain`: whoever has neither an account nor a forward there (a catch-all). A target is an
address anywhere, or `@domain`: the same local part there. Both are found by their key, all in lower case.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gatepost.mail.address import Address, BadAddress, display_domain, parse_address, parse_domain


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain that is ours. `name` is in A-labels and lower case."""

    name: str
    active: bool

    @property
    def display(self) -> str:
        """The name as people write it."""
        return display_domain(self.name)


@dataclass(frozen=True, slots=True)
class Account:
    """Who can log in, and has a mailbox unless told not to. `active` is the account's own switch, not its domain's."""

    address: Address  # as it was spelt
    password: str = field(repr=False)  # the stored form, "$argon2id$…"; "" for nobody can log in
    active: bool
    has_mailbox: bool

    @property
    def display(self) -> str:
        """The address as people write it."""
        return display_address(str(self.address))


@dataclass(frozen=True, slots=True)
class Forward:
    """An address, or `@domain`, whose mail goes on to others. `source` is the key it is found by, in lower case."""

    source: str
    targets: tuple[str, ...]  # in the order they were named
    keep_copy: bool  # the account of the same address gets it too
    active: bool
    spelt: str = field(default="", compare=False)  # the source as it was written

    @property
    def display(self) -> str:
        """The source as people write it."""
        return display_address(self.spelt or self.source)


@dataclass(frozen=True, slots=True)
class End:
    """One end of a forward: `local` is "" for `@domain`."""

    local: str
    domain: str

    @property
    def key(self) -> str:
        """What it is found by."""
        return f"{self.local.lower()}@{self.domain}"

    def __str__(self) -> str:
        """As it is stored and shown on the wire."""
        return str(Address(self.local, self.domain)) if self.local else f"@{self.domain}"


def parse_end(text: str) -> End:
    """A source or target. Raises BadAddress."""
    if text.startswith("@"):
        return End("", parse_domain(text[1:]))
    address = parse_address(text)
    if not address.local:  # RFC 5321 allows "", but its key would be that of a catch-all
        raise BadAddress("an empty local part cannot be forwarded")
    return End(address.local, address.domain)


def display_address(text: str) -> str:
    """`user@domain` or `@domain` with the domain in U-labels where they differ."""
    local, _, domain = text.rpartition("@")
    return f"{local}@{display_domain(domain)}"
