"""PLAIN and LOGIN, both halves, with good, bad and random messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.mail.address import Address
from gatepost.mail.peer import Identity
from gatepost.protocols.sasl.exchange import (
    MAX_NAME,
    MAX_PASSWORD,
    BadChallenge,
    Challenge,
    ClientExchange,
    Credentials,
    Malformed,
    Refused,
    ServerExchange,
    ServerMechanism,
    Step,
    Unavailable,
    VerifyPassword,
)
from gatepost.protocols.sasl.plain import login_client, login_server, plain_client, plain_server

KAY = Identity(Address("kay", "example.test"), "kay@example.test", "PLAIN")
text_without_nul = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=80)


def plain(message: bytes) -> Step:
    return ServerExchange(plain_server).start(message)


def login(name: bytes, password: bytes) -> Step:
    exchange = ServerExchange(login_server)
    exchange.start(None)
    step = exchange.respond(name)
    return exchange.respond(password) if isinstance(step, Challenge) else step


@pytest.mark.parametrize(
    ("message", "need"),
    [
        # RFC 4616 §4, the examples
        (b"\x00tim\x00tanstaaftanstaaf", VerifyPassword("tim", "tanstaaftanstaaf", "", "PLAIN")),
        (b"Ursel\x00Kurt\x00xipj3plmq", VerifyPassword("Kurt", "xipj3plmq", "Ursel", "PLAIN")),
        (b"kay\x00kay\x00pw", VerifyPassword("kay", "pw", "", "PLAIN")),
        (b"\x00kay\x00 p w ", VerifyPassword("kay", " p w ", "", "PLAIN")),
        ("\x00köy@bücher.test\x00pässwörd€".encode(), VerifyPassword("köy@bücher.test", "pässwörd€", "", "PLAIN")),
        (b"\x00k\x00" + b"x" * MAX_PASSWORD, VerifyPassword("k", "x" * MAX_PASSWORD, "", "PLAIN")),
    ],
)
def test_plain_reads_who_and_what(message: bytes, need: VerifyPassword) -> None:
    assert plain(message) == need


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "exactly two NULs"),
        (b"kay", "exactly two NULs"),
        (b"kay\x00pw", "exactly two NULs"),
        (b"\x00kay\x00pw\x00", "exactly two NULs"),  # how-to 003 describes it so; RFC 4616 does not
        (b"kay\x00pw\x00", "password is empty"),
        (b"\x00\x00", "login name is empty"),
        (b"\x00\x00pw", "login name is empty"),
        (b"\x00kay\x00", "password is empty"),
        (b"\x00k\xffy\x00pw", "login name is not UTF-8"),
        (b"\x00kay\x00\xc0\x80", "password is not UTF-8"),  # an overlong NUL
        (b"\xed\xa0\x80\x00kay\x00pw", "authorization name is not UTF-8"),  # a surrogate
        (b"\x00" + b"k" * (MAX_NAME + 1) + b"\x00pw", f"longer than {MAX_NAME} octets"),
        (b"\x00kay\x00" + b"x" * (MAX_PASSWORD + 1), f"longer than {MAX_PASSWORD} octets"),
        (b"\x00" * 1_000_000, "exactly two NULs"),
    ],
)
def test_plain_refuses_a_message_that_breaks_the_grammar(message: bytes, reason: str) -> None:
    step = plain(message)
    assert isinstance(step, Malformed)
    assert reason in step.reason


def test_plain_without_an_initial_response_asks_with_an_empty_challenge() -> None:
    exchange = ServerExchange(plain_server)
    assert exchange.start(None) == Challenge(b"")
    assert exchange.respond(b"\x00kay\x00pw") == VerifyPassword("kay", "pw", "", "PLAIN")


def test_an_empty_initial_response_is_a_response() -> None:
    assert isinstance(ServerExchange(plain_server).start(b""), Malformed)
    assert isinstance(ServerExchange(login_server).start(b""), Malformed)


def test_login_prompts_with_the_words_that_clients_compare() -> None:
    exchange = ServerExchange(login_server)
    assert exchange.start(None) == Challenge(b"Username:")
    assert exchange.respond(b"kay") == Challenge(b"Password:")
    assert exchange.respond(b"pw") == VerifyPassword("kay", "pw", "", "LOGIN")


def test_login_takes_an_initial_response_as_the_user_name() -> None:
    exchange = ServerExchange(login_server)
    assert exchange.start(b"kay") == Challenge(b"Password:")
    assert exchange.respond(b"pw") == VerifyPassword("kay", "pw", "", "LOGIN")


@pytest.mark.parametrize(
    ("name", "password", "reason"),
    [
        (b"", b"pw", "login name is empty"),
        (b"kay", b"", "password is empty"),
        (b"k\x00y", b"pw", "NUL in the login name"),
        (b"kay", b"p\x00w", "NUL in the password"),
        (b"kay", b"\xff", "password is not UTF-8"),
        (b"k" * (MAX_NAME + 1), b"pw", "longer than"),
        (b"kay", b"x" * (MAX_PASSWORD + 1), "longer than"),
    ],
)
def test_login_refuses_what_plain_refuses(name: bytes, password: bytes, reason: str) -> None:
    step = login(name, password)
    assert isinstance(step, Malformed)
    assert reason in step.reason


@pytest.mark.parametrize("mechanism", [plain_server, login_server])
@pytest.mark.parametrize("ending", [KAY, Refused("wrong password"), Unavailable("disk full")])
def test_the_ending_is_what_was_found(mechanism: ServerMechanism, ending: Identity | Refused | Unavailable) -> None:
    exchange = ServerExchange(mechanism)
    exchange.start(None)
    step = exchange.respond(b"\x00kay\x00pw") if mechanism is plain_server else exchange.respond(b"kay")
    if isinstance(step, Challenge):
        step = exchange.respond(b"pw")
    assert isinstance(step, VerifyPassword)
    assert exchange.found(step, ending) == ending


@given(st.binary(max_size=200))
def test_any_bytes_give_plain_a_need_or_an_ending(message: bytes) -> None:
    step = plain(message)
    if isinstance(step, VerifyPassword):
        authzid = step.authzid or message.split(b"\x00")[0].decode()
        assert authzid in (step.authzid, step.login, "")
        assert "\x00".join((authzid, step.login, step.password)).encode() == message
    else:
        assert isinstance(step, Malformed)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_give_login_a_need_or_an_ending(name: bytes, password: bytes) -> None:
    step = login(name, password)
    if isinstance(step, VerifyPassword):
        assert (step.login.encode(), step.password.encode()) == (name, password)
    else:
        assert isinstance(step, Malformed)


@given(st.binary(min_size=1, max_size=40).map(lambda noise: b"\x00kay\x00hunter2-" + noise))
def test_no_reason_repeats_what_the_client_sent(message: bytes) -> None:
    step = plain(message)
    assert isinstance(step, (Malformed, VerifyPassword))
    assert "hunter2" not in repr(step)


@given(text_without_nul, text_without_nul, st.none() | text_without_nul)
def test_what_the_plain_client_says_the_server_reads(name: str, password: str, authzid: str | None) -> None:
    credentials = Credentials(name, password, authzid or "")
    client = ClientExchange(plain_client, credentials)
    initial = client.start()
    assert initial is not None
    assert client.may_succeed
    other = "" if authzid == name else authzid or ""
    assert plain(initial) == VerifyPassword(name, password, other, "PLAIN")


@pytest.mark.parametrize("prompts", [(b"Username:", b"Password:"), (b"User Name\x00", b"Passcode?"), (b"", b"")])
def test_the_login_client_answers_in_order_whatever_the_prompts_say(prompts: tuple[bytes, bytes]) -> None:
    client = ClientExchange(login_client, Credentials("kay", "pw"))
    assert client.start() is None
    told = [(client.respond(prompt), client.may_succeed) for prompt in prompts]
    assert told == [(b"kay", False), (b"pw", True)]
    with pytest.raises(BadChallenge):
        client.respond(b"Once more:")


@pytest.mark.parametrize(
    "credentials", [Credentials("k\x00y", "pw"), Credentials("kay", "p\x00w"), Credentials("kay", "\ud800")]
)
def test_a_client_half_does_not_send_what_it_cannot_carry(credentials: Credentials) -> None:
    for mechanism in (plain_client, login_client):
        with pytest.raises(ValueError):
            ClientExchange(mechanism, credentials).start()
