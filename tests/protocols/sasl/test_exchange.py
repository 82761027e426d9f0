"""The machines that drive a mechanism, with a toy that has every kind of step a later mechanism may need."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gatepost.mail.address import Address
from gatepost.mail.peer import Identity
from gatepost.protocols.sasl.exchange import (
    BadChallenge,
    BadMessage,
    Challenge,
    ClientExchange,
    ClientSteps,
    Credentials,
    Malformed,
    Need,
    Refused,
    Response,
    ServerExchange,
    ServerSteps,
    VerifyPassword,
    ask,
    find,
)


@dataclass(frozen=True, slots=True)
class LookupSecret(Need[bytes | None]):
    login: str


KAY = Identity(Address("kay", "example.test"), "kay@example.test", "TOY")


def toy_server(initial: bytes | None) -> ServerSteps:
    """Client-first, one look-up, one challenge made of it, and something to tell the client at the end (as SCRAM)."""
    login = initial if initial is not None else (yield from ask(b""))
    if not login.isascii():
        raise BadMessage("the login is not ASCII")
    secret = yield from find(LookupSecret(login.decode()))
    proof = yield from ask(b"salt")
    if secret is None or proof != secret:
        return Refused("wrong proof")
    if (yield from ask(b"v=mine")):
        raise BadMessage("nothing may follow the server's proof")
    return KAY


def toy_client(credentials: Credentials) -> ClientSteps:
    yield Response(credentials.login.encode())
    challenge = yield Response(b"secret")
    if challenge != b"v=mine":
        raise BadChallenge("the server does not know the secret")
    yield Response(b"", last=True)


def test_a_mechanism_with_every_kind_of_step_runs_to_its_identity() -> None:
    exchange = ServerExchange(toy_server)
    need = exchange.start(b"kay")
    assert need == LookupSecret("kay")
    assert isinstance(need, LookupSecret)
    assert exchange.found(need, b"secret") == Challenge(b"salt")
    assert exchange.respond(b"secret") == Challenge(b"v=mine")
    assert exchange.respond(b"") == KAY


def test_both_halves_agree() -> None:
    server = ServerExchange(toy_server)
    client = ClientExchange(toy_client, Credentials("kay", "secret"))
    step = server.start(client.start())
    while not isinstance(step, Identity):
        assert not client.may_succeed
        if isinstance(step, LookupSecret):
            step = server.found(step, b"secret")
        else:
            assert isinstance(step, Challenge)
            step = server.respond(client.respond(step.data))
    assert client.may_succeed
    assert step == KAY


def test_a_server_that_cannot_prove_itself_is_not_believed() -> None:
    client = ClientExchange(toy_client, Credentials("kay", "secret"))
    client.start()
    client.respond(b"salt")
    assert not client.may_succeed
    with pytest.raises(BadChallenge):
        client.respond(b"v=other")
    assert not client.may_succeed


def test_a_broken_message_is_an_ending_and_nothing_follows() -> None:
    exchange = ServerExchange(toy_server)
    assert exchange.start(b"\xff") == Malformed("the login is not ASCII")
    with pytest.raises(RuntimeError):
        exchange.respond(b"")


def test_an_answer_that_nobody_asked_for_is_the_drivers_fault_and_changes_nothing() -> None:
    exchange = ServerExchange(toy_server)
    with pytest.raises(RuntimeError):
        exchange.respond(b"early")
    need = exchange.start(b"kay")
    assert isinstance(need, LookupSecret)
    with pytest.raises(RuntimeError):
        exchange.start(b"again")
    with pytest.raises(RuntimeError):
        exchange.respond(b"to a need")
    with pytest.raises(RuntimeError):
        exchange.found(VerifyPassword("kay", "pw", "", "PLAIN"), KAY)
    assert exchange.found(need, b"secret") == Challenge(b"salt")


def test_cancel_ends_the_mechanism_where_it_stands() -> None:
    left: list[str] = []

    def mechanism(initial: bytes | None) -> ServerSteps:
        try:
            yield from ask(b"?")
        finally:
            left.append("closed")
        return KAY

    exchange = ServerExchange(mechanism)
    exchange.cancel()  # before it began: nothing happens
    exchange.start(None)
    exchange.cancel()
    assert left == ["closed"]
    with pytest.raises(RuntimeError):
        exchange.respond(b"late")


def test_an_initial_response_is_held_back_for_the_empty_challenge() -> None:
    client = ClientExchange(toy_client, Credentials("kay", "secret"))
    assert client.start(hold_back=True) is None
    assert client.respond(b"") == b"kay"
    assert client.respond(b"salt") == b"secret"

    pushed = ClientExchange(toy_client, Credentials("kay", "secret"))
    pushed.start(hold_back=True)
    with pytest.raises(BadChallenge):
        pushed.respond(b"salt")


def test_a_server_that_goes_on_asking_is_given_up() -> None:
    client = ClientExchange(toy_client, Credentials("kay", "secret"))
    client.start()
    client.respond(b"salt")
    client.respond(b"v=mine")
    with pytest.raises(BadChallenge):
        client.respond(b"more")


def test_no_secret_stands_in_a_repr() -> None:
    secret = "correct horse"
    values = (
        VerifyPassword("kay", secret, "", "PLAIN"),
        Credentials("kay", secret),
        Response(secret.encode()),
    )
    assert all("horse" not in repr(value) for value in values)
