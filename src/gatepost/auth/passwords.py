"""Passwords at rest: made, compared, and told when they should be made anew.

A stored password is text that names its own form. Gatepost makes one form, argon2id as a PHC string (RFC 9106,
`$argon2id$v=19$m=…,t=…,p=…$salt$hash`); STORED_FORMS says which it can compare.

A password is prepared as RFC 8265 §4.2 (OpaqueString) says, so that the same letters typed on two machines are the same
octets: Unicode spaces become blanks, then NFC; nothing else is mapped, case counts. Empty, longer than MAX_PASSWORD
octets, a control character or a lone surrogate: no password at all (BadPassword when made, no match when compared).

Hashing takes a tenth of a second and many MiB by design: call it from HashingPool, never from the event loop.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import argon2
from argon2.exceptions import Argon2Error, InvalidHashError, VerifyMismatchError
from argon2.low_level import Type, verify_secret

from gatepost.config.settings import PasswordSettings
from gatepost.protocols.sasl.exchange import MAX_PASSWORD

SALT_LENGTH = 16  # octets; RFC 9106 §3.1 recommends 16
HASH_LENGTH = 32  # octets

# What a stored password may ask of us, wherever it came from: the same bounds as the settings have.
MOST_MEMORY = 4 * 1024 * 1024  # KiB
MOST_PASSES = 100
MOST_THREADS = 64

_NO_ARGON2ID = "the stored password is no argon2id string; set it anew"
_FAILS_FOR_NOW = frozenset({"Memory allocation error", "Threading failure"})  # argon2_error_message()


class BadPassword(ValueError):
    """This cannot be a password. The text says why and holds nothing of it."""


class UnknownStoredForm(ValueError):
    """A stored password in a form that Gatepost cannot compare. The text holds nothing of it."""


class HashingFailed(Exception):
    """The hash could not be computed now: not enough memory, most likely."""


def hash_password(password: str, settings: PasswordSettings) -> str:
    """`password` as it is stored: argon2id with a fresh salt. Raises BadPassword, HashingFailed."""
    secret = prepare_password(password)
    hasher = _hasher(settings)
    try:
        return hasher.hash(secret)
    except Argon2Error as error:
        raise HashingFailed(str(error)) from None


def verify_password(stored: str, password: str) -> bool:
    """Whether `stored` was made of `password`. Raises UnknownStoredForm, HashingFailed."""
    form = _form_of(stored)
    try:
        secret = prepare_password(password)
    except BadPassword:
        return False
    return form.verify(stored, secret)


def needs_rehash(stored: str, settings: PasswordSettings) -> bool:
    """Whether `stored` was made with other parameters than `settings` ask for. Raises UnknownStoredForm."""
    return _form_of(stored).needs_rehash(stored, settings)


def describe_stored(stored: str) -> str:
    """The form of a stored password in words, nothing secret: "argon2id, 64 MiB, 3 passes, 1 thread".

    Raises UnknownStoredForm.
    """
    return _form_of(stored).describe(stored)


def stand_in(settings: PasswordSettings) -> str:
    """A stored password that nobody has: comparing with it costs what comparing with a fresh one does.

    Salt and hash are zeros, so it is there without a hash having to be computed. Whoever compares with it must take no
    notice of the result.
    """
    salt = "A" * 22  # 16 octets of zeros, base64 without padding
    digest = "A" * 43  # 32 octets
    cost = f"m={_memory_kib(settings)},t={settings.argon2_time_cost},p={settings.argon2_parallelism}"
    return f"$argon2id$v=19${cost}${salt}${digest}"


def prepare_password(password: str) -> bytes:
    """The octets that are hashed (RFC 8265 §4.2.2). Raises BadPassword."""
    if len(password) > MAX_PASSWORD:  # before any work on it
        raise BadPassword(f"a password has {MAX_PASSWORD} octets at most")
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in password)
    normal = unicodedata.normalize("NFC", spaced)
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in normal):
        raise BadPassword("a password holds no control characters")
    secret = normal.encode()
    if not secret:
        raise BadPassword("a password is not empty")
    if len(secret) > MAX_PASSWORD:
        raise BadPassword(f"a password has {MAX_PASSWORD} octets at most")
    return secret


@dataclass(frozen=True, slots=True)
class StoredForm:
    """One form that a stored password may have, and what can be done with it."""

    name: str
    prefix: str  # what such a stored password starts with
    verify: Callable[[str, bytes], bool]
    needs_rehash: Callable[[str, PasswordSettings], bool]
    describe: Callable[[str], str]


def _form_of(stored: str) -> StoredForm:
    for form in STORED_FORMS:
        if stored.startswith(form.prefix):
            return form
    raise UnknownStoredForm("the stored password is in an unknown form; set it anew")


def _argon2id_verify(stored: str, secret: bytes) -> bool:
    _argon2id_parameters(stored)
    try:
        return verify_secret(stored.encode(), secret, Type.ID)
    except VerifyMismatchError:
        return False
    except Argon2Error as error:
        if str(error) in _FAILS_FOR_NOW:
            raise HashingFailed(str(error)) from None
        raise UnknownStoredForm(_NO_ARGON2ID) from None


def _argon2id_needs_rehash(stored: str, settings: PasswordSettings) -> bool:
    return _argon2id_parameters(stored) != _argon2id_parameters(stand_in(settings))


def _argon2id_describe(stored: str) -> str:
    found = _argon2id_parameters(stored)
    passes = f"{found.time_cost} pass{'es' if found.time_cost != 1 else ''}"
    threads = f"{found.parallelism} thread{'s' if found.parallelism != 1 else ''}"
    whole, rest = divmod(found.memory_cost, 1024)
    memory = f"{found.memory_cost} KiB" if rest else f"{whole} MiB"
    return f"argon2id, {memory}, {passes}, {threads}"


def _argon2id_parameters(stored: str) -> argon2.Parameters:
    try:
        found = argon2.extract_parameters(stored)
    except (InvalidHashError, ValueError):
        raise UnknownStoredForm(_NO_ARGON2ID) from None
    if found.memory_cost > MOST_MEMORY or found.time_cost > MOST_PASSES or found.parallelism > MOST_THREADS:
        raise UnknownStoredForm("the stored password would take too long or too much memory to compare; set it anew")
    return found


def _hasher(settings: PasswordSettings) -> argon2.PasswordHasher:
    return argon2.PasswordHasher(
        time_cost=settings.argon2_time_cost,
        memory_cost=_memory_kib(settings),
        parallelism=settings.argon2_parallelism,
        hash_len=HASH_LENGTH,
        salt_len=SALT_LENGTH,
        type=Type.ID,
    )


def _memory_kib(settings: PasswordSettings) -> int:
    # RFC 9106 §3.1: at least 8 KiB for each thread.
    return max(settings.argon2_memory_cost // 1024, 8 * settings.argon2_parallelism)


STORED_FORMS: tuple[StoredForm, ...] = (
    StoredForm("argon2id", "$argon2id$", _argon2id_verify, _argon2id_needs_rehash, _argon2id_describe),
)
