"""What people do with domains, accounts and forwards, whichever face they do it through.

The changes themselves, with their checks, are `DirectoryEdits`; here passwords are judged, made up and hashed on the
way in, and whatever the operator had better know comes back as notes. Raises DirectoryError, StorageError.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gatepost.config.settings import PasswordSettings
from gatepost.directory.edits import DirectoryEdits, DirectoryError
from gatepost.directory.records import Account, Forward, display_address

MIN_PASSWORD = 8  # characters; NIST SP 800-63B §5.1.1.1
PASSWORD_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that looks like another
PASSWORD_GROUPS, PASSWORD_GROUP = 4, 5  # "k7m2p-…": 20 letters of 31, 99 bits

HashPassword = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Done:
    """A change that was made: what to tell, and notes on what may surprise."""

    text: str
    notes: tuple[str, ...] = ()


class Residents:
    """The verbs. `edits` also answers questions and lists."""

    def __init__(self, edits: DirectoryEdits, hash_password: HashPassword) -> None:
        """`hash_password` gives the stored form: `password_hasher(settings.passwords)`."""
        self.edits = edits
        self._hash_password = hash_password

    # Domains

    def add_domain(self, name: str) -> Done:
        """A new domain."""
        domain = self.edits.add_domain(name)
        return Done(f"{domain.display} is a domain here now")

    def remove_domain(self, name: str, *, with_residents: bool = False) -> Done:
        """A domain goes, with its accounts and forwards only if told so."""
        domain = self.edits.domain(name)
        self.edits.remove_domain(name, with_residents=with_residents)
        return Done(f"{domain.display} is no domain here any more")

    def switch_domain(self, name: str, active: bool) -> Done:
        """A domain is switched on or off."""
        self.edits.set_domain_active(name, active)
        return Done(f"{self.edits.domain(name).display} is switched {_on(active)}")

    # Accounts

    def add_account(self, address: str, password: str, *, has_mailbox: bool = True) -> Done:
        """A new account that logs in with `password` (as it is typed, not as it is stored)."""
        self.edits.check_new_account(address)  # before the work of a hash
        account = self.edits.add_account(address, password=self._stored(password), has_mailbox=has_mailbox)
        return Done(f"{account.display} is an account now", self._notes_on_account(account))

    def remove_account(self, address: str) -> Done:
        """An account goes; its mail stays on disk."""
        account = self.edits.account(address)
        self.edits.remove_account(address)
        return Done(f"{account.display} is no account any more; its mail is still on disk")

    def set_password(self, address: str, password: str) -> Done:
        """An account logs in with another password from now on."""
        account = self.edits.account(address)
        self.edits.set_password(address, self._stored(password))
        return Done(f"{account.display} has a new password")

    def switch_account(self, address: str, active: bool) -> Done:
        """An account is switched on or off."""
        self.edits.set_account_active(address, active)
        return Done(f"{self.edits.account(address).display} is switched {_on(active)}")

    # Forwards

    def add_forward(self, source: str, targets: Sequence[str], *, keep_copy: bool | None = None) -> Done:
        """A new forward; or, where there is one, more targets for it. `keep_copy` None leaves it as it is (or off)."""
        with self.edits.together():
            if self.edits.has_forward(source):
                for target in targets:
                    self.edits.add_target(source, target)
                if keep_copy is not None:
                    self.edits.set_keep_copy(source, keep_copy)
                forward = self.edits.forward(source)
            else:
                forward = self.edits.add_forward(source, targets, keep_copy=bool(keep_copy))
        return Done(describe_forward(forward), self._notes_on_forward(forward))

    def remove_forward(self, source: str, targets: Sequence[str] = ()) -> Done:
        """A forward goes, or only these targets of it."""
        forward = self.edits.forward(source)
        if not targets:
            self.edits.remove_forward(source)
            return Done(f"{forward.display} is no forward any more")
        with self.edits.together():
            for target in targets:
                self.edits.remove_target(source, target)
        return Done(describe_forward(self.edits.forward(source)))

    def switch_forward(self, source: str, active: bool) -> Done:
        """A forward is switched on or off."""
        self.edits.set_forward_active(source, active)
        return Done(describe_forward(self.edits.forward(source)))

    # What the verbs are made of

    def _stored(self, password: str) -> str:
        if len(password) < MIN_PASSWORD:
            raise DirectoryError(f"the password is too short; it needs {MIN_PASSWORD} characters at least")
        return self._hash_password(password)

    def _notes_on_account(self, account: Account) -> tuple[str, ...]:
        key = account.address.key
        if not self.edits.has_forward(key):
            return ()
        forward = self.edits.forward(key)
        if forward.keep_copy or not account.has_mailbox:
            return ()
        return (
            f"mail for it still goes to {_list(forward.targets)} only: {forward.display} forwards and keeps no copy",
        )

    def _notes_on_forward(self, forward: Forward) -> tuple[str, ...]:
        lost = self.edits.lost_targets(forward)
        return (f"nobody is at {_list(lost)} yet; mail for it is refused",) if lost else ()


def password_hasher(settings: PasswordSettings) -> HashPassword:
    """What makes the stored form of a password. It raises DirectoryError where the password cannot be one."""

    def hashed(password: str) -> str:
        from gatepost.auth.passwords import BadPassword, HashingFailed, hash_password  # loads argon2

        try:
            return hash_password(password, settings)
        except BadPassword as error:
            raise DirectoryError(str(error)) from None
        except HashingFailed as error:
            raise DirectoryError(
                f"the password could not be hashed ({error}); look at argon2_memory_cost in gatepost.toml"
            ) from error

    return hashed


def generate_password(choose: Callable[[str], str] = secrets.choice) -> str:
    """A password nobody chose, easy to read out: 99 bits."""
    groups = ("".join(choose(PASSWORD_LETTERS) for _ in range(PASSWORD_GROUP)) for _ in range(PASSWORD_GROUPS))
    return "-".join(groups)


def describe_forward(forward: Forward) -> str:
    """One line: `info@example.org -> ann@example.org, bob@example.net (keeps a copy)`."""
    marks = [mark for mark, holds in (("keeps a copy", forward.keep_copy), ("off", not forward.active)) if holds]
    line = f"{forward.display} -> {_list(forward.targets)}"
    return f"{line} ({', '.join(marks)})" if marks else line


def _list(addresses: Sequence[str]) -> str:
    return ", ".join(display_address(address) for address in addresses)


def _on(active: bool) -> str:
    return "on" if active else "off"
