"""Our own certificate authority: a CA in one folder, and certificates for hosts beside that folder.

  tls/ca/ca.crt, ca.key    the CA (ECDSA P-256, ten years); clients that are to verify our hosts are given ca.crt
  tls/HOST.key             a host's private key (ECDSA P-256), mode 0600
  tls/HOST.csr             its certificate request, for this or another CA
  tls/HOST.crt             its certificate, then the CA's; mode 0644

Every file appears whole or not at all (written beside, synced, renamed) and belongs to the owner of the folder where
root writes it. A CA and a certificate are replaced only where the caller says `replace`; a key that is there is kept
and used again unless a certificate is replaced with it. From a request only its public key and its names are taken,
never its extensions, so that nobody can ask for a certificate that signs others.

`*.example.org` is kept as `_wildcard.example.org.crt`. All errors are CaError. Keys have no passphrase: the server must
start by itself. Certificates never outlive their CA.

RFC 5280 §4.2 (extensions), RFC 2986 (requests), RFC 6125 §6.4.3 (wildcards).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatepost.mail.address import BadAddress, parse_domain
from gatepost.mail.clock import Clock, SystemClock
from gatepost.net.certificate_files import (
    CaError,
    HostKey,
    certificate_pem,
    host_public_key,
    key_pem,
    make_folder,
    read_certificate,
    read_key,
    read_request,
    write_file,
)

DEFAULT_NAME = "Gatepost own CA"
CA_DAYS = 3650
HOST_DAYS = 825  # the longest that common clients take from a CA that was added by hand
BACKDATED = timedelta(hours=1)  # so that a peer whose clock is slow takes a new certificate
MAX_COMMON_NAME = 64  # characters, RFC 5280 appendix A.1 ub-common-name


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate says. Times are UTC; `days_left` is negative once it has expired."""

    path: Path
    subject: str  # RFC 4514
    names: tuple[str, ...]  # host names and addresses of its SAN
    issuer: str
    fingerprint: str  # SHA-256, AA:BB:…
    not_before: datetime
    not_after: datetime
    days_left: int


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class OwnCa:
    """The CA in `folder` (home/tls/ca); certificates for hosts are in the folder above it."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self.folder = folder
        self.hosts_folder = folder.parent
        self.certificate = folder / "ca.crt"
        self.key = folder / "ca.key"
        self._clock = clock or SystemClock()

    @property
    def exists(self) -> bool:
        """Whether there is a CA, or a part of one."""
        return self.certificate.exists() or self.key.exists()

    def create(self, name: str = DEFAULT_NAME, *, replace: bool = False) -> CertificateFacts:
        """Make the CA. With `replace` an old one goes, and what it signed is trusted no more. Raises CaError."""
        if self.exists and not replace:
            raise CaError(
                f"{self.folder}: there is a CA already, and certificates signed by it would lose their worth; "
                "to replace it all the same use --force"
            )
        if not name or len(name) > MAX_COMMON_NAME:
            raise CaError(f"the name of a CA has 1 to {MAX_COMMON_NAME} characters: {name!r} has {len(name)}")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = _key_usage(key_cert_sign=True, crl_sign=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = (
            self._builder(subject, subject, key.public_key(), self._now() + timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)  # RFC 5280 §4.2.1.9
            .add_extension(usage, critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        )
        certificate = builder.sign(key, hashes.SHA256())
        make_folder(self.hosts_folder, 0o755)
        make_folder(self.folder, 0o700)
        write_file(self.key, key_pem(key), 0o600)
        write_file(self.certificate, certificate_pem(certificate), 0o644)
        return self.show()

    def request(self, hosts: Sequence[str], *, replace: bool = False) -> Path:
        """Make a key (unless there is one) and a request for hosts; gives the request's path. Raises CaError.

        The first host names the files and the subject.
        """
        names = _host_names(hosts)
        target = self._host_file(names[0], ".csr")
        if target.exists() and not replace:
            raise CaError(f"{target}: there is a request already; to make a new one use --force")
        key = self._host_key(names[0])
        builder = x509.CertificateSigningRequestBuilder(_subject(names))
        request = builder.add_extension(_alternatives(names), critical=False).sign(key, hashes.SHA256())
        write_file(target, request.public_bytes(serialization.Encoding.PEM), 0o644)
        return target

    def sign(
        self, request: Path, *, hosts: Sequence[str] = (), days: int = HOST_DAYS, replace: bool = False
    ) -> CertificateFacts:
        """Sign a request. The certificate goes beside it, ending in `.crt`, and names `hosts` or what was asked for.

        Raises CaError.
        """
        authority = self._authority()
        asked = read_request(request)
        names = _host_names(hosts) if hosts else _requested_names(asked, request)
        public_key = host_public_key(asked.public_key(), request)
        target = _beside(request)
        if target.exists() and not replace:
            raise CaError(f"{target}: there is a certificate already; to replace it use --force")
        return self._certify(authority, public_key, names, days, target)

    def issue(self, hosts: Sequence[str], *, days: int = HOST_DAYS, replace: bool = False) -> CertificateFacts:
        """Key and certificate for hosts in one step; `replace` makes both anew. Raises CaError."""
        authority = self._authority()
        names = _host_names(hosts)
        target = self._host_file(names[0], ".crt")
        if target.exists() and not replace:
            raise CaError(
                f"{target}: there is a certificate already; for the same names and key use "
                f"`gatepost ca renew {names[0]}`, for new ones --force"
            )
        key = self._host_key(names[0], replace=replace)
        return self._certify(authority, key.public_key(), names, days, target)

    def renew(self, host: str, *, days: int = HOST_DAYS) -> CertificateFacts:
        """A new certificate for the same names and the same key. Raises CaError, also where another CA made the old."""
        authority = self._authority()
        target = self._host_file(_host_name(host), ".crt")
        old = read_certificate(target)
        if not _is_signed_by(old, authority.certificate):
            raise CaError(
                f"{target}: it was issued by {old.issuer.rfc4514_string()}, not by this CA, and can only be renewed "
                f"there; for a new one from this CA use `gatepost ca issue --force {host}`"
            )
        public_key = host_public_key(old.public_key(), target)
        return self._certify(authority, public_key, _names(old), days, target)

    def show(self, host: str = "") -> CertificateFacts:
        """The facts of a host's certificate, or of the CA's. Raises CaError."""
        path = self._host_file(_host_name(host), ".crt") if host else self.certificate
        if not host and not self.exists:
            raise CaError(f"{self.folder}: there is no CA yet; make one with `gatepost ca init`")
        return self._facts(read_certificate(path), path)

    def hosts(self) -> list[str]:
        """The hosts that have a certificate, by name."""
        return sorted(_host_of(path) for path in self.hosts_folder.glob("*.crt"))

    def has_issued(self, host: str) -> bool:
        """Whether this CA signed the host's certificate. Raises CaError."""
        certificate = read_certificate(self._host_file(_host_name(host), ".crt"))
        return self.certificate.exists() and _is_signed_by(certificate, read_certificate(self.certificate))

    def _certify(
        self, authority: _Authority, public_key: HostKey, names: Sequence[str], days: int, target: Path
    ) -> CertificateFacts:
        not_after = min(self._now() + timedelta(days=days), authority.certificate.not_valid_after_utc)
        if not_after <= self._now():
            raise CaError(
                f"{self.certificate}: the CA itself expired on {not_after:%Y-%m-%d}; make a new one with "
                "`gatepost ca init --force`, issue all certificates anew and give clients the new ca.crt"
            )
        subject, issuer = _subject(names), authority.certificate.subject
        issuer_key = x509.SubjectKeyIdentifier.from_public_key(authority.key.public_key())
        usage = _key_usage(digital_signature=True, key_encipherment=isinstance(public_key, rsa.RSAPublicKey))
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = (
            self._builder(subject, issuer, public_key, not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(purposes, critical=False)
            .add_extension(_alternatives(names), critical=not list(subject))  # RFC 5280 §4.2.1.6
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), critical=False)
        )
        certificate = builder.sign(authority.key, hashes.SHA256())
        write_file(target, certificate_pem(certificate) + certificate_pem(authority.certificate), 0o644)
        return self._facts(certificate, target)

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, public_key: HostKey, not_after: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now() - BACKDATED)
            .not_valid_after(not_after)
        )

    def _authority(self) -> _Authority:
        if not self.exists:
            raise CaError(f"{self.folder}: there is no CA yet; make one with `gatepost ca init`")
        certificate, key = read_certificate(self.certificate), read_key(self.key)
        if key.public_key() != certificate.public_key():
            raise CaError(
                f"{self.key}: this key does not belong to {self.certificate}; restore both from a backup or make "
                "a new CA with `gatepost ca init --force`"
            )
        return _Authority(certificate, key)

    def _host_key(self, host: str, *, replace: bool = False) -> ec.EllipticCurvePrivateKey:
        path = self._host_file(host, ".key")
        if path.exists() and not replace:
            return read_key(path)
        key = ec.generate_private_key(ec.SECP256R1())
        make_folder(self.hosts_folder, 0o755)
        write_file(path, key_pem(key), 0o600)
        return key

    def _host_file(self, host: str, suffix: str) -> Path:
        return self.hosts_folder / (host.replace("*", "_wildcard", 1) + suffix)

    def _facts(self, certificate: x509.Certificate, path: Path) -> CertificateFacts:
        return CertificateFacts(
            path=path,
            subject=certificate.subject.rfc4514_string(),
            names=tuple(_names(certificate)),
            issuer=certificate.issuer.rfc4514_string(),
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            days_left=(certificate.not_valid_after_utc - self._now()) // timedelta(days=1),
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(int(self._clock.now()), UTC)


def _is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _host_names(hosts: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(_host_name(host) for host in hosts))
    if not names:
        raise CaError("a certificate needs at least one host name")
    return names


def _host_name(host: str) -> str:
    """A host name in A-labels, a wildcard, or an IP address; the same as a file's name, so it holds no slash."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    wildcard, name = ("*.", host[2:]) if host.startswith("*.") else ("", host)
    try:
        if name.startswith("["):
            raise BadAddress("an address is written without brackets")
        return wildcard + parse_domain(name)
    except BadAddress as error:
        raise CaError(f"{host!r} is no host name: {error}") from None


def _host_of(path: Path) -> str:
    host = path.name.removesuffix(".crt")
    return "*." + host.removeprefix("_wildcard.") if host.startswith("_wildcard.") else host


def _beside(request: Path) -> Path:
    """Where a request's certificate goes: `mail.csr` becomes `mail.crt`; the dots of a bare host name stay."""
    return request.with_suffix(".crt") if request.suffix in {".csr", ".req", ".pem"} else Path(f"{request}.crt")


def _subject(names: Sequence[str]) -> x509.Name:
    if len(names[0]) > MAX_COMMON_NAME:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])


def _alternatives(names: Sequence[str]) -> x509.SubjectAlternativeName:
    general: list[x509.GeneralName] = []
    for name in names:
        try:
            general.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            general.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(general)


def _names(certificate: x509.Certificate | x509.CertificateSigningRequest) -> list[str]:
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []
    return [str(name.value) for name in alternatives if isinstance(name, (x509.DNSName, x509.IPAddress))]


def _requested_names(request: x509.CertificateSigningRequest, path: Path) -> list[str]:
    """The names in a request: its SAN or, as in requests made by hand, its common name alone."""
    common = [str(part.value) for part in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    names = _names(request) or common
    if not names:
        raise CaError(f"{path}: the request names no host; give the names with --host")
    return _host_names(names)


def _key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
