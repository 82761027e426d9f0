"""AUTH: one SASL exchange over SMTP (RFC 4954). The mechanism says what it needs, `Login` finds it out, and the peer is told
the same for every reason a login may be refused."""

from __future__ import annotations

from dataclasses import dataclass

from gatepost.auth.login import Login
from gatepost.mail.peer import Identity
from gatepost.mail.reply import Reply
from gatepost.protocols.sasl.exchange import (
    Challenge,
    Malformed,
    Refused,
    ServerExchange,
    Step,
    Unavailable,
    VerifyPassword,
)
from gatepost.protocols.sasl.framing import (
    BadBase64,
    ResponseTooLong,
    decode_initial_response,
    decode_response,
    encode_challenge,
)
from gatepost.protocols.sasl.mechanisms import Mechanism

AUTHENTICATED = Reply(235, "2.7.0", "Authentication successful")
BAD_CREDENTIALS = Reply(535, "5.7.8", "Error: authentication failed")
TEMPORARY = Reply(454, "4.7.0", "Temporary authentication failure")
MALFORMED = Reply(501, "5.5.2", "Malformed authentication response")
TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line is too long")


@dataclass(frozen=True, slots=True)
class LoginEnd:
    """How it ended: the reply, who it is if it went well, and for the operator the reason if not."""

    reply: Reply
    identity: Identity | None = None
    login: str = ""
    reason: str = ""


class SmtpLogin:
    """One exchange. `begin` and `go_on` give the next challenge, ready for the wire, or the end."""

    def __init__(self, mechanism: Mechanism, login: Login) -> None:
        self.mechanism = mechanism.name
        self._exchange = ServerExchange(mechanism.server)
        self._login = login
        self._name = ""

    async def begin(self, initial: bytes | None) -> bytes | LoginEnd:
        """`initial` as it stands in the command, None where there is none."""
        try:
            decoded = None if initial is None else decode_initial_response(initial)
        except BadBase64 as bad:
            return self._malformed(bad)
        return await self._drive(self._exchange.start(decoded))

    async def go_on(self, line: bytes) -> bytes | LoginEnd:
        """The client's line after a challenge."""
        try:
            response = decode_response(line)
        except BadBase64 as bad:
            self._exchange.cancel()
            return self._malformed(bad)
        return await self._drive(self._exchange.respond(response))

    def cancel(self) -> None:
        """The client gave up or went away."""
        self._exchange.cancel()

    def _malformed(self, bad: BadBase64) -> LoginEnd:
        return LoginEnd(TOO_LONG if isinstance(bad, ResponseTooLong) else MALFORMED, reason=str(bad))

    async def _drive(self, step: Step) -> bytes | LoginEnd:
        while isinstance(step, VerifyPassword):
            self._name = step.login
            verdict = await self._login.answer(step)
            step = self._exchange.found(step, verdict.outcome)
        match step:
            case Challenge():
                return encode_challenge(step.data)
            case Identity():
                return LoginEnd(AUTHENTICATED, step, self._name)
            case Refused():
                return LoginEnd(BAD_CREDENTIALS, None, self._name, step.reason)
            case Unavailable():
                return LoginEnd(TEMPORARY, None, self._name, step.reason)
            case Malformed():
                return LoginEnd(MALFORMED, None, self._name, step.reason)
            case _:
                raise RuntimeError(
                    f"mechanism {self.mechanism} needs {type(step).__name__}, which SMTP cannot find out"
                )
