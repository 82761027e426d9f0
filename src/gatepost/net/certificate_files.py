"""The files a CA and its hosts have: PEM read strictly, written whole or not at all.

Every failure is a CaError that says what happened, where, and what to do.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

LEAST_RSA_BITS = 2048

HostKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey


class CaError(Exception):
    """What happened, where, and what to do."""


def host_public_key(key: object, path: Path) -> HostKey:
    """The public key where it is fit for TLS; `path` is where it came from. Raises CaError."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        raise CaError(f"{path}: an RSA key of {key.key_size} bits is too weak; make one of {LEAST_RSA_BITS} or more")
    if isinstance(key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey, ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
        return key
    kind = "DSA" if isinstance(key, dsa.DSAPublicKey) else type(key).__name__
    raise CaError(f"{path}: {kind} keys are not for TLS; make an ECDSA or RSA key")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CaError(f"{path}: there is no such file") from None
    except OSError as error:
        raise CaError(f"{path}: it cannot be read: {error.strerror}") from None


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate in a PEM file. Raises CaError."""
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError:
        raise CaError(f"{path}: this is no certificate in PEM") from None


def read_request(path: Path) -> x509.CertificateSigningRequest:
    """A request that is signed with its own key (RFC 2986 §3). Raises CaError."""
    try:
        request = x509.load_pem_x509_csr(_read(path))
        if request.is_signature_valid:
            return request
    except (ValueError, UnsupportedAlgorithm):
        raise CaError(f"{path}: this is no certificate request in PEM") from None
    raise CaError(f"{path}: the request is not signed with its own key; make it again")


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """An ECDSA private key without passphrase. Raises CaError."""
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except TypeError:
        raise CaError(f"{path}: this key has a passphrase, and the server cannot ask for it; take it off") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CaError(f"{path}: this is no private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CaError(f"{path}: this is no ECDSA key; move it away, or make a request with openssl and sign that")
    return key


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """The certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key in PEM (PKCS #8, RFC 5958), without passphrase."""
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, kind, serialization.NoEncryption())


def make_folder(folder: Path, mode: int) -> None:
    """The folder, with its parents; what is there stays as it is. Raises CaError."""
    try:
        folder.mkdir(mode=mode, parents=True)
        _give_to_owner_of(folder.parent, folder)
    except FileExistsError:
        pass
    except OSError as error:
        raise CaError(f"{folder}: the folder cannot be made: {error.strerror}") from None


def write_file(path: Path, content: bytes, mode: int) -> None:
    """The whole file or nothing: written beside, synced, renamed. `mode` holds whatever the umask. Raises CaError."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123
                os.fchmod(descriptor, mode)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            _give_to_owner_of(path.parent, beside)
            beside.rename(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CaError(f"{path}: it cannot be written: {error.strerror}") from None


def _give_to_owner_of(folder: Path, path: Path) -> None:
    """What root makes in somebody's home belongs to them, so that workers without root's rights can read it."""
    if os.geteuid() == 0:
        status = folder.stat()
        os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)
