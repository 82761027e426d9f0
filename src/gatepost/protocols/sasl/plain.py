"""PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login-00): the password goes over as it is, so only under TLS.

Strict: well-formed UTF-8, no NUL within a field, no empty login or password, MAX_NAME and MAX_PASSWORD octets at most.
Whatever breaks this ends as Malformed before anything is looked up. An authorization name equal to the login counts as
none; any other is handed on with the Need, and whoever answers it decides.
"""

from __future__ import annotations

from gatepost.protocols.sasl.exchange import (
    MAX_NAME,
    MAX_PASSWORD,
    BadMessage,
    ClientSteps,
    Credentials,
    Response,
    ServerSteps,
    VerifyPassword,
    ask,
    find,
)

USERNAME_PROMPT = b"Username:"  # exactly these: some clients compare
PASSWORD_PROMPT = b"Password:"


def plain_server(initial: bytes | None) -> ServerSteps:
    """authzid NUL authcid NUL password, in one message. RFC 4616 §2."""
    message = initial if initial is not None else (yield from ask(b""))
    fields = message.split(b"\x00", 3)
    if len(fields) != 3:
        raise BadMessage("a PLAIN message has exactly two NULs")
    authzid = _text(fields[0], "authorization name", MAX_NAME)
    login = _filled(fields[1], "login name", MAX_NAME)
    password = _filled(fields[2], "password", MAX_PASSWORD)
    other = "" if authzid == login else authzid
    return (yield from find(VerifyPassword(login, password, other, "PLAIN")))


def login_server(initial: bytes | None) -> ServerSteps:
    """Two prompts. An initial response is not in the draft, but clients send it and mean the user name."""
    answer = initial if initial is not None else (yield from ask(USERNAME_PROMPT))
    login = _filled(answer, "login name", MAX_NAME)
    password = _filled((yield from ask(PASSWORD_PROMPT)), "password", MAX_PASSWORD)
    return (yield from find(VerifyPassword(login, password, "", "LOGIN")))


def plain_client(credentials: Credentials) -> ClientSteps:
    """One message, at once. Raises ValueError for credentials that PLAIN cannot carry."""
    fields = (credentials.authzid, credentials.login, credentials.password)
    yield Response(b"\x00".join(_carried(field) for field in fields), last=True)


def login_client(credentials: Credentials) -> ClientSteps:
    """The name to the first prompt, the password to the second, whatever they say: servers word them differently."""
    login, password = _carried(credentials.login), _carried(credentials.password)
    yield None
    yield Response(login)
    yield Response(password, last=True)


def _text(field: bytes, name: str, limit: int) -> str:
    if len(field) > limit:
        raise BadMessage(f"the {name} is longer than {limit} octets")
    if b"\x00" in field:
        raise BadMessage(f"there is a NUL in the {name}")
    try:
        return field.decode()
    except UnicodeDecodeError:
        # The cause is cut off: it would carry the field.
        raise BadMessage(f"the {name} is not UTF-8") from None


def _filled(field: bytes, name: str, limit: int) -> str:
    if not field:
        raise BadMessage(f"the {name} is empty")
    return _text(field, name, limit)


def _carried(field: str) -> bytes:
    if "\x00" in field:
        raise ValueError("neither PLAIN nor LOGIN can carry a NUL in a name or password")
    try:
        return field.encode()
    except UnicodeEncodeError:
        raise ValueError("a name or password cannot be written in UTF-8") from None
