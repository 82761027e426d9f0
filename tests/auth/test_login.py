"""Login against a real directory: who gets in, who does not, what each costs and what the steps tell."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatepost.auth.hashing import HashingPool
from gatepost.auth.login import Login, LoginVerdict
from gatepost.auth.passwords import HashingFailed, hash_password, stand_in, verify_password
from gatepost.auth.residents import Residents
from gatepost.config.settings import Bytes, PasswordSettings
from gatepost.directory.edits import DirectoryEdits
from gatepost.directory.lookups import Directory
from gatepost.directory.records import Account, Domain, Forward
from gatepost.mail.address import Address
from gatepost.mail.peer import Identity
from gatepost.protocols.sasl.exchange import Refused, ServerExchange, Unavailable, VerifyPassword
from gatepost.protocols.sasl.plain import plain_server
from gatepost.storage.errors import StorageLocked

CHEAP = PasswordSettings(argon2_time_cost=1, argon2_memory_cost=Bytes(8 * 1024))
SECRET = "correct hörse"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("directory") / "directory.sqlite"
    stored = hash_password(SECRET, CHEAP)
    with DirectoryEdits(path) as edits, edits.together():
        for domain in ("example.test", "bücher.test", "closed.test"):
            edits.add_domain(domain)
        for address in ("Kay@example.test", "off@example.test", "lee@bücher.test", "kay@closed.test"):
            edits.add_account(address, password=stored)
        edits.add_account("nopassword@example.test")
        edits.add_account("oldform@example.test", password="{CRYPT}$6$salt$hash")
        edits.add_account("broken@example.test", password="$argon2id$v=19$m=16,t=1,p=1$!!!$???")
        edits.set_account_active("off@example.test", False)
        edits.set_domain_active("closed.test", False)
        edits.add_forward("sales@example.test", ["kay@example.test"])
    yield path


class Counter:
    """Compares, and notes what with."""

    def __init__(self) -> None:
        self.compared: list[str] = []

    def __call__(self, stored: str, password: str) -> bool:
        matches = verify_password(stored, password)
        self.compared.append(stored)
        return matches


def attempt(
    town: Path, login: str, password: str | None = SECRET, *, authzid: str = "", counter: Counter | None = None
) -> LoginVerdict:
    async def play() -> LoginVerdict:
        directory = Directory(town)
        pool = HashingPool(CHEAP, verify=counter or verify_password)
        try:
            return await Login(directory, pool).verify(login, password, authzid=authzid)
        finally:
            directory.close()
            pool.close()

    return asyncio.run(play())


@pytest.mark.parametrize(
    ("login", "account"),
    [
        ("kay@example.test", Address("Kay", "example.test")),
        ("KAY@EXAMPLE.TEST", Address("Kay", "example.test")),
        ("lee@bücher.test", Address("lee", "xn--bcher-kva.test")),
        ("Lee@BÜCHER.test", Address("lee", "xn--bcher-kva.test")),
        ("lee@xn--bcher-kva.test", Address("lee", "xn--bcher-kva.test")),
    ],
)
def test_the_right_password_logs_in_however_the_name_is_spelt(town: Path, login: str, account: Address) -> None:
    verdict = attempt(town, login)
    assert verdict.outcome == Identity(account, login, "PLAIN")
    assert verdict.identity == verdict.outcome
    assert verdict.reason == ""


@pytest.mark.parametrize("authzid", ["", "kay@example.test", "KAY@Example.Test"])
def test_everybody_may_act_as_themselves(town: Path, authzid: str) -> None:
    assert attempt(town, "kay@example.test", authzid=authzid).identity is not None


@pytest.mark.parametrize(
    "authzid", ["lee@bücher.test", "sales@example.test", "root", "kay", "\x00", "@", "kay+x@example.test"]
)
def test_nobody_acts_as_another(town: Path, authzid: str) -> None:
    verdict = attempt(town, "kay@example.test", authzid=authzid)
    assert isinstance(verdict.outcome, Refused)
    assert "may not act as" in verdict.reason


REFUSED = [
    ("kay@example.test", "wrong", "does not match"),
    ("kay@example.test", SECRET.upper(), "does not match"),
    ("kay@example.test", SECRET + " ", "does not match"),
    ("nobody@example.test", SECRET, "there is no account"),
    ("kay@other.test", SECRET, "other.test is not in the directory"),
    ("kay@[127.0.0.1]", SECRET, "not in the directory"),
    ("off@example.test", SECRET, "off@example.test is disabled"),
    ("off@example.test", "wrong", "off@example.test is disabled"),
    ("kay@closed.test", SECRET, "domain closed.test is disabled"),
    ("sales@example.test", SECRET, "there is no account"),  # a forward is nobody
    ("kay+tag@example.test", SECRET, "there is no account"),
    ("nopassword@example.test", SECRET, "no password to compare"),
    ("oldform@example.test", SECRET, "no password to compare"),
    ("broken@example.test", SECRET, "set it anew"),
]


@pytest.mark.parametrize(("login", "password", "reason"), REFUSED)
def test_whoever_is_refused_costs_one_hash(town: Path, login: str, password: str, reason: str) -> None:
    counter = Counter()
    verdict = attempt(town, login, password, counter=counter)
    assert isinstance(verdict.outcome, Refused)
    assert reason in verdict.reason
    assert verdict.steps.lines()[-1] == f"refused: {verdict.reason}"
    assert len(counter.compared) == 1


def test_a_success_costs_one_hash_too(town: Path) -> None:
    counter = Counter()
    assert attempt(town, "kay@example.test", counter=counter).identity is not None
    assert len(counter.compared) == 1


def test_nobody_is_compared_with_a_stand_in_of_the_parameters_set_now(town: Path) -> None:
    counter = Counter()
    attempt(town, "nobody@example.test", counter=counter)
    assert counter.compared == [stand_in(CHEAP)]


@pytest.mark.parametrize(
    ("login", "reason"),
    [
        ("kay", "not a full address"),  # though kay@example.test exists
        ("", "not a full address"),
        ("@", "no address"),
        ("@example.test", "no address"),
        ("kay@", "no address"),
        ("kay @example.test", "no address"),
        (" kay@example.test", "no address"),
        ("kay@example.test\n", "no address"),
        ("kay\x00@example.test", "no address"),
        ("kay\x85@example.test", "no address"),
        ("kay\u2028@example.test", "no address"),
        ("kay\x9b2J@example.test", "no address"),
        ("kay@exa mple.test", "no address"),
        ("' OR 1=1 --@example.test", "no address"),
        ("<kay@example.test>", "no address"),
        ("k" * 1000 + "@example.test", "no address"),
    ],
)
def test_what_is_no_address_is_refused_without_a_hash(town: Path, login: str, reason: str) -> None:
    counter = Counter()
    verdict = attempt(town, login, counter=counter)
    assert isinstance(verdict.outcome, Refused)
    assert reason in verdict.reason
    assert counter.compared == []


@pytest.mark.parametrize("password", ["", "\x00", SECRET + "\x00", "a\nb", "x" * 5000])
@pytest.mark.parametrize("login", ["kay@example.test", "nobody@example.test", "off@example.test"])
def test_what_is_no_password_is_refused_alike_for_all(town: Path, login: str, password: str) -> None:
    counter = Counter()
    verdict = attempt(town, login, password, counter=counter)
    assert isinstance(verdict.outcome, Refused)
    assert counter.compared == []


def test_the_steps_tell_the_way_of_a_success(town: Path) -> None:
    assert attempt(town, "kay@EXAMPLE.test").steps.lines() == [
        "login name 'kay@EXAMPLE.test' is read as kay@example.test",
        "account kay@example.test is in the directory, it and its domain are active",
        "its password is stored as argon2id, 8 KiB, 1 pass, 1 thread",
        "the password matches",
        "logged in as Kay@example.test",
    ]


def test_the_steps_tell_that_only_the_switch_kept_them_out(town: Path) -> None:
    assert attempt(town, "off@example.test").steps.lines()[1:] == [
        "account off@example.test is disabled",
        "its password is stored as argon2id, 8 KiB, 1 pass, 1 thread",
        "the password matches",
        "refused: account off@example.test is disabled",
    ]


@pytest.mark.parametrize("login", ["kay@example.test", "off@example.test", "nobody@example.test"])
def test_without_a_password_all_other_steps_are_taken_and_nobody_gets_in(town: Path, login: str) -> None:
    counter = Counter()
    verdict = attempt(town, login, None, counter=counter)
    assert isinstance(verdict.outcome, Refused)
    assert "no password was given to compare" in verdict.steps.lines()
    assert counter.compared == []


@pytest.mark.parametrize(("login", "password", "reason"), [*REFUSED, ("kay@example.test", SECRET, "")])
def test_no_password_stands_in_what_operators_read(town: Path, login: str, password: str, reason: str) -> None:
    verdict = attempt(town, login, password)
    stored = hash_password(SECRET, CHEAP)[:20]
    told = repr(verdict) + repr(verdict.outcome) + " ".join(verdict.steps.lines())
    assert password not in told
    assert stored not in told
    assert "$6$" not in told


def test_a_change_counts_at_the_next_login(town: Path) -> None:
    async def play() -> list[bool]:
        directory, pool = Directory(town), HashingPool(CHEAP)
        login = Login(directory, pool)
        found = []
        with DirectoryEdits(town) as edits:
            edits.add_account("new@example.test", password=hash_password("one", CHEAP))
            found.append((await login.verify("new@example.test", "one")).identity is not None)
            edits.set_password("new@example.test", hash_password("two", CHEAP))
            found.append((await login.verify("new@example.test", "one")).identity is not None)
            found.append((await login.verify("new@example.test", "two")).identity is not None)
            edits.set_account_active("new@example.test", False)
            found.append((await login.verify("new@example.test", "two")).identity is not None)
            edits.remove_account("new@example.test")
        directory.close()
        pool.close()
        return found

    assert asyncio.run(play()) == [True, False, True, False]


class LockedDirectory:
    """A directory that cannot be read."""

    async def domain(self, name: str) -> Domain | None:
        raise StorageLocked("directory.sqlite", "locked")

    async def account(self, key: str) -> Account | None:
        raise StorageLocked("directory.sqlite", "locked")

    async def forward(self, source: str) -> Forward | None:
        raise StorageLocked("directory.sqlite", "locked")


def test_a_directory_that_cannot_be_read_is_a_temporary_failure() -> None:
    async def play() -> LoginVerdict:
        residents: Residents = LockedDirectory()
        pool = HashingPool(CHEAP)
        try:
            return await Login(residents, pool).verify("kay@example.test", SECRET)
        finally:
            pool.close()

    verdict = asyncio.run(play())
    assert verdict.outcome == Unavailable("the directory cannot be read: directory.sqlite: locked")
    assert verdict.steps.lines()[-1].startswith("temporary failure: ")


def test_a_hash_that_finds_no_memory_is_a_temporary_failure(town: Path) -> None:
    class NoMemory(Counter):
        def __call__(self, stored: str, password: str) -> bool:
            raise HashingFailed("Memory allocation error")

    for login in ("kay@example.test", "nobody@example.test"):
        verdict = attempt(town, login, counter=NoMemory())
        assert verdict.outcome == Unavailable("the password could not be hashed: Memory allocation error")


def test_a_flood_is_answered_within_bounds(town: Path) -> None:
    counter = Counter()

    async def play() -> list[LoginVerdict]:
        directory = Directory(town)
        pool = HashingPool(CHEAP, waiting_limit=50, verify=counter)
        login = Login(directory, pool)
        names = ["kay@example.test", "nobody@example.test", "off@example.test"]
        verdicts = await asyncio.gather(*(login.verify(names[at % 3], SECRET) for at in range(500)))
        directory.close()
        pool.close()
        return verdicts

    verdicts = asyncio.run(play())
    overloaded = [verdict for verdict in verdicts if isinstance(verdict.outcome, Unavailable)]
    assert len(overloaded) + len(counter.compared) == 500
    assert len(overloaded) >= 400
    assert any(verdict.identity is not None for verdict in verdicts)


def test_a_sasl_exchange_ends_with_what_the_login_found(town: Path) -> None:
    async def play() -> tuple[object, object]:
        directory, pool = Directory(town), HashingPool(CHEAP)
        login = Login(directory, pool)
        endings = []
        for password in (SECRET, "wrong"):
            exchange = ServerExchange(plain_server)
            need = exchange.start(b"\x00kay@example.test\x00" + password.encode())
            assert isinstance(need, VerifyPassword)
            endings.append(exchange.found(need, (await login.answer(need)).outcome))
        directory.close()
        pool.close()
        return endings[0], endings[1]

    assert asyncio.run(play()) == (
        Identity(Address("Kay", "example.test"), "kay@example.test", "PLAIN"),
        Refused("the password does not match"),
    )


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=10))
def test_any_login_gets_a_verdict(town: Path, login: str, password: str, authzid: str) -> None:
    verdict = attempt(town, login + "@example.test", password, authzid=authzid)
    assert isinstance(verdict.outcome, Refused)
    # Nothing a terminal or a log would obey.
    assert not any(
        unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in "".join(verdict.steps.lines())
    )
