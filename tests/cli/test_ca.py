"""gatepost ca, as an operator types it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gatepost.cli.ca import ca
from gatepost.cli.house import House
from gatepost.mail.clock import FakeClock, SystemClock
from gatepost.net.own_ca import OwnCa


def run(home: Path, *arguments: str | Path) -> Result:
    result = CliRunner().invoke(ca, [str(argument) for argument in arguments], obj=House(home))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def said(home: Path, *arguments: str | Path) -> list[str]:
    result = run(home, *arguments)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    said(tmp_path, "init", "--name", "Test CA")
    return tmp_path


def test_init_makes_a_ca_once(tmp_path: Path) -> None:
    lines = said(tmp_path, "init", "--name", "Test CA")
    assert "Subject: CN=Test CA" in lines
    assert lines[-1].endswith(str(tmp_path / "tls/ca/ca.crt"))
    again = run(tmp_path, "init")
    assert again.exit_code == 1
    assert "there is a CA already" in again.output
    said(tmp_path, "init", "--force")


def test_issue_show_and_list(home: Path) -> None:
    lines = said(home, "issue", "mail.example.test", "smtp.example.test", "--days", "30")
    assert f"Certificate: {home}/tls/mail.example.test.crt" in lines
    assert "Names: mail.example.test, smtp.example.test" in lines
    assert said(home, "show", "mail.example.test")[:-1] == lines[:-1]
    assert re.fullmatch(r"Valid until: \d{4}-\d\d-\d\d \d\d:\d\d UTC, (29|30) days left", lines[-1])
    assert "Subject: CN=Test CA" in said(home, "show")
    (line,) = said(home, "list")
    assert line.startswith("mail.example.test: mail.example.test, smtp.example.test; ")
    assert line.endswith(" days left; issued by this CA")
    chain, root = home / "tls/mail.example.test.crt", home / "tls/ca/ca.crt"
    subprocess.run(["openssl", "verify", "-CAfile", root, chain], check=True, capture_output=True, timeout=20)


def test_request_and_sign(home: Path) -> None:
    lines = said(home, "request", "app.example.test")
    assert lines[0] == f"Request: {home}/tls/app.example.test.csr"
    assert lines[1] == f"Key: {home}/tls/app.example.test.key"
    signed = said(home, "sign", home / "tls/app.example.test.csr", "--host", "other.test", "--host", "b.test")
    assert "Names: other.test, b.test" in signed
    assert run(home, "sign", home / "tls/app.example.test.csr").exit_code == 1
    assert "Names: app.example.test" in said(home, "sign", "--force", home / "tls/app.example.test.csr")


def test_renew_only_what_is_due(home: Path) -> None:
    said(home, "issue", "soon.test", "--days", "20")
    said(home, "issue", "late.test", "--days", "200")
    lines = said(home, "renew", "--all", "--days-left", "30")
    assert lines[0].startswith("late.test: left alone, ")
    assert lines[1].startswith("soon.test: renewed, valid until ")
    assert said(home, "renew", "late.test")[0].startswith("late.test: renewed")


def test_renew_needs_to_be_told_what(home: Path) -> None:
    for arguments in (["renew"], ["renew", "--all", "a.test"]):
        result = run(home, *arguments)
        assert result.exit_code == 2
        assert "name the hosts to renew, or --all" in result.output


def test_one_bad_certificate_does_not_keep_the_others_from_renewal(home: Path) -> None:
    for host in ("a.test", "c.test"):
        said(home, "issue", host)
    (home / "tls" / "b.test.crt").write_text("nonsense")
    result = run(home, "renew", "--all")
    assert result.exit_code == 1
    assert [line.partition(" valid")[0] for line in result.output.splitlines()] == [
        "a.test: renewed,",
        "c.test: renewed,",
        f"Error: {home}/tls/b.test.crt: this is no certificate in PEM",
    ]
    assert f"b.test: {home}/tls/b.test.crt: this is no certificate in PEM" in said(home, "list")


def test_certificates_of_others_and_expired_ones_are_told(home: Path) -> None:
    OwnCa(home / "tls" / "ca", FakeClock(SystemClock().now() - 100 * 86400)).issue(["old.test"], days=10)
    assert "EXPIRED on " in said(home, "list")[0]
    said(home, "init", "--force", "--name", "New CA")
    assert said(home, "list")[0].endswith("issued by CN=Test CA")
    assert said(home, "renew", "--all") == ["old.test: left alone, another CA issued it"]
    result = run(home, "renew", "old.test")
    assert result.exit_code == 1
    assert "gatepost ca issue --force old.test" in result.output


def test_errors_are_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    for arguments in (["issue", "a.test"], ["show"], ["renew", "a.test"]):
        result = run(tmp_path, *arguments)
        assert result.exit_code == 1
        assert result.output == f"Error: {tmp_path}/tls/ca: there is no CA yet; make one with `gatepost ca init`\n"
    assert said(tmp_path, "list") == []
    assert "is no host name" in run(tmp_path, "request", "../x").output


def test_the_command_line_starts_without_cryptography() -> None:
    code = "import sys, gatepost.cli.ca; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
