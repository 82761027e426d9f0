"""Login: is this password this login's?

A login name is a full address, in any case of letters and with the domain as U-labels or A-labels; a bare name is
refused even where there is one domain only, because a second domain would change whose it is. `gatepost explain login`
prints the steps of this very path.

Same answer, same cost: one hash is computed whether the account is unknown, disabled, without a password or there.
What depends on nothing but the peer's own words (a login name that is no address, a password with control characters)
is refused without one. A stored password made with other parameters costs what those cost, until it is made anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from gatepost.auth.hashing import HashingPool, Overloaded
from gatepost.auth.passwords import BadPassword, HashingFailed, UnknownStoredForm, describe_stored, prepare_password
from gatepost.auth.residents import Residents
from gatepost.directory.records import Account, Domain
from gatepost.mail.address import Address, BadAddress, parse_address
from gatepost.mail.peer import Identity
from gatepost.mail.steps import Steps
from gatepost.protocols.sasl.exchange import Refused, Unavailable, VerifyPassword
from gatepost.storage.errors import StorageError


@dataclass(frozen=True, slots=True)
class LoginVerdict:
    """How a login ended, and the steps that led there. Reasons and steps are for the operator, never for the peer."""

    outcome: Identity | Refused | Unavailable
    steps: Steps

    @property
    def identity(self) -> Identity | None:
        """Who it is, or None where the login failed."""
        return self.outcome if isinstance(self.outcome, Identity) else None

    @property
    def reason(self) -> str:
        """Why it failed; "" where it did not."""
        return "" if isinstance(self.outcome, Identity) else self.outcome.reason


class _Failure(Exception):
    """Ends the path with `outcome`."""

    def __init__(self, outcome: Refused | Unavailable) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Login:
    """Compares logins with the accounts of the directory."""

    def __init__(self, residents: Residents, hashing: HashingPool) -> None:
        self._residents = residents
        self._hashing = hashing

    async def answer(self, need: VerifyPassword) -> LoginVerdict:
        """What a SASL exchange needs to know; `outcome` is what it is to be given. Never raises."""
        return await self.verify(need.login, need.password, authzid=need.authzid, mechanism=need.mechanism)

    async def verify(
        self, login: str, password: str | None, *, authzid: str = "", mechanism: str = "PLAIN"
    ) -> LoginVerdict:
        """Whether `login` may log in with `password` and act as `authzid` ("": as itself). Never raises.

        Without a password (None) all other steps are taken, and the outcome is Refused.
        """
        steps = Steps()
        outcome: Identity | Refused | Unavailable
        try:
            account = await self._authenticate(login, password, steps)
            _act_as(account, authzid)
            outcome = Identity(account, login, mechanism)
            steps.note("logged in as {}", account)
        except _Failure as failure:
            outcome = failure.outcome
            kind = "refused" if isinstance(outcome, Refused) else "temporary failure"
            steps.note("{}: {}", kind, outcome.reason)
        return LoginVerdict(outcome, steps)

    async def _authenticate(self, login: str, password: str | None, steps: Steps) -> Address:
        address = _login_address(login)
        steps.note("login name {!r} is read as {}", login, address.key)
        try:
            domain = await self._residents.domain(address.domain)
            account = await self._residents.account(address.key)
        except StorageError as error:
            raise _Failure(Unavailable(f"the directory cannot be read: {error}")) from error
        closed = _why_closed(address, domain, account)
        steps.note("{}", closed or f"account {address.key} is in the directory, it and its domain are active")
        mismatch = await self._compare(account.password if account is not None else "", password, steps)
        if account is None or closed or mismatch:
            raise _Failure(Refused(closed or mismatch))
        return account.address

    async def _compare(self, stored: str, password: str | None, steps: Steps) -> str:
        """Why they do not match, "" where they do. One hash, whatever there is to compare with."""
        stored = _comparable(stored, steps)
        if password is None:
            mismatch = "no password was given to compare"
        else:
            mismatch = await self._mismatch(stored, password)
        steps.note("{}", mismatch or "the password matches")
        return mismatch

    async def _mismatch(self, stored: str, password: str) -> str:
        try:
            prepare_password(password)
            matches = await self._matches(stored, password)
        except BadPassword as error:
            return f"what was given is no password: {error}"
        except UnknownStoredForm as error:
            return str(error)
        except Overloaded as error:
            raise _Failure(Unavailable(str(error))) from error
        except HashingFailed as error:
            raise _Failure(Unavailable(f"the password could not be hashed: {error}")) from error
        if not stored:
            return "there is no password to compare with; a stand-in was hashed, to take as long"
        return "" if matches else "the password does not match"

    async def _matches(self, stored: str, password: str) -> bool:
        if not stored:
            await self._hashing.verify_nobody(password)
            return False
        try:
            return await self._hashing.verify(stored, password)
        except UnknownStoredForm:
            await self._hashing.verify_nobody(password)  # what could not be read cost nothing
            raise


def _login_address(login: str) -> Address:
    if "@" not in login:
        raise _Failure(Refused("the login name is not a full address, user@domain"))
    try:
        return parse_address(login)
    except BadAddress as error:
        raise _Failure(Refused(f"the login name is no address: {error}")) from None


def _why_closed(address: Address, domain: Domain | None, account: Account | None) -> str:
    """Why nobody can log in here, "" where they can."""
    if domain is None:
        return f"domain {address.domain} is not in the directory"
    if account is None:
        return f"there is no account {address.key}"
    if not domain.active:
        return f"domain {domain.name} is disabled"
    if not account.active:
        return f"account {address.key} is disabled"
    return ""


def _comparable(stored: str, steps: Steps) -> str:
    """`stored` where it can be compared with, else "". Its form is told as a step."""
    if not stored:
        return ""
    try:
        steps.note("its password is stored as {}", describe_stored(stored))
    except UnknownStoredForm as error:
        steps.note("{}", error)
        return ""
    return stored


def _act_as(account: Address, authzid: str) -> None:
    """Everybody may act as themselves, in whatever spelling; nobody as another. RFC 4616 §2."""
    if not authzid:
        return
    try:
        same = parse_address(authzid).key == account.key
    except BadAddress:
        same = False
    if not same:
        raise _Failure(Refused(f"{account} may not act as {authzid!r}"))
