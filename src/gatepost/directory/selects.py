"""The SELECTs of this room, each once, and how their rows become records."""

from __future__ import annotations

from collections.abc import Sequence

from gatepost.directory.records import Account, Domain, End, Forward
from gatepost.mail.address import Address
from gatepost.storage.reader import Row

_DOMAINS = "SELECT name, active FROM domain"
DOMAIN = f"{_DOMAINS} WHERE name = :name"
FIRST_DOMAIN = f"{_DOMAINS} ORDER BY id LIMIT 1"
LIST_DOMAINS = f"{_DOMAINS} WHERE substr(name, 1, length(:prefix)) = :prefix ORDER BY name"

_ACCOUNTS = """
    SELECT account.local, domain.name, credential.stored, account.active, account.has_mailbox
    FROM account
    JOIN domain ON domain.id = account.domain_id
    LEFT JOIN credential
        ON credential.account_id = account.id AND credential.kind = 'password' AND credential.label = ''"""
ACCOUNT = f"{_ACCOUNTS} WHERE account.key = :key"
LIST_ACCOUNTS = f"""{_ACCOUNTS}
    WHERE substr(account.key, 1, length(:prefix)) = :prefix AND (:domain = '' OR domain.name = :domain)
    ORDER BY domain.name, account.key"""

_FORWARDS = """
    SELECT forward.key, forward.local, domain.name, forward.keep_copy, forward.active, forward_target.address
    FROM forward
    JOIN domain ON domain.id = forward.domain_id
    LEFT JOIN forward_target ON forward_target.forward_id = forward.id"""
FORWARD = f"{_FORWARDS} WHERE forward.key = :key ORDER BY forward_target.position"
FORWARDS_TO = f"""{_FORWARDS}
    WHERE forward.id IN (SELECT forward_id FROM forward_target WHERE key = :key)
    ORDER BY forward.key, forward_target.position"""
LIST_FORWARDS = f"""{_FORWARDS}
    WHERE substr(forward.key, 1, length(:prefix)) = :prefix AND (:domain = '' OR domain.name = :domain)
    ORDER BY domain.name, forward.key, forward_target.position"""


def domain_of(row: Row) -> Domain:
    """A domain out of a row of DOMAIN or its kin."""
    name, active = row
    return Domain(name, bool(active))


def account_of(row: Row) -> Account:
    """An account out of a row of ACCOUNT or LIST_ACCOUNTS."""
    local, domain, stored, active, has_mailbox = row
    return Account(Address(local, domain), stored or "", bool(active), bool(has_mailbox))


def forwards_of(rows: Sequence[Row]) -> list[Forward]:
    """Forwards out of rows of FORWARD or its kin: one row for each target, those of one source together."""
    forwards: list[Forward] = []
    targets: list[str] = []
    for at, (key, local, domain, keep_copy, active, target) in enumerate(rows):
        if target is not None:
            targets.append(target)
        if at + 1 == len(rows) or rows[at + 1][0] != key:
            forwards.append(Forward(key, tuple(targets), bool(keep_copy), bool(active), str(End(local, domain))))
            targets = []
    return forwards
