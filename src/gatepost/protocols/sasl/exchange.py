"""What a SASL mechanism is, and the machines that drive one (RFC 4422 §3).

The server half of a mechanism is a generator: called with the initial response (None where the client sent none), it
yields a `Challenge` and is sent the client's response, or yields a `Need` and is sent what was found out, and returns
how it ended. It never fetches anything, so the same half serves SMTP, IMAP, POP3 and the sockets of other daemons, and
a test needs no directory. The client half is a generator too: it yields a `Response` and is sent a challenge.

A mechanism that must tell the client something at the end (SCRAM's `v=`) yields it as one more Challenge and expects an
empty response, because none of SMTP, IMAP and POP3 can carry data with its "yes" (RFC 4954 §4).

Misuse by the driver (an answer nobody asked for) raises RuntimeError; whatever a peer does never raises.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from gatepost.mail.peer import Identity

MAX_NAME = 1024  # octets of a login or authorization name; RFC 4616 §2 asks for 255 at least
MAX_PASSWORD = 1024  # octets

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the client is told next, before base64; its response is awaited."""

    data: bytes


class Need(Generic[Found]):
    """What must be found out before the exchange can go on. Each kind says what it is answered with."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The proof failed. `reason` is for the operator; the client is told the same whatever it was."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """It could not be found out now: a temporary failure. `reason` is for the operator."""

    reason: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """The client broke the mechanism's grammar. `reason` holds nothing of what it sent."""

    reason: str


@dataclass(frozen=True, slots=True)
class VerifyPassword(Need[Identity | Refused | Unavailable]):
    """Is this password the login's? `authzid` is whom they wish to act as, "" for themselves."""

    login: str
    password: str = field(repr=False)
    authzid: str
    mechanism: str


Ending: TypeAlias = Identity | Refused | Unavailable | Malformed
Step: TypeAlias = Challenge | Need[Any] | Identity | Refused | Unavailable | Malformed
ServerSteps: TypeAlias = Generator[Challenge | Need[Any], Any, Ending]
ServerMechanism: TypeAlias = Callable[[bytes | None], ServerSteps]


class BadMessage(ValueError):
    """Raised inside a server half: the message breaks the grammar. It becomes the ending Malformed."""


class BadChallenge(ValueError):
    """The server said something that the client half cannot accept: the login is to be given up."""


def ask(challenge: bytes) -> Generator[Challenge | Need[Any], Any, bytes]:
    """Within a server half: `response = yield from ask(b"Username:")`."""
    response: bytes = yield Challenge(challenge)
    return response


def find(need: Need[Found]) -> Generator[Challenge | Need[Any], Any, Found]:
    """Within a server half: `found = yield from find(VerifyPassword(…))`."""
    found: Found = yield need
    return found


class ServerExchange:
    """One login, seen from the server."""

    def __init__(self, mechanism: ServerMechanism) -> None:
        self._mechanism = mechanism
        self._steps: ServerSteps | None = None
        self._waits_for: Challenge | Need[Any] | None = None

    def start(self, initial: bytes | None) -> Step:
        """The first step. `initial` is the decoded initial response, None where there was none (b"" is a response)."""
        if self._steps is not None:
            raise RuntimeError("the exchange was started before")
        self._steps = self._mechanism(initial)
        return self._advance(None)

    def respond(self, response: bytes) -> Step:
        """The client's decoded response to the last Challenge."""
        if not isinstance(self._waits_for, Challenge):
            raise RuntimeError("no challenge waits for a response")
        return self._advance(response)

    def found(self, need: Need[Found], found: Found) -> Step:
        """What was found out for the `need` that was the last step."""
        if self._waits_for is not need:
            raise RuntimeError("nothing waits for this finding")
        return self._advance(found)

    def cancel(self) -> None:
        """The client gave up (`*`) or went away. Nothing can follow."""
        self._waits_for = None
        if self._steps is not None:
            self._steps.close()

    def _advance(self, sent: object) -> Step:
        assert self._steps is not None
        self._waits_for = None
        try:
            self._waits_for = self._steps.send(sent)
        except StopIteration as stop:
            ending: Ending = stop.value
            return ending
        except BadMessage as bad:
            return Malformed(str(bad))
        return self._waits_for


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client logs in with. `authzid` is whom it wishes to act as, "" for itself."""

    login: str
    password: str = field(repr=False)
    authzid: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """What the server is told next, before base64. `last`: nothing is left to prove, so the server may say yes."""

    data: bytes = field(repr=False)
    last: bool = False


ClientSteps: TypeAlias = Generator[Response | None, bytes, None]
"""Yields None first where the server speaks first, then a Response to each challenge."""
ClientMechanism: TypeAlias = Callable[[Credentials], ClientSteps]


class ClientExchange:
    """One login, seen from the client."""

    def __init__(self, mechanism: ClientMechanism, credentials: Credentials) -> None:
        self._steps = mechanism(credentials)
        self._held_back: Response | None = None
        self.may_succeed = False  # whether a "yes" of the server is to be believed now

    def start(self, *, hold_back: bool = False) -> bytes | None:
        """The initial response, or None where there is none. Call it once, first.

        `hold_back`: the protocol or the server takes no initial response (IMAP without SASL-IR, a line that would grow
        too long): it is kept for the server's empty first challenge (RFC 4954 §4).
        """
        first = next(self._steps)
        if first is None:
            return None
        if hold_back:
            self._held_back = first
            return None
        return self._tell(first)

    def respond(self, challenge: bytes) -> bytes:
        """The response to a decoded challenge. Raises BadChallenge."""
        if self._held_back is not None:
            response, self._held_back = self._held_back, None
            if challenge:
                raise BadChallenge("the server speaks first in a mechanism where the client does")
            return self._tell(response)
        try:
            following = self._steps.send(challenge)
        except StopIteration:
            raise BadChallenge("the server asks for more than the mechanism has") from None
        if following is None:
            raise RuntimeError("a client half owes a response to every challenge")
        return self._tell(following)

    def _tell(self, response: Response) -> bytes:
        self.may_succeed = response.last
        return response.data
