"""TLS contexts, shown by handshakes: asyncio's, uvloop's and openssl s_client's."""

from __future__ import annotations

import asyncio
import shlex
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gatepost.mail.clock import FakeClock, SystemClock
from gatepost.mail.peer import TlsFacts
from gatepost.net.own_ca import OwnCa
from gatepost.net.tls_contexts import ServerTls, TlsError, client_context, find_certificates, key_warning, tls_facts

RUNS = [asyncio.run, uvloop.run]


class Place:
    """A home with a CA, three certificates, and what ServerTls said."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ca = OwnCa(home / "tls" / "ca")
        self.ca.create("Test CA")
        self.first = self.ca.issue(["mail.example.test"]).path
        self.second = self.ca.issue(["imap.example.test", "shared.test", "*.wild.test"]).path
        self.third = self.ca.issue(["shared.test", "a.wild.test"]).path
        self.clock = FakeClock()
        self.warnings: list[str] = []

    def tls(self, *certificates: Path, minimum: Any = "TLSv1.2") -> ServerTls:
        chosen = certificates or (self.first, self.second, self.third)
        return ServerTls(chosen, minimum, warn=self.warnings.append, clock=self.clock)

    def name_of(self, certificate: ssl._PeerCertRetDictType) -> str:
        subject: Any = certificate["subject"]
        return str(subject[0][0][1])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@asynccontextmanager
async def served(context: ssl.SSLContext) -> AsyncIterator[tuple[int, list[TlsFacts]]]:
    """A server that notes the facts of each handshake; its port and these facts."""
    facts: list[TlsFacts] = []
    done: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        done.add(task)
        facts.append(tls_facts(writer.get_extra_info("ssl_object")))
        writer.write(b"220 hello\r\n")
        try:
            await reader.read()
            writer.close()
            await writer.wait_closed()
        except (OSError, ssl.SSLError):
            pass

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], facts
    finally:
        server.close()
        await asyncio.gather(*done)
        await server.wait_closed()


async def shake(
    place: Place, port: int, name: str | None, context: ssl.SSLContext | None = None
) -> tuple[str, TlsFacts]:
    """The subject of the certificate that a client asking for `name` gets, and what the client's side says."""
    if context is None:
        context = client_context(verify=True, cafile=place.ca.certificate)
        context.check_hostname = False
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name or "")
    await reader.readline()
    ssl_object = writer.get_extra_info("ssl_object")
    certificate = ssl_object.getpeercert()
    facts = tls_facts(ssl_object)
    writer.close()
    await writer.wait_closed()
    return place.name_of(certificate) if certificate else "", facts


@pytest.mark.parametrize("run", RUNS)
def test_the_name_asked_for_chooses_the_certificate(place: Place, run: Callable[[Any], Any]) -> None:
    expected = {
        "mail.example.test": "mail.example.test",
        "imap.example.test": "imap.example.test",
        "IMAP.Example.test": "imap.example.test",
        "shared.test": "imap.example.test",  # the first that has the name
        "b.wild.test": "imap.example.test",  # by wildcard
        "a.wild.test": "shared.test",  # exactly, though a wildcard comes first
        "b.a.wild.test": "mail.example.test",  # a wildcard stands for one label: the default
        "wild.test": "mail.example.test",
        "unknown.test": "mail.example.test",
        None: "mail.example.test",  # no SNI
    }

    async def main() -> None:
        async with served(place.tls().context()) as (port, facts):
            for name, subject in expected.items():
                assert (name, (await shake(place, port, name))[0]) == (name, subject)
            assert [seen.server_name for seen in facts] == [(name or "").lower() for name in expected]

    run(main())
    assert place.warnings == []


def test_openssl_verifies_what_it_is_given(place: Place) -> None:
    async def main() -> None:
        async with served(place.tls().context()) as (port, facts):
            for name in ("mail.example.test", "imap.example.test", "x.wild.test"):
                process = await asyncio.create_subprocess_exec(
                    "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name,
                    "-verify_hostname", name, "-verify_return_error", "-CAfile", str(place.ca.certificate), "-brief",
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                )  # fmt: skip
                output, _ = await process.communicate()
                assert b"Verification: OK" in output, output
                assert f"Verified peername: {name if 'wild' not in name else '*.wild.test'}".encode() in output
            assert [seen.server_name for seen in facts] == ["mail.example.test", "imap.example.test", "x.wild.test"]

    asyncio.run(main())


@pytest.mark.parametrize("run", RUNS)
def test_facts_of_both_sides_agree(place: Place, run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with served(place.tls().context()) as (port, facts):
            _, ours = await shake(place, port, "mail.example.test")
            assert facts == [ours]
            assert ours.version == "TLSv1.3"
            assert ours.cipher.startswith("TLS_")
            assert ours.bits in {128, 256}

    run(main())


def test_facts_before_the_handshake_are_empty(place: Place) -> None:
    ssl_object = place.tls().context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    assert tls_facts(ssl_object) == TlsFacts("", "", 0, "")


def subject_after(place: Place, tls: ServerTls, change: Callable[[], Any], seconds: float = 2.0) -> tuple[str, str]:
    """The fingerprints of the default certificate before and after a change of files."""

    async def main() -> tuple[str, str]:
        async with served(tls.context()) as (port, _):
            prints = []
            for action in (lambda: None, change):
                action()
                place.clock.advance(seconds if action is change else 0.0)
                context = client_context(verify=False)
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=context, server_hostname="imap.example.test"
                )
                await reader.readline()
                prints.append(writer.get_extra_info("ssl_object").getpeercert(binary_form=True).hex())
                writer.close()
                await writer.wait_closed()
            return prints[0], prints[1]

    return asyncio.run(main())


def test_a_renewed_certificate_is_served_within_a_second_without_a_restart(place: Place) -> None:
    tls = place.tls()
    before, after = subject_after(place, tls, lambda: place.ca.renew("imap.example.test"))
    assert before != after
    assert place.warnings == []


def test_a_renewed_default_certificate_alone_is_served_too(place: Place) -> None:
    before, after = subject_after(place, place.tls(place.first), lambda: place.ca.renew("mail.example.test"))
    assert before != after


def test_a_new_key_and_certificate_are_served(place: Place) -> None:
    tls = place.tls()
    before, after = subject_after(place, tls, lambda: place.ca.issue(["imap.example.test"], replace=True))
    assert before != after


def test_files_are_looked_at_once_a_second_at_most(place: Place) -> None:
    before, after = subject_after(place, place.tls(), lambda: place.ca.renew("imap.example.test"), seconds=0.9)
    assert before == after


def test_an_expired_certificate_is_replaced_by_its_renewal(place: Place) -> None:
    long_ago = FakeClock(SystemClock().now() - 100 * 86400)
    OwnCa(place.ca.folder, long_ago).issue(["mail.example.test"], days=90, replace=True)
    checked = ssl.create_default_context(cafile=str(place.ca.certificate))

    async def main() -> None:
        async with served(place.tls().context()) as (port, _):
            with pytest.raises(ssl.SSLCertVerificationError):
                await shake(place, port, "mail.example.test", checked)

    # The CA itself is younger than the leaf; what counts is that the client refuses it before and takes it after.
    asyncio.run(main())
    tls = place.tls()
    place.ca.renew("mail.example.test")
    place.clock.advance(2)

    async def again() -> None:
        async with served(tls.context()) as (port, _):
            assert (await shake(place, port, "mail.example.test", checked))[0] == "mail.example.test"

    asyncio.run(again())


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_broken_renewal_keeps_the_old_one_and_is_told_once(place: Place, content: bytes) -> None:
    tls = place.tls()
    before, after = subject_after(place, tls, lambda: place.second.write_bytes(content))
    assert before == after
    assert len(place.warnings) == 1
    assert str(place.second) in place.warnings[0]
    assert "stays in use" in place.warnings[0]
    for _ in range(3):
        place.clock.advance(2)
        tls.refresh()
    assert len(place.warnings) == 1
    place.second.unlink()
    place.clock.advance(2)
    tls.refresh()
    assert len(place.warnings) == 2
    place.ca.issue(["imap.example.test"])
    assert subject_after(place, tls, lambda: None)[1] != before
    assert len(place.warnings) == 2


def test_a_key_that_does_not_fit_keeps_the_old_one(place: Place) -> None:
    tls = place.tls()
    key = place.second.with_suffix(".key")
    before, after = subject_after(place, tls, lambda: key.write_bytes(place.first.with_suffix(".key").read_bytes()))
    assert before == after
    assert f"{key}: this private key does not belong to {place.second}" in place.warnings[0]


def test_new_names_in_a_renewed_certificate_are_found(place: Place) -> None:
    tls = place.tls()

    async def main() -> None:
        async with served(tls.context()) as (port, _):
            assert (await shake(place, port, "new.test"))[0] == "mail.example.test"
            place.ca.issue(["imap.example.test", "new.test"], replace=True)
            place.clock.advance(2)
            assert (await shake(place, port, "new.test"))[0] == "imap.example.test"
            assert (await shake(place, port, "b.wild.test"))[0] == "mail.example.test"

    asyncio.run(main())


def test_old_versions_are_refused(place: Place) -> None:
    def client(highest: ssl.TLSVersion) -> ssl.SSLContext:
        context = client_context(verify=False)
        context.maximum_version = highest
        return context

    async def main() -> None:
        async with served(place.tls().context()) as (port, facts):
            await shake(place, port, "mail.example.test", client(ssl.TLSVersion.TLSv1_2))
            assert facts[0].version == "TLSv1.2"
        async with served(place.tls(minimum="TLSv1.3").context()) as (port, facts):
            await shake(place, port, "mail.example.test", client(ssl.TLSVersion.TLSv1_3))
            with pytest.raises((ssl.SSLError, OSError)):
                await shake(place, port, "mail.example.test", client(ssl.TLSVersion.TLSv1_2))
            assert len(facts) == 1

    asyncio.run(main())


def test_tls_1_1_is_refused_even_to_a_client_that_allows_it(place: Place) -> None:
    async def main() -> None:
        async with served(place.tls().context()) as (port, facts):
            process = await asyncio.create_subprocess_exec(
                "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0",
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            output, _ = await process.communicate()
            assert process.returncode != 0
            assert b"CONNECTED" in output
            assert b"Cipher is (NONE)" in output
            assert facts == []

    asyncio.run(main())


def test_a_verifying_client_refuses_strangers_and_wrong_names(place: Place) -> None:
    async def main() -> None:
        async with served(place.tls().context()) as (port, _):
            strict = client_context(verify=True, cafile=place.ca.certificate)
            assert (await shake(place, port, "mail.example.test", strict))[0] == "mail.example.test"
            for name, context in (("other.test", strict), ("mail.example.test", client_context(verify=True))):
                with pytest.raises(ssl.SSLCertVerificationError):
                    await shake(place, port, name, context)
            assert await shake(place, port, "other.test", client_context(verify=False))

    asyncio.run(main())


def test_an_opportunistic_client_takes_weak_old_certificates(place: Place) -> None:
    old = place.home / "old.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=old.test", "-sha1",
         "-keyout", old.with_suffix(".key"), "-out", old],
        check=True, capture_output=True, timeout=20,
    )  # fmt: skip
    weak = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    weak.set_ciphers("DEFAULT:@SECLEVEL=0")
    weak.load_cert_chain(old, old.with_suffix(".key"))

    async def main() -> None:
        async with served(weak) as (port, facts):
            await shake(place, port, "old.test", client_context(verify=False))
            assert len(facts) == 1

    asyncio.run(main())


def test_keys_that_others_can_read_are_told_with_the_cure(place: Place) -> None:
    key = place.first.with_suffix(".key")
    key.chmod(0o640)
    place.tls()
    assert place.warnings == [key_warning(key)]
    assert f"chmod 600 {key}" in place.warnings[0]
    subprocess.run(shlex.split(place.warnings[0].split("run: ")[1]), check=True, timeout=20)
    assert key_warning(key) == ""


def test_what_cannot_be_served_is_told_at_the_start(place: Place, tmp_path: Path) -> None:
    with pytest.raises(TlsError, match="gatepost ca issue"):
        ServerTls([], warn=place.warnings.append)
    with pytest.raises(TlsError, match=r"missing\.crt: the certificate cannot be read"):
        place.tls(tmp_path / "missing.crt")
    key = place.first.with_suffix(".key")
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "RSA", "-aes256", "-pass", "pass:secret", "-out", key],
        check=True, capture_output=True, timeout=20,
    )  # fmt: skip
    with pytest.raises(TlsError, match="without passphrase"):
        place.tls(place.first)
    key.unlink()
    with pytest.raises(TlsError, match=r"mail\.example\.test\.key: the private key of .* it belongs beside"):
        place.tls(place.first)


def test_certificates_are_found_below_the_home_or_as_configured(place: Place) -> None:
    home = place.home
    (home / "tls" / "alone.crt").write_bytes(place.first.read_bytes())  # has no key
    assert find_certificates([], home) == sorted([place.first, place.second, place.third])
    assert find_certificates([], home, "shared.test")[0] == place.third
    configured = find_certificates(["tls/mail.example.test.crt", "/elsewhere/x.crt"], home)
    assert configured == [place.first, Path("/elsewhere/x.crt")]
    assert find_certificates([], home / "nowhere") == []
