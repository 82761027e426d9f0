"""TLS contexts: for our listeners (SNI choice among certificates, renewed files picked up) and towards next hops.

`ServerTls` holds certificate chains (PEM, the key beside as `.key`). A handshake gets the chain whose certificate names
the server name the client asked for, exactly or by wildcard; else the first one. At most once a second, at a handshake
or a call of `context()`, the files are looked at (mtime, inode, size); one that changed is loaded. Where that fails the
chain loaded before stays in use and `warn` is told why, once per change of the file.

TLS 1.2 or newer, OpenSSL's default ciphers as Python narrows them, no compression, no renegotiation. Client
certificates are not asked for. Passphrases are never prompted for.

Names inside certificates are read with cryptography (8 MB to import), and only where there is more than one chain.

RFC 6066 §3 (SNI), RFC 9325 (safe use of TLS), RFC 6125 §6.4.3 (wildcards), RFC 7435 (opportunistic security).
"""

from __future__ import annotations

import shlex
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from gatepost.mail.clock import Clock, SystemClock
from gatepost.mail.peer import TlsFacts

CHECK_INTERVAL = 1.0  # seconds between two looks at the files

MinimumVersion = Literal["TLSv1.2", "TLSv1.3"]

_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}

# RFC 7435: towards a next hop whose name is not checked, a weak key still protects better than no TLS at all.
_OPPORTUNISTIC_CIPHERS = "DEFAULT:@SECLEVEL=1:!aNULL:!eNULL"

_Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]


class TlsError(Exception):
    """A certificate or key that can't be used. The text names the file and what to do."""


class _ServedSslObject(ssl.SSLObject):
    """Remembers what the client asked for; `ssl` itself keeps that from the server side."""

    requested_name: str = ""


class _FrontContext(ssl.SSLContext):
    sslobject_class = _ServedSslObject


@dataclass(frozen=True, slots=True)
class _Chain:
    """One certificate chain as loaded. `names` from its SAN, in lower case, `*.` for wildcards."""

    context: ssl.SSLContext
    names: tuple[str, ...]


class ServerTls:
    """The certificates of our listeners. Belongs to one thread (the event loop's)."""

    def __init__(
        self,
        certificates: Sequence[Path],
        minimum_version: MinimumVersion = "TLSv1.2",
        *,
        warn: Callable[[str], None],
        clock: Clock | None = None,
    ) -> None:
        """Loads all chains; the first is the default. `warn` must not raise. Raises TlsError."""
        if not certificates:
            raise TlsError("no certificate with its key was found; make one with `gatepost ca issue HOST`")
        self._certificates = list(certificates)
        self._minimum_version = _VERSIONS[minimum_version]
        self._warn = warn
        self._clock = clock or SystemClock()
        self._next_check = self._clock.monotonic() + CHECK_INTERVAL
        self._stamps = [_stamp(path) for path in self._certificates]
        self._chains = [self._load(path) for path in self._certificates]
        self._by_name = _by_name(self._chains)
        self._front = self._make_front()

    def context(self) -> ssl.SSLContext:
        """The context for `wrap_bio`, `start_tls` and servers; the same object for good, it always serves what is new."""
        self.refresh()
        return self._front

    def refresh(self) -> None:
        """Load what changed on disk, unless that was looked at within the last second. Never raises."""
        now = self._clock.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + CHECK_INTERVAL
        for place, path in enumerate(self._certificates):
            stamp = _stamp(path)
            if stamp == self._stamps[place]:
                continue
            self._stamps[place] = stamp
            try:
                self._chains[place] = self._load(path)
            except TlsError as error:
                self._warn(f"{error}; the certificate loaded before stays in use")
        self._by_name = _by_name(self._chains)

    def _make_front(self) -> ssl.SSLContext:
        front = _FrontContext(ssl.PROTOCOL_TLS_SERVER)
        front.minimum_version = self._minimum_version
        front.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        front.sni_callback = self._choose
        return front

    def _choose(self, ssl_object: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        """At each handshake, with or without SNI: the context that holds the chain for `name` takes over."""
        self.refresh()
        wanted = (name or "").lower().removesuffix(".")
        if isinstance(ssl_object, _ServedSslObject):
            ssl_object.requested_name = wanted
        chain = self._by_name.get(wanted)
        if chain is None:
            # RFC 6125 §6.4.3: the wildcard stands for exactly one label.
            chain = self._by_name.get(f"*.{wanted.partition('.')[2]}", self._chains[0])
        ssl_object.context = chain.context

    def _load(self, certificate: Path) -> _Chain:
        """Raises TlsError."""
        key = key_of(certificate)
        for path in (certificate, key):
            try:
                path.open("rb").close()
            except OSError as error:
                raise TlsError(_unreadable(path, certificate, error)) from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self._minimum_version
        try:
            context.load_cert_chain(certificate, key, password=lambda: b"")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise TlsError(_unusable(certificate, key, error)) from None
        names = _names(certificate) if len(self._certificates) > 1 else ()
        warning = key_warning(key)
        if warning:
            self._warn(warning)
        return _Chain(context, names)


def key_of(certificate: Path) -> Path:
    """Where the key of a certificate is: beside it, ending in `.key`."""
    return certificate.with_suffix(".key")


def key_warning(key: Path) -> str:
    """What to tell an operator whose private key others can read, with the command that mends it; "" where all is well."""
    try:
        mode = key.stat().st_mode & 0o777
    except OSError:
        return ""
    if not mode & 0o077:
        return ""
    command = f"chmod 600 {shlex.quote(str(key))}"
    return f"{key}: others than its owner have access to this private key (mode {mode:04o}); run: {command}"


def find_certificates(configured: Sequence[str], home: Path, hostname: str = "") -> list[Path]:
    """The certificates to serve: those configured (paths below `home`), or all of tls/*.crt there that have a key.

    What was configured is given back whether it exists or not, so that `ServerTls` can say what is missing. Of found
    ones the one named for `hostname` comes first, then by file name.
    """
    if configured:
        return [home / path for path in configured]
    found = [path for path in sorted((home / "tls").glob("*.crt")) if key_of(path).exists()]
    return sorted(found, key=lambda path: path.name != f"{hostname}.crt")


def client_context(*, verify: bool, cafile: Path | None = None) -> ssl.SSLContext:
    """A context towards next hops; make one and keep it. Unverified it takes any certificate (opportunistic TLS).

    Verified it trusts the system's CAs and those in `cafile`, and checks the server name given at the handshake.
    Raises OSError for a `cafile` that cannot be read.
    """
    if verify:
        context = ssl.create_default_context()
        if cafile is not None:
            context.load_verify_locations(cafile)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers(_OPPORTUNISTIC_CIPHERS)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def tls_facts(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> TlsFacts:
    """How a connection is protected, once its handshake is done; empty facts before that."""
    name, _, bits = ssl_object.cipher() or ("", "", 0)
    asked = getattr(ssl_object, "requested_name", "") or ssl_object.server_hostname or ""
    return TlsFacts(ssl_object.version() or "", name, bits or 0, asked)


def _stamp(certificate: Path) -> _Stamp:
    """What changes when the certificate or its key is written or replaced."""
    parts: list[tuple[int, int, int] | None] = []
    for path in (certificate, key_of(certificate)):
        try:
            status = path.stat()
        except OSError:
            parts.append(None)
        else:
            parts.append((status.st_mtime_ns, status.st_ino, status.st_size))
    return tuple(parts)


def _by_name(chains: Sequence[_Chain]) -> dict[str, _Chain]:
    """Which chain serves a name; the first that has it."""
    return {name: chain for chain in reversed(chains) for name in chain.names}


def _names(certificate: Path) -> tuple[str, ...]:
    from cryptography import x509

    try:
        leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(name.lower() for name in alternatives.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        return ()
    except (OSError, ValueError, x509.DuplicateExtension) as error:
        raise TlsError(f"{certificate}: its names cannot be read ({error}); make a new certificate") from None


def _unreadable(path: Path, certificate: Path, error: OSError) -> str:
    why = error.strerror or str(error)
    if path == certificate:
        return f"{path}: the certificate cannot be read ({why})"
    return f"{path}: the private key of {certificate.name} cannot be read ({why}); it belongs beside the certificate"


def _unusable(certificate: Path, key: Path, error: Exception) -> str:
    reason = getattr(error, "reason", "") or ""
    if reason == "KEY_VALUES_MISMATCH":
        return f"{key}: this private key does not belong to {certificate}; put the right one there"
    told = reason.replace("_", " ").lower() or str(error)
    return f"{certificate}: not a PEM certificate chain with a PEM key without passphrase in {key.name} ({told})"
