"""The own CA, with the openssl command line as witness."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from gatepost.mail.clock import FakeClock, SystemClock
from gatepost.net.certificate_files import CaError
from gatepost.net.own_ca import OwnCa

DAY = 86400


@pytest.fixture
def own_ca(tmp_path: Path) -> OwnCa:
    ca = OwnCa(tmp_path / "tls" / "ca", FakeClock(SystemClock().now()))
    ca.create("Test CA")
    return ca


def openssl(*arguments: str | Path) -> str:
    """What openssl says; an AssertionError where it fails."""
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout


def verify(ca: OwnCa, certificate: Path, host: str, purpose: str = "sslserver") -> str:
    wanted = "-verify_ip" if host.replace(".", "").isdigit() else "-verify_hostname"
    return openssl(
        "verify", "-x509_strict", "-purpose", purpose, wanted, host, "-CAfile", ca.certificate, certificate
    )  # fmt: skip


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def foreign_request(path: Path, *arguments: str, subject: str = "/CN=app.example.test") -> Path:
    key = path.with_suffix(".key")
    openssl("req", "-new", "-nodes", "-subj", subject, "-keyout", key, "-out", path, *arguments)
    return path


def test_the_ca_is_one_by_the_book(own_ca: OwnCa) -> None:
    text = openssl("x509", "-in", own_ca.certificate, "-noout", "-text")
    assert "Subject: CN = Test CA" in text
    assert "ASN1 OID: prime256v1" in text
    assert "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0" in text
    assert "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign" in text
    assert "X509v3 Subject Key Identifier" in text
    openssl("verify", "-x509_strict", "-check_ss_sig", "-CAfile", own_ca.certificate, own_ca.certificate)
    assert own_ca.show().days_left == 3650


def test_files_have_the_rights_they_need_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        ca = OwnCa(tmp_path / "tls" / "ca")
        ca.create()
        ca.issue(["mail.example.test"])
    finally:
        os.umask(before)
    folder = tmp_path / "tls"
    assert mode(ca.folder) == 0o700
    assert mode(ca.key) == mode(folder / "mail.example.test.key") == 0o600
    assert mode(ca.certificate) == mode(folder / "mail.example.test.crt") == 0o644
    names = {path.name for path in folder.rglob("*")}
    assert names == {"ca", "ca.crt", "ca.key", "mail.example.test.crt", "mail.example.test.key"}  # nothing left beside


def test_an_issued_certificate_verifies_for_each_of_its_names_and_no_other(own_ca: OwnCa) -> None:
    facts = own_ca.issue(["mail.example.test", "*.example.test", "127.0.0.1", "müller.test", "mail.example.test"])
    assert facts.names == ("mail.example.test", "*.example.test", "127.0.0.1", "xn--mller-kva.test")
    for host in ("mail.example.test", "imap.example.test", "127.0.0.1", "xn--mller-kva.test"):
        for purpose in ("sslserver", "sslclient"):
            verify(own_ca, facts.path, host, purpose)
    for host in ("example.test", "a.b.example.test", "127.0.0.2"):
        with pytest.raises(AssertionError, match="mismatch"):
            verify(own_ca, facts.path, host)


def test_facts_are_what_openssl_says(own_ca: OwnCa) -> None:
    facts = own_ca.issue(["mail.example.test"], days=30)
    said = openssl("x509", "-in", facts.path, "-noout", "-fingerprint", "-sha256", "-subject", "-issuer", "-enddate")
    assert f"sha256 Fingerprint={facts.fingerprint}" in said
    assert "subject=CN = mail.example.test" in said
    assert facts.subject == "CN=mail.example.test"
    assert facts.issuer == "CN=Test CA"
    assert f"{facts.not_after:%b %e %H:%M:%S %Y} GMT" in said
    assert facts.days_left == 30
    assert own_ca.show("mail.example.test") == facts


def test_the_chain_file_holds_the_leaf_and_then_the_ca(own_ca: OwnCa) -> None:
    facts = own_ca.issue(["mail.example.test"])
    chain = x509.load_pem_x509_certificates(facts.path.read_bytes())
    assert len(chain) == 2
    assert chain[1] == x509.load_pem_x509_certificate(own_ca.certificate.read_bytes())


def test_serials_differ(own_ca: OwnCa) -> None:
    serials = set()
    for _ in range(5):
        path = own_ca.issue(["mail.example.test"], replace=True).path
        serials.add(x509.load_pem_x509_certificate(path.read_bytes()).serial_number)
    assert len(serials) == 5


def test_a_request_is_a_valid_one_and_can_be_signed(own_ca: OwnCa) -> None:
    request = own_ca.request(["mail.example.test", "smtp.example.test"])
    text = openssl("req", "-in", request, "-verify", "-noout", "-text")
    assert "DNS:mail.example.test, DNS:smtp.example.test" in text
    facts = own_ca.sign(request)
    assert facts.path == own_ca.hosts_folder / "mail.example.test.crt"
    verify(own_ca, facts.path, "smtp.example.test")


def test_a_key_that_is_there_is_kept_and_used(own_ca: OwnCa) -> None:
    own_ca.request(["mail.example.test"])
    key = own_ca.hosts_folder / "mail.example.test.key"
    before = key.read_bytes()
    own_ca.request(["mail.example.test"], replace=True)
    facts = own_ca.issue(["mail.example.test"])
    assert key.read_bytes() == before
    assert openssl("x509", "-in", facts.path, "-noout", "-pubkey") == openssl("pkey", "-in", key, "-pubout")


def test_requests_made_with_openssl_are_signed_as_the_how_to_does(own_ca: OwnCa, tmp_path: Path) -> None:
    by_common_name = own_ca.sign(foreign_request(tmp_path / "a.csr"))
    assert by_common_name.path == tmp_path / "a.crt"
    assert by_common_name.names == ("app.example.test",)
    verify(own_ca, by_common_name.path, "app.example.test")
    with_names = foreign_request(tmp_path / "b.pem", "-addext", "subjectAltName=DNS:b.test,IP:192.0.2.1")
    assert own_ca.sign(with_names).names == ("b.test", "192.0.2.1")
    given = own_ca.sign(foreign_request(tmp_path / "c.test"), hosts=["c.test"], days=7)
    assert given.path == tmp_path / "c.test.crt"
    assert (given.names, given.days_left) == (("c.test",), 7)


def test_nobody_gets_a_ca_by_asking(own_ca: OwnCa, tmp_path: Path) -> None:
    request = foreign_request(
        tmp_path / "evil.csr", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign"
    )  # fmt: skip
    text = openssl("x509", "-in", own_ca.sign(request).path, "-noout", "-text")
    assert "CA:FALSE" in text
    assert "CA:TRUE" not in text
    assert "Certificate Sign" not in text


def test_requests_that_cannot_be_signed(own_ca: OwnCa, tmp_path: Path) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.test")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    pem = serialization.Encoding.PEM
    path = tmp_path / "a.csr"
    weak = builder.sign(rsa.generate_private_key(65537, 1024), SHA256()).public_bytes(pem)
    odd = builder.sign(dsa.generate_private_key(1024), SHA256()).public_bytes(pem)
    good = foreign_request(tmp_path / "b.csr").read_bytes()
    der = x509.load_pem_x509_csr(good).public_bytes(serialization.Encoding.DER)
    forged = x509.load_der_x509_csr(der.replace(b"app.example", b"root.exampl")).public_bytes(pem)
    nameless = foreign_request(tmp_path / "n.csr", subject="/O=Example").read_bytes()
    evil_name = foreign_request(tmp_path / "e.csr", subject="/CN=..\\/..\\/etc").read_bytes()
    for content, told in (
        (weak, "1024 bits is too weak"),
        (odd, "DSA"),
        (forged, "not signed with its own key"),
        (nameless, "--host"),
        (evil_name, "no host name"),
        (b"nonsense", "no certificate request"),
        (b"", "no certificate request"),
    ):
        path.write_bytes(content)
        with pytest.raises(CaError, match=told):
            own_ca.sign(path)
        assert not path.with_suffix(".crt").exists()
    with pytest.raises(CaError, match="no such file"):
        own_ca.sign(tmp_path / "missing.csr")


def test_nothing_is_replaced_unless_told(own_ca: OwnCa) -> None:
    own_ca.issue(["a.test"])
    request = own_ca.request(["b.test"])
    own_ca.sign(request)
    before = {path: path.read_bytes() for path in own_ca.hosts_folder.rglob("*.*")}
    for attempt, told in (
        (lambda: own_ca.create(), "there is a CA already"),
        (lambda: own_ca.issue(["a.test"]), r"gatepost ca renew a\.test"),
        (lambda: own_ca.request(["b.test"]), "there is a request already"),
        (lambda: own_ca.sign(request), "there is a certificate already"),
    ):
        with pytest.raises(CaError, match=told):
            attempt()
    assert {path: path.read_bytes() for path in own_ca.hosts_folder.rglob("*.*")} == before
    own_ca.issue(["a.test"], replace=True)
    assert (own_ca.hosts_folder / "a.test.key").read_bytes() != before[own_ca.hosts_folder / "a.test.key"]


def test_half_a_ca_is_not_overwritten(own_ca: OwnCa) -> None:
    own_ca.certificate.unlink()
    with pytest.raises(CaError, match="there is a CA already"):
        own_ca.create()
    with pytest.raises(CaError, match=r"ca\.crt: there is no such file"):
        own_ca.issue(["a.test"])


def test_renewal_keeps_names_and_key_and_moves_the_end(own_ca: OwnCa) -> None:
    old = own_ca.issue(["a.test", "b.test", "192.0.2.1"], days=5)
    key = old.path.with_suffix(".key").read_bytes()
    new = own_ca.renew("a.test")
    assert new.names == old.names
    assert new.fingerprint != old.fingerprint
    assert new.days_left > 800
    assert old.path.with_suffix(".key").read_bytes() == key
    verify(own_ca, new.path, "b.test")


def test_an_expired_certificate_can_be_renewed(tmp_path: Path) -> None:
    folder, today = tmp_path / "tls" / "ca", SystemClock().now()
    then, now = OwnCa(folder, FakeClock(today - 100 * DAY)), OwnCa(folder, FakeClock(today))
    then.create()
    facts = then.issue(["a.test"], days=90)
    with pytest.raises(AssertionError, match="expired"):
        verify(now, facts.path, "a.test")
    assert now.show("a.test").days_left == -10
    now.renew("a.test")
    verify(now, facts.path, "a.test")


def test_no_certificate_outlives_the_ca(tmp_path: Path) -> None:
    clock = FakeClock(SystemClock().now())
    ca = OwnCa(tmp_path / "tls" / "ca", clock)
    end = ca.create().not_after
    clock.advance(3600 * DAY)
    assert ca.issue(["a.test"]).not_after == end
    clock.advance(60 * DAY)
    with pytest.raises(CaError, match="the CA itself expired"):
        ca.renew("a.test")


def test_certificates_of_others_are_not_renewed(own_ca: OwnCa) -> None:
    own_ca.issue(["a.test"])
    own_ca.create("Test CA", replace=True)  # the same name, another key
    assert not own_ca.has_issued("a.test")
    with pytest.raises(CaError, match="not by this CA"):
        own_ca.renew("a.test")


def test_a_key_that_does_not_fit_the_ca_signs_nothing(own_ca: OwnCa, tmp_path: Path) -> None:
    other = OwnCa(tmp_path / "other" / "ca")
    other.create()
    own_ca.key.write_bytes(other.key.read_bytes())
    with pytest.raises(CaError, match="does not belong"):
        own_ca.issue(["a.test"])


def test_keys_that_cannot_be_used_are_named(own_ca: OwnCa) -> None:
    key = own_ca.hosts_folder / "a.test.key"
    openssl(
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-aes256",
        "-pass",
        "pass:secret",
        "-out",
        key,
    )
    with pytest.raises(CaError, match=r"a\.test\.key: this key has a passphrase"):
        own_ca.issue(["a.test"])
    key.write_text("nonsense")
    with pytest.raises(CaError, match=r"a\.test\.key: this is no private key"):
        own_ca.issue(["a.test"])
    assert key.read_text() == "nonsense"


@pytest.mark.parametrize(
    "host", ["", "../x", "a/b", "a b", "[192.0.2.1]", "*.*.test", "a.*.test", "x" * 300, "a\n.test"]
)
def test_what_is_no_host_name_gets_no_file(own_ca: OwnCa, host: str) -> None:
    before = set(own_ca.hosts_folder.rglob("*"))
    with pytest.raises(CaError, match=r"no host name|at least one"):
        own_ca.issue([host])
    assert set(own_ca.hosts_folder.rglob("*")) == before
    with pytest.raises(CaError):
        own_ca.issue([])


def test_long_and_wildcard_names(own_ca: OwnCa) -> None:
    long = f"{'a' * 60}.{'b' * 60}.test"
    verify(own_ca, own_ca.issue([long]).path, long)
    wildcard = own_ca.issue(["*.w.test"])
    assert wildcard.path.name == "_wildcard.w.test.crt"
    assert own_ca.hosts() == ["*.w.test", long]
    assert own_ca.renew("*.w.test").path == wildcard.path


def test_without_a_ca_everything_points_to_init(tmp_path: Path) -> None:
    ca = OwnCa(tmp_path / "tls" / "ca")
    attempts: list[Callable[[], object]] = [ca.show, lambda: ca.issue(["a.test"]), lambda: ca.renew("a.test")]
    for attempt in attempts:
        with pytest.raises(CaError, match="gatepost ca init"):
            attempt()
    assert list(tmp_path.iterdir()) == []


def test_a_name_no_ca_can_have(tmp_path: Path) -> None:
    for name in ("", "x" * 65):
        with pytest.raises(CaError, match="1 to 64"):
            OwnCa(tmp_path / "tls" / "ca").create(name)


def test_a_folder_that_cannot_be_written_is_named(own_ca: OwnCa) -> None:
    (own_ca.hosts_folder / "a.test.key").mkdir()
    with pytest.raises(CaError, match=r"a\.test\.key: it cannot be"):
        own_ca.issue(["a.test"], replace=True)
    assert not list(own_ca.hosts_folder.glob(".*"))
