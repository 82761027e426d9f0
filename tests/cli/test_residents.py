"""gatepost domain, account and forward, as they are typed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from gatepost.admin import residents
from gatepost.cli.account import account
from gatepost.cli.domain import domain
from gatepost.cli.forward import forward
from gatepost.cli.house import House
from gatepost.directory.edits import DirectoryEdits
from gatepost.storage.sqlite import connect

GROUPS: dict[str, click.Group] = {"domain": domain, "account": account, "forward": forward}


class Mouth:
    """Types commands in one home folder."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, line: str, typed: str | bytes | None = None) -> Result:
        noun, *words = line.split()
        return CliRunner().invoke(GROUPS[noun], words, input=typed, obj=House(self.home))

    def ok(self, line: str, typed: str | bytes | None = None) -> str:
        result = self.run(line, typed)
        assert result.exit_code == 0, result.output
        return result.stdout

    def refused(self, line: str, typed: str | bytes | None = None) -> str:
        result = self.run(line, typed)
        assert result.exit_code == 1, result.output
        assert result.stdout == ""
        return result.stderr.removeprefix("Error: ").strip()


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mouth:
    (tmp_path / "gatepost.toml").write_text('hostname = "mail.a.test"\n[directory]\ndatabase = "who.sqlite"\n')
    monkeypatch.setattr("gatepost.auth.passwords.hash_password", lambda password, settings: f"$hash${password}")
    mouth = Mouth(tmp_path)
    mouth.ok("domain add a.test")
    return mouth


def stored(say: Mouth, address: str) -> str:
    with DirectoryEdits(say.home / "who.sqlite") as edits:
        return edits.account(address).password


def test_domains(say: Mouth) -> None:
    assert say.ok("domain add Bücher.test") == "bücher.test is a domain here now\n"
    assert say.ok("domain list") == "a.test\nbücher.test\n"
    assert say.ok("domain list xn--") == "bücher.test\n"
    assert say.ok("domain disable a.test") == "a.test is switched off\n"
    assert say.ok("domain list") == "a.test (off)\nbücher.test\n"
    assert json.loads(say.ok("domain list --json")) == [
        {"domain": "a.test", "display": "a.test", "active": False},
        {"domain": "xn--bcher-kva.test", "display": "bücher.test", "active": True},
    ]
    assert say.ok("domain enable a.test") == "a.test is switched on\n"
    say.ok("forward add x@a.test y@far.test")
    assert "still has 0 accounts and 1 forwards" in say.refused("domain remove a.test")
    assert say.ok("domain remove a.test --with-residents") == "a.test is no domain here any more\n"
    assert say.refused("domain remove a.test") == "a.test is no domain here; there is bücher.test"


def test_an_account_with_a_password_from_standard_input(say: Mouth) -> None:
    assert say.ok("account add Ann@a.test --password-stdin", "correct horse\n") == "Ann@a.test is an account now\n"
    assert stored(say, "ann@a.test") == "$hash$correct horse"
    say.ok("account password ann@a.test --password-stdin", "größer als\r\n")
    assert stored(say, "ann@a.test") == "$hash$größer als"
    assert "8 characters at least" in say.refused("account password ann@a.test --password-stdin", "1234567\n")
    assert "not in UTF-8" in say.refused("account password ann@a.test --password-stdin", b"\xff\xfe12345678\n")
    assert stored(say, "ann@a.test") == "$hash$größer als"


def test_a_generated_password_is_told_once(say: Mouth) -> None:
    output = say.ok("account add ann@a.test --generate --no-mailbox")
    found = re.fullmatch(r"ann@a\.test is an account now\nPassword: (([a-z2-9]{5}-){3}[a-z2-9]{5})\n", output)
    assert found is not None
    assert stored(say, "ann@a.test") == f"$hash${found[1]}"
    assert found[1] not in say.ok("account password ann@a.test --generate")


def test_a_password_is_asked_for_twice_at_a_terminal(say: Mouth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatepost.cli.account._at_terminal", lambda: True)
    result = say.run("account add ann@a.test", "first try\nother\ncorrect horse\ncorrect horse\n")
    assert result.exit_code == 0
    assert "correct horse" not in result.output
    assert stored(say, "ann@a.test") == "$hash$correct horse"
    assert say.refused("account add ann@a.test", "") == "ann@a.test is an account already"  # and nothing is asked


def test_without_a_terminal_it_says_how(say: Mouth) -> None:
    result = say.run("account add ann@a.test")
    assert result.exit_code == 2
    assert "--password-stdin or --generate" in result.stderr
    assert say.run("account add ann@a.test --generate --password-stdin").exit_code == 2
    assert say.ok("account list") == ""


def test_no_password_in_the_arguments() -> None:
    """Every process on the machine may read them."""
    options = {name: {option.name for option in command.params} for name, command in account.commands.items()}
    assert options["add"] == {"address", "no_mailbox", "password_stdin", "generate"}
    assert options["password"] == {"address", "password_stdin", "generate"}


def test_the_real_hash(tmp_path: Path) -> None:
    (tmp_path / "gatepost.toml").write_text(
        'hostname = "mail.a.test"\n[passwords]\nargon2_memory_cost = "8 KiB"\nargon2_time_cost = 1\n'
        '[directory]\ndatabase = "who.sqlite"\n'
    )
    say = Mouth(tmp_path)
    say.ok("domain add a.test")
    say.ok("account add ann@a.test --password-stdin", "correct horse\n")
    assert stored(say, "ann@a.test").startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert "control characters" in say.refused("account password ann@a.test --password-stdin", "a\0b\tcdefgh\n")


def test_accounts(say: Mouth) -> None:
    say.ok("account add Ann@a.test --generate")
    say.ok("account add app@a.test --generate --no-mailbox")
    say.ok("account disable ann@a.test")
    assert say.ok("account list") == "Ann@a.test (off)\napp@a.test (no mailbox)\n"
    assert say.ok("account list AP") == say.ok("account list app --domain A.test") == "app@a.test (no mailbox)\n"
    assert json.loads(say.ok("account list ann --json")) == [
        {"address": "Ann@a.test", "display": "Ann@a.test", "active": False, "mailbox": True, "password": True}
    ]
    assert "hash" not in say.ok("account list --json")
    assert say.ok("account enable ann@a.test") == "Ann@a.test is switched on\n"
    assert say.ok("account remove ANN@a.test") == "Ann@a.test is no account any more; its mail is still on disk\n"
    assert say.refused("account remove ann@a.test") == "ann@a.test is no account"
    assert say.refused("account add ann@far.test --generate") == "far.test is no domain here; there is a.test"
    assert say.refused("account list --domain far.test") == "far.test is no domain here; there is a.test"


def test_forwards(say: Mouth) -> None:
    say.ok("account add ann@a.test --generate")
    assert say.ok("forward add Info@a.test ann@a.test") == "Info@a.test -> ann@a.test\n"
    assert say.ok("forward add info@a.test bob@bücher.test") == "Info@a.test -> ann@a.test, bob@bücher.test\n"
    assert say.ok("forward add ann@a.test bob@far.test --keep-copy") == "ann@a.test -> bob@far.test (keeps a copy)\n"
    assert say.ok("forward add ann@a.test --no-keep-copy") == "ann@a.test -> bob@far.test\n"
    assert say.ok("forward add ann@a.test --keep-copy") == "ann@a.test -> bob@far.test (keeps a copy)\n"
    assert say.ok("forward add ann@a.test eve@far.test").endswith("bob@far.test, eve@far.test (keeps a copy)\n")
    assert say.ok("forward disable info@a.test").endswith(" (off)\n")
    assert say.ok("forward list info") == "Info@a.test -> ann@a.test, bob@bücher.test (off)\n"
    assert say.ok("forward show info@a.test") == "Info@a.test (off)\n  -> ann@a.test\n  -> bob@bücher.test\n"
    assert say.ok("forward enable info@a.test") == "Info@a.test -> ann@a.test, bob@bücher.test\n"
    assert json.loads(say.ok("forward list --json --domain a.test"))[1] == {
        "source": "Info@a.test",
        "display": "Info@a.test",
        "targets": ["ann@a.test", "bob@xn--bcher-kva.test"],
        "keep_copy": False,
        "active": True,
    }
    assert say.ok("forward remove info@a.test bob@bücher.test") == "Info@a.test -> ann@a.test\n"
    assert "remove the forward" in say.refused("forward remove info@a.test ann@a.test")
    assert say.ok("forward remove info@a.test") == "Info@a.test is no forward any more\n"
    assert say.refused("forward show info@a.test") == "info@a.test is no forward"
    assert say.run("forward add info@a.test").exit_code == 2
    assert "cannot keep a copy" in say.refused("forward add info@a.test --keep-copy")
    assert "needs a target" in say.refused("forward add info@a.test --no-keep-copy")


def test_forwards_that_fail_change_nothing(say: Mouth) -> None:
    say.ok("forward add x@a.test y@a.test")
    say.ok("forward add y@a.test z@far.test")
    assert say.refused("forward add y@a.test w@far.test x@a.test") == (
        "this would make a loop: y@a.test -> x@a.test -> y@a.test"
    )
    assert say.ok("forward show y@a.test") == "y@a.test\n  -> z@far.test\n"


def test_notes_on_what_may_surprise(say: Mouth) -> None:
    result = say.run("forward add x@a.test nobody@a.test")
    assert result.stderr == "Note: nobody is at nobody@a.test yet; mail for it is refused\n"
    assert "nobody@a.test (nobody is there)" in say.ok("forward show x@a.test")
    result = say.run("account add x@a.test --generate")
    assert result.stderr == (
        "Note: mail for it still goes to nobody@a.test only: x@a.test forwards and keeps no copy\n"
    )
    assert say.run("account add nobody@a.test --generate").stderr == ""


def test_trouble_with_the_files_is_told(say: Mouth) -> None:
    path = say.home / "who.sqlite"
    connection = connect(path)
    connection.execute("UPDATE alembic_version SET version_num = 'directory_9999'")
    connection.close()
    assert re.search(r"who\.sqlite: it has schema directory_9999, .* up to directory_0", say.refused("domain list"))
    (say.home / "gatepost.toml").write_text("hostnam = 'x'\n")
    assert "hostname" in say.refused("domain list")
    (say.home / "gatepost.toml").unlink()
    assert "gatepost.toml" in say.refused("account list")


def test_generated_passwords_use_the_randomness_handed_in() -> None:
    letters = iter("abcdefghjkmnpqrstuvw")
    assert residents.generate_password(lambda _: next(letters)) == "abcde-fghjk-mnpqr-stuvw"
    assert residents.generate_password() != residents.generate_password()


def test_every_command_has_its_sentence() -> None:
    for noun, group in GROUPS.items():
        for name, command in group.commands.items():
            assert command.help, f"{noun} {name}"
