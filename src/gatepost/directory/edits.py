"""The changes to who lives here, each with its checks and each a transaction. For the command line and the web page.

Names and addresses are taken as people write them (any case, U-labels too) and stored in normal form. A change that
cannot be made raises DirectoryError, whose text says what is wrong and what to do; nothing is changed then. Trouble
with the file raises StorageError. Check and change happen under one write lock, so two processes cannot undo each
other's checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Any

from gatepost.directory.chains import Chains
from gatepost.directory.records import Account, Domain, End, Forward, display_address, parse_end
from gatepost.directory.selects import (
    ACCOUNT,
    FORWARD,
    LIST_ACCOUNTS,
    LIST_DOMAINS,
    LIST_FORWARDS,
    account_of,
    domain_of,
    forwards_of,
)
from gatepost.mail.address import Address, BadAddress, display_domain, parse_address, parse_domain
from gatepost.storage.errors import storage_errors
from gatepost.storage.migrate import migrate
from gatepost.storage.reader import Row
from gatepost.storage.sqlite import connect, transaction

NAMED_DOMAINS = 5  # so many are listed in an error; of more, the nearest


class DirectoryError(Exception):
    """The change cannot be made. The text is for the operator."""


class DirectoryEdits:
    """Changes the directory in one SQLite file, making and migrating it first. Belongs to one thread."""

    def __init__(self, path: Path | str, *, recipient_delimiter: str = "+") -> None:
        """`recipient_delimiter` (settings) matters only for finding loops through tags. Raises StorageError."""
        migrate(path, "directory")
        self._connection = connect(path)
        self._errors = storage_errors(path)
        self._chains = Chains(self._connection, recipient_delimiter)

    def __enter__(self) -> DirectoryEdits:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """All changes made within are committed at once, or none of them if an error leaves it."""
        with self._errors, transaction(self._connection):
            yield

    # Domains

    def domains(self, prefix: str = "") -> list[Domain]:
        """All domains whose name starts with `prefix`, in the order of their names."""
        return [domain_of(row) for row in self._rows(LIST_DOMAINS, prefix=prefix.lower())]

    def domain(self, name: str) -> Domain:
        """The domain of this name."""
        _, name, active = self._domain_row(_domain_name(name))
        return Domain(name, bool(active))

    def add_domain(self, name: str) -> Domain:
        """A new domain, switched on."""
        name = _domain_name(name)
        with self.together():
            if self._rows("SELECT 1 FROM domain WHERE name = :name", name=name):
                raise DirectoryError(f"{display_domain(name)} is a domain here already")
            self._run("INSERT INTO domain (name, active) VALUES (:name, :active)", name=name, active=True)
        return Domain(name, True)

    def remove_domain(self, name: str, *, with_residents: bool = False) -> None:
        """The domain goes; where it has accounts or forwards only if told `with_residents`, and they go with it."""
        with self.together():
            number, name, _ = self._domain_row(_domain_name(name))
            [(accounts,)] = self._rows("SELECT count(*) FROM account WHERE domain_id = :id", id=number)
            [(forwards,)] = self._rows("SELECT count(*) FROM forward WHERE domain_id = :id", id=number)
            if accounts + forwards and not with_residents:
                raise DirectoryError(
                    f"{display_domain(name)} still has {accounts} accounts and {forwards} forwards; remove them first, "
                    "or say that they shall go too"
                )
            self._run("DELETE FROM domain WHERE id = :id", id=number)

    def set_domain_active(self, name: str, active: bool) -> None:
        """Switch a domain on or off; its accounts and forwards stay as they are."""
        with self.together():
            number, _, _ = self._domain_row(_domain_name(name))
            self._run("UPDATE domain SET active = :active WHERE id = :id", id=number, active=active)

    # Accounts

    def accounts(self, prefix: str = "", *, domain: str = "") -> list[Account]:
        """All accounts whose address starts with `prefix`, of one domain if given; by domain, then address."""
        return [account_of(row) for row in self._listed(LIST_ACCOUNTS, prefix, domain)]

    def account(self, address: str) -> Account:
        """The account of this address."""
        parsed = _address(address)
        for row in self._rows(ACCOUNT, key=parsed.key):
            return account_of(row)
        raise self._no_account(parsed)

    def check_new_account(self, address: str) -> Address:
        """The address, if an account of it could be added now."""
        parsed = _address(address)
        if not parsed.local:
            raise DirectoryError(f"{address}: an account needs a local part")
        self._domain_row(parsed.domain)
        if self._rows("SELECT 1 FROM account WHERE key = :key", key=parsed.key):
            raise DirectoryError(f"{display_address(str(parsed))} is an account already")
        return parsed

    def add_account(self, address: str, *, password: str = "", has_mailbox: bool = True) -> Account:
        """A new account, switched on. `password` is the stored form; without one nobody can log in."""
        with self.together():
            parsed = self.check_new_account(address)
            number, _, _ = self._domain_row(parsed.domain)
            self._run(
                "INSERT INTO account (domain_id, local, key, has_mailbox, active) "
                "VALUES (:domain_id, :local, :key, :has_mailbox, :active)",
                domain_id=number,
                local=parsed.local,
                key=parsed.key,
                has_mailbox=has_mailbox,
                active=True,
            )
            self._store_password(parsed, password)
        return Account(parsed, password, True, has_mailbox)

    def remove_account(self, address: str) -> None:
        """The account goes with its passwords; its mail stays on disk. A forward of the same address keeps no copy."""
        parsed = _address(address)
        with self.together():
            self._account_id(parsed)
            self._run("DELETE FROM account WHERE key = :key", key=parsed.key)
            self._run("UPDATE forward SET keep_copy = :no WHERE key = :key", key=parsed.key, no=False)
            self._refuse_loop(parsed.key)

    def set_account_active(self, address: str, active: bool) -> None:
        """Switch an account on or off."""
        with self.together():
            number = self._account_id(_address(address))
            self._run("UPDATE account SET active = :active WHERE id = :id", id=number, active=active)

    def set_password(self, address: str, password: str) -> None:
        """Put `password`, in its stored form, in the place of the old one; "" takes it away."""
        parsed = _address(address)
        with self.together():
            self._account_id(parsed)
            self._store_password(parsed, password)

    # Forwards

    def forwards(self, prefix: str = "", *, domain: str = "") -> list[Forward]:
        """All forwards whose source starts with `prefix`, of one domain if given; by domain, then source."""
        return forwards_of(self._listed(LIST_FORWARDS, prefix, domain))

    def forward(self, source: str) -> Forward:
        """The forward of exactly this source."""
        end = _end(source)
        for forward in forwards_of(self._rows(FORWARD, key=end.key)):
            return forward
        raise self._no_forward(end)

    def has_forward(self, source: str) -> bool:
        """Whether there is a forward of exactly this source."""
        return bool(self._rows(FORWARD, key=_end(source).key))

    def add_forward(self, source: str, targets: Sequence[str], *, keep_copy: bool = False) -> Forward:
        """A new forward, switched on. With `keep_copy` the account of the same address gets the mail too."""
        end = _end(source)
        with self.together():
            number, _, _ = self._domain_row(end.domain)
            if self._rows("SELECT 1 FROM forward WHERE key = :key", key=end.key):
                raise DirectoryError(f"{display_address(str(end))} is a forward already; add targets to it")
            if keep_copy:
                self._refuse_copy_without_mailbox(end)
            self._run(
                "INSERT INTO forward (domain_id, local, key, keep_copy, active) "
                "VALUES (:domain_id, :local, :key, :keep_copy, :active)",
                domain_id=number,
                local=end.local,
                key=end.key,
                keep_copy=keep_copy,
                active=True,
            )
            # In Postfix's tables an address among its own targets means "keep a copy"; here that has its own name.
            kept = [target for target in targets if not (keep_copy and _names_itself(_end(target), end))]
            if not kept:
                raise DirectoryError(f"{display_address(str(end))} needs a target other than itself")
            for target in kept:
                self._store_target(end, _end(target))
            self._refuse_loop(end.key)
            return self.forward(source)

    def remove_forward(self, source: str) -> None:
        """The forward goes with all its targets."""
        end = _end(source)
        with self.together():
            self._run("DELETE FROM forward WHERE id = :id", id=self._forward_id(end))
            self._refuse_loop(end.key)

    def add_target(self, source: str, target: str) -> None:
        """One more target, after the others; one that is there already stays where it is."""
        end = _end(source)
        with self.together():
            self._forward_id(end)
            self._store_target(end, _end(target))
            self._refuse_loop(end.key)

    def remove_target(self, source: str, target: str) -> None:
        """A target goes. The last one cannot: remove the forward."""
        end, gone = _end(source), _end(target)
        with self.together():
            number = self._forward_id(end)
            keys = [key for (key,) in self._rows("SELECT key FROM forward_target WHERE forward_id = :id", id=number)]
            if gone.key not in keys:
                raise DirectoryError(f"{display_address(str(end))} has no target {display_address(str(gone))}")
            if len(keys) == 1:
                raise DirectoryError(
                    f"{display_address(str(gone))} is the only target of {display_address(str(end))}; remove the forward"
                )
            self._run("DELETE FROM forward_target WHERE forward_id = :id AND key = :key", id=number, key=gone.key)

    def set_keep_copy(self, source: str, keep_copy: bool) -> None:
        """Whether the account of the same address gets the mail too."""
        end = _end(source)
        with self.together():
            number = self._forward_id(end)
            if keep_copy:
                self._refuse_copy_without_mailbox(end)
            self._run("UPDATE forward SET keep_copy = :keep_copy WHERE id = :id", id=number, keep_copy=keep_copy)

    def set_forward_active(self, source: str, active: bool) -> None:
        """Switch a forward on or off."""
        with self.together():
            number = self._forward_id(_end(source))
            self._run("UPDATE forward SET active = :active WHERE id = :id", id=number, active=active)

    def lost_targets(self, forward: Forward) -> list[str]:
        """Those targets in domains of ours that nobody has: mail for them would be refused."""
        ours = {domain.name for domain in self.domains()}
        ends = [parse_end(target) for target in forward.targets]
        return [str(end) for end in ends if end.domain in ours and end.local and self._chains.leads_nowhere(end.key)]

    # What the changes are made of

    def _rows(self, sql: str, **parameters: Any) -> list[Row]:
        with self._errors:
            return self._connection.execute(sql, parameters).fetchall()

    def _run(self, sql: str, **parameters: Any) -> None:
        self._connection.execute(sql, parameters)

    def _listed(self, sql: str, prefix: str, domain: str) -> list[Row]:
        name = self.domain(domain).name if domain else ""
        return self._rows(sql, prefix=prefix.lower(), domain=name)

    def _domain_row(self, name: str) -> tuple[int, str, int]:
        for number, found, active in self._rows("SELECT id, name, active FROM domain WHERE name = :name", name=name):
            return number, found, active
        raise self._no_domain(name)

    def _account_id(self, address: Address) -> int:
        for (number,) in self._rows("SELECT id FROM account WHERE key = :key", key=address.key):
            return int(number)
        raise self._no_account(address)

    def _forward_id(self, end: End) -> int:
        for (number,) in self._rows("SELECT id FROM forward WHERE key = :key", key=end.key):
            return int(number)
        raise self._no_forward(end)

    def _store_password(self, address: Address, password: str) -> None:
        owner = self._account_id(address)
        mine = "account_id = :id AND kind = 'password' AND label = ''"
        self._run(f"DELETE FROM credential WHERE {mine}", id=owner)
        if password:
            sql = "INSERT INTO credential (account_id, kind, label, stored) VALUES (:id, 'password', '', :stored)"
            self._run(sql, id=owner, stored=password)

    def _store_target(self, source: End, target: End) -> None:
        if _names_itself(target, source):
            raise DirectoryError(
                f"{display_address(str(source))} forwarded to itself is a loop; to keep the mail in its own mailbox as "
                "well, say that it keeps a copy"
            )
        self._run(
            "INSERT INTO forward_target (forward_id, key, position, address) "
            "SELECT forward.id, :key, "
            "(SELECT coalesce(max(position), 0) + 1 FROM forward_target WHERE forward_id = forward.id), :address "
            "FROM forward WHERE forward.key = :source ON CONFLICT DO NOTHING",
            source=source.key,
            key=target.key,
            address=str(target),
        )

    def _refuse_copy_without_mailbox(self, end: End) -> None:
        sql = "SELECT has_mailbox FROM account WHERE key = :key"
        if not any(has_mailbox for (has_mailbox,) in self._rows(sql, key=end.key)):
            raise DirectoryError(
                f"{display_address(str(end))} cannot keep a copy: it is no account with a mailbox; add the account first"
            )

    def _refuse_loop(self, source: str) -> None:
        loop = self._chains.loop_through(source)
        if loop:
            raise DirectoryError(f"this would make a loop: {' -> '.join(display_address(key) for key in loop)}")

    def _no_domain(self, name: str) -> DirectoryError:
        names = [display_domain(other) for (other,) in self._rows("SELECT name FROM domain ORDER BY name")]
        what = f"{display_domain(name)} is no domain here"
        if not names:
            return DirectoryError(f"{what}: there is none yet; add it first")
        if len(names) <= NAMED_DOMAINS:
            return DirectoryError(f"{what}; there is {', '.join(names)}")
        near = get_close_matches(display_domain(name), names, n=3)
        return DirectoryError(f"{what}; did you mean {' or '.join(near)}?" if near else f"{what}; add it first")

    def _no_account(self, address: Address) -> DirectoryError:
        self._domain_row(address.domain)
        what = f"{display_address(str(address))} is no account"
        if self._rows("SELECT 1 FROM forward WHERE key = :key", key=address.key):
            return DirectoryError(f"{what}; it is a forward")
        return DirectoryError(what)

    def _no_forward(self, end: End) -> DirectoryError:
        self._domain_row(end.domain)
        what = f"{display_address(str(end))} is no forward"
        if self._rows("SELECT 1 FROM account WHERE key = :key", key=end.key):
            return DirectoryError(f"{what}; it is an account")
        return DirectoryError(what)


def _domain_name(text: str) -> str:
    try:
        name = parse_domain(text)
    except BadAddress as error:
        raise DirectoryError(f"{text!r} is no domain name: {error}") from None
    if name.startswith("["):
        raise DirectoryError(f"{text!r} is an address literal, not a domain name")
    return name


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except BadAddress as error:
        raise DirectoryError(f"{text!r} is no address: {error}") from None


def _end(text: str) -> End:
    try:
        return parse_end(text)
    except BadAddress as error:
        raise DirectoryError(f"{text!r} is no address: {error}") from None


def _names_itself(target: End, source: End) -> bool:
    """Whether the target is the source, be it as `@domain` with the local part kept."""
    return target.domain == source.domain and target.local.lower() in ("", source.local.lower())
