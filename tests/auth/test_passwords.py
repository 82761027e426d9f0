"""Stored passwords: what is made, what is compared, what is refused."""

from __future__ import annotations

import argon2
import pytest
from argon2.exceptions import VerificationError
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from hypothesis import given, settings
from hypothesis import strategies as st

from gatepost.auth.passwords import (
    BadPassword,
    HashingFailed,
    UnknownStoredForm,
    describe_stored,
    hash_password,
    needs_rehash,
    prepare_password,
    stand_in,
    verify_password,
)
from gatepost.config.settings import Bytes, PasswordSettings

CHEAP = PasswordSettings(argon2_time_cost=1, argon2_memory_cost=Bytes(8 * 1024))


def test_a_fresh_hash_is_argon2id_with_the_parameters_set_and_a_salt_of_its_own() -> None:
    wanted = PasswordSettings(argon2_time_cost=2, argon2_memory_cost=Bytes(64 * 1024), argon2_parallelism=2)
    stored = hash_password("correct horse", wanted)
    assert stored.startswith("$argon2id$v=19$m=64,t=2,p=2$")
    assert stored != hash_password("correct horse", wanted)
    found = argon2.extract_parameters(stored)
    assert (found.salt_len, found.hash_len) == (16, 32)


def test_a_stranger_agrees_with_our_hash_and_we_with_theirs() -> None:
    assert argon2.PasswordHasher().verify(hash_password("pässword", CHEAP), "pässword")
    theirs = argon2.PasswordHasher(time_cost=1, memory_cost=16, parallelism=1).hash("pässword")
    assert verify_password(theirs, "pässword")


def test_another_implementation_agrees_with_ours() -> None:
    theirs = Argon2id(salt=b"somesalt", length=32, iterations=2, lanes=2, memory_cost=64).derive_phc_encoded(
        b"password"
    )
    assert verify_password(theirs, "password")
    assert not verify_password(theirs, "Password")
    Argon2id.verify_phc_encoded(b"password", hash_password("password", CHEAP))  # raises where it does not match


@pytest.mark.parametrize("given", ["", "Secret", "secret ", " secret", "secret\x00", "secre", "secrét", "x" * 5000])
def test_only_the_password_matches(given: str) -> None:
    assert not verify_password(hash_password("secret", CHEAP), given)


def test_all_of_a_long_password_counts() -> None:
    stored = hash_password("x" * 1023 + "y", CHEAP)
    assert verify_password(stored, "x" * 1023 + "y")
    assert not verify_password(stored, "x" * 1024)


def test_the_same_letters_from_two_keyboards_are_one_password() -> None:
    stored = hash_password("caf\u00e9 \u20ac", CHEAP)
    assert verify_password(stored, "cafe\u0301\u00a0\u20ac")  # decomposed, and a no-break space
    assert not verify_password(stored, "cafe \u20ac")
    assert prepare_password("\u212b") == "\u00c5".encode()  # NFC: the angstrom sign is a letter
    assert prepare_password("\uff41") == "\uff41".encode()  # not NFKC: width counts


@pytest.mark.parametrize(
    "password",
    ["", "\x00", "a\x00b", "a\nb", "a\rb", "a\tb", "\x7f", "\ud800", "x" * 1025, "€" * 342, "x" * 10_000_000],
)
def test_what_cannot_be_a_password_is_not_stored(password: str) -> None:
    with pytest.raises(BadPassword) as caught:
        hash_password(password, CHEAP)
    assert not password or password not in str(caught.value)


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "secret",
        "{PLAIN}secret",
        "*",
        "!",
        "$6$salt$hash",
        "$argon2i$v=19$m=16,t=1,p=1$c29tc2FsdA$c29tZWhhc2g",
        "$argon2id$",
        "$argon2id$v=19$m=16,t=1,p=1$c29tc2FsdA",
        "$argon2id$v=19$m=x,t=1,p=1$c29tc2FsdA$c29tZWhhc2g",
        "$argon2id$v=19$m=16,t=1,p=1$!!!$???",
        "$argon2id$v=19$m=16,t=1,p=1$c29tc2FsdA$c29tZWhhc2gß",
        "$argon2id\x00",
        "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$c29tZWhhc2g",
        "$argon2id$v=19$m=16,t=4294967295,p=1$c29tZXNhbHQ$c29tZWhhc2g",
        "$argon2id$v=19$m=16,t=0,p=1$c29tZXNhbHQ$c29tZWhhc2g",
        "$argon2id$v=19$m=1,t=1,p=1$c29tZXNhbHQ$c29tZWhhc2g",
        "$argon2id$v=19$m=-1,t=1,p=1$c29tZXNhbHQ$c29tZWhhc2g",
    ],
)
def test_another_stored_form_is_an_error_and_never_a_match(stored: str) -> None:
    with pytest.raises(UnknownStoredForm) as caught:
        verify_password(stored, "secret")
    assert not stored or stored not in str(caught.value)


@pytest.mark.parametrize("stored", ["", "{CRYPT}x", "$argon2id$", "$argon2id$v=19$m=x,t=1,p=1$c29tc2FsdA$c29tZWhhc2g"])
def test_another_stored_form_can_be_neither_described_nor_judged(stored: str) -> None:
    with pytest.raises(UnknownStoredForm):
        describe_stored(stored)
    with pytest.raises(UnknownStoredForm):
        needs_rehash(stored, CHEAP)


def test_a_hash_that_finds_no_memory_is_no_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> bool:
        raise VerificationError("Memory allocation error")

    monkeypatch.setattr("gatepost.auth.passwords.verify_secret", no_memory)
    with pytest.raises(HashingFailed):
        verify_password(stand_in(CHEAP), "secret")


def test_other_parameters_ask_for_a_new_hash() -> None:
    stored = hash_password("secret", CHEAP)
    assert not needs_rehash(stored, CHEAP)
    for other in (
        PasswordSettings(argon2_time_cost=2, argon2_memory_cost=Bytes(8 * 1024)),
        PasswordSettings(argon2_time_cost=1, argon2_memory_cost=Bytes(16 * 1024)),
        PasswordSettings(argon2_time_cost=1, argon2_memory_cost=Bytes(16 * 1024), argon2_parallelism=2),
    ):
        assert needs_rehash(stored, other)
    short = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, hash_len=16).hash("secret")
    assert needs_rehash(short, CHEAP)


def test_memory_that_is_too_little_for_the_threads_is_raised_to_the_least() -> None:
    tight = PasswordSettings(argon2_time_cost=1, argon2_memory_cost=Bytes(8 * 1024), argon2_parallelism=4)
    assert hash_password("secret", tight).startswith("$argon2id$v=19$m=32,t=1,p=4$")


def test_the_form_is_described_without_its_secret_part() -> None:
    assert describe_stored(hash_password("secret", PasswordSettings())) == "argon2id, 64 MiB, 3 passes, 1 thread"
    assert describe_stored(hash_password("secret", CHEAP)) == "argon2id, 8 KiB, 1 pass, 1 thread"


def test_the_stand_in_costs_what_a_fresh_hash_does_and_matches_nothing() -> None:
    for wanted in (
        CHEAP,
        PasswordSettings(argon2_time_cost=2, argon2_memory_cost=Bytes(64 * 1024), argon2_parallelism=2),
    ):
        nobody = stand_in(wanted)
        assert not needs_rehash(nobody, wanted)
        assert argon2.extract_parameters(nobody) == argon2.extract_parameters(hash_password("x", wanted))
        assert not verify_password(nobody, "secret")


@settings(max_examples=60)
@given(st.text(max_size=40), st.text(max_size=40))
def test_two_passwords_match_where_they_are_prepared_alike(one: str, other: str) -> None:
    try:
        stored = hash_password(one, CHEAP)
    except BadPassword:
        return
    assert verify_password(stored, one)
    try:
        alike = prepare_password(one) == prepare_password(other)
    except BadPassword:
        alike = False
    assert verify_password(stored, other) == alike
