"""Changes: each kept whole or refused with a reason."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from gatepost.directory.edits import DirectoryEdits, DirectoryError
from gatepost.directory.records import Account, Domain, Forward
from gatepost.mail.address import Address
from gatepost.storage.errors import StorageLocked
from gatepost.storage.sqlite import connect, transaction


@pytest.fixture
def edits(tmp_path: Path) -> Iterator[DirectoryEdits]:
    with DirectoryEdits(tmp_path / "directory.sqlite") as edits:
        edits.add_domain("a.test")
        edits.add_domain("b.test")
        yield edits


def refused(text: str) -> AbstractContextManager[object]:
    return pytest.raises(DirectoryError, match=text)


def test_domains(edits: DirectoryEdits) -> None:
    edits.add_domain("BÜCHER.test")
    assert edits.domains() == [Domain("a.test", True), Domain("b.test", True), Domain("xn--bcher-kva.test", True)]
    assert edits.domain("bücher.test").display == "bücher.test"
    assert edits.domains("B") == [Domain("b.test", True)]
    edits.set_domain_active("b.test", False)
    assert edits.domain("B.TEST") == Domain("b.test", False)
    edits.set_domain_active("b.test", True)
    edits.remove_domain("b.test")
    with refused(r"^b\.test is no domain here; there is a\.test, bücher\.test$"):
        edits.domain("b.test")
    with refused("^a.test is a domain here already$"):
        edits.add_domain("A.test")


@pytest.mark.parametrize("name", ["", "a b.test", "-.test", "[192.0.2.1]", "a@b.test", "x" * 300, "é..test"])
def test_no_domain_names(edits: DirectoryEdits, name: str) -> None:
    with refused("domain"):
        edits.add_domain(name)
    assert len(edits.domains()) == 2


def test_an_unknown_domain_is_told_with_the_nearest(tmp_path: Path) -> None:
    with DirectoryEdits(tmp_path / "d.sqlite") as edits:
        with refused("^example.test is no domain here: there is none yet; add it first$"):
            edits.add_account("x@example.test")
        for number in range(9):
            edits.add_domain(f"d{number}.test")
        edits.add_domain("example.test")
        with refused(r"^exmaple\.test is no domain here; did you mean example\.test\?$"):
            edits.add_forward("x@exmaple.test", ["y@far.test"])
        with refused("^qqqqqqqqqqqqqqqq is no domain here; add it first$"):
            edits.domain("qqqqqqqqqqqqqqqq")


def test_a_domain_with_residents_stays_unless_told(edits: DirectoryEdits) -> None:
    edits.add_account("x@a.test", password="$")
    edits.add_forward("y@a.test", ["x@a.test"])
    with refused("^a.test still has 1 accounts and 1 forwards"):
        edits.remove_domain("a.test")
    assert edits.account("x@a.test").password == "$"
    edits.remove_domain("a.test", with_residents=True)
    assert (edits.accounts(), edits.forwards(), edits.domains()) == ([], [], [Domain("b.test", True)])
    edits.add_domain("a.test")
    edits.add_account("x@a.test")  # nothing of the old one is left
    assert edits.account("x@a.test").password == ""


def test_accounts(edits: DirectoryEdits) -> None:
    added = edits.add_account("Ann@A.test", password="$1")
    assert added == edits.account("ANN@a.test") == Account(Address("Ann", "a.test"), "$1", True, True)
    edits.add_account('"a b"@b.test', has_mailbox=False)
    assert [account.display for account in edits.accounts()] == ["Ann@a.test", '"a b"@b.test']
    assert edits.accounts(domain="B.test") == [Account(Address("a b", "b.test"), "", True, False)]
    assert edits.accounts("an") == [added]
    assert edits.accounts("%") == []
    edits.set_password("ann@a.test", "$2")
    assert edits.account("ann@a.test").password == "$2"
    edits.set_password("ann@a.test", "")
    assert edits.account("ann@a.test").password == ""
    edits.set_account_active("ann@a.test", False)
    assert not edits.account("ann@a.test").active
    edits.remove_account("ann@a.test")
    with refused("^ann@a.test is no account$"):
        edits.account("ann@a.test")


def test_accounts_refused(edits: DirectoryEdits) -> None:
    edits.add_account("ann@a.test")
    edits.add_forward("info@a.test", ["ann@a.test"])
    with refused("^Ann@a.test is an account already$"):
        edits.add_account("Ann@a.test")
    with refused("^'ann' is no address: address has no domain$"):
        edits.add_account("ann")
    with refused("needs a local part"):
        edits.add_account('""@a.test')
    for change in (
        lambda: edits.set_password("info@a.test", "$"),
        lambda: edits.set_account_active("info@a.test", True),
        lambda: edits.remove_account("info@a.test"),
        lambda: edits.account("info@a.test"),
    ):
        with refused("^info@a.test is no account; it is a forward$"):
            change()
    with refused("^far.test is no domain here"):
        edits.set_password("ann@far.test", "$")


def test_forwards(edits: DirectoryEdits) -> None:
    added = edits.add_forward("Info@A.test", ["Bob@Far.TEST", "@b.test", "bob@far.test"])
    assert added == Forward("info@a.test", ("Bob@far.test", "@b.test"), False, True)
    assert (added.spelt, added.display) == ("Info@a.test", "Info@a.test")
    edits.add_target("info@a.test", "carol@bücher.test")
    edits.add_target("info@a.test", "BOB@far.test")
    assert edits.forward("INFO@a.test").targets == ("Bob@far.test", "@b.test", "carol@xn--bcher-kva.test")
    edits.remove_target("info@a.test", "bob@far.test")
    edits.add_target("info@a.test", "zoe@far.test")
    assert edits.forward("info@a.test").targets == ("@b.test", "carol@xn--bcher-kva.test", "zoe@far.test")
    edits.add_forward("@b.test", ["zoe@far.test"])
    assert [forward.source for forward in edits.forwards()] == ["info@a.test", "@b.test"]
    assert [forward.source for forward in edits.forwards("@")] == ["@b.test"]
    assert [forward.source for forward in edits.forwards("INF", domain="a.test")] == ["info@a.test"]
    edits.set_forward_active("@b.test", False)
    assert not edits.forward("@B.test").active
    edits.remove_forward("info@a.test")
    with refused("^info@a.test is no forward$"):
        edits.forward("info@a.test")


def test_forwards_refused(edits: DirectoryEdits) -> None:
    edits.add_account("ann@a.test")
    edits.add_forward("info@a.test", ["ann@a.test"])
    with refused("^INFO@a.test is a forward already; add targets to it$"):
        edits.add_forward("INFO@a.test", ["x@far.test"])
    with refused("^info@a.test has no target x@far.test$"):
        edits.remove_target("info@a.test", "x@far.test")
    with refused("^ann@a.test is the only target of info@a.test; remove the forward$"):
        edits.remove_target("info@a.test", "ann@a.test")
    with refused("^ann@a.test is no forward; it is an account$"):
        edits.add_target("ann@a.test", "x@far.test")
    for bad in ("", "x", "x@", "@", "a b@far.test", "x@far..test", "|/bin/cat", '""@far.test', "a@b.test, c@d.test"):
        with refused("is no address"):
            edits.add_forward("new@a.test", ["x@far.test", bad])
    with refused("is no address"):
        edits.add_forward("new", ["x@far.test"])
    with refused("needs a target"):
        edits.add_forward("new@a.test", [])
    assert [forward.source for forward in edits.forwards()] == ["info@a.test"]


def test_keeping_a_copy(edits: DirectoryEdits) -> None:
    edits.add_account("ann@a.test")
    edits.add_account("app@a.test", has_mailbox=False)
    assert edits.add_forward("ann@a.test", ["ann@a.test", "x@far.test"], keep_copy=True).targets == ("x@far.test",)
    edits.set_keep_copy("ann@a.test", False)
    assert not edits.forward("ann@a.test").keep_copy
    edits.set_keep_copy("ann@a.test", True)
    edits.remove_account("ann@a.test")
    assert not edits.forward("ann@a.test").keep_copy
    for source in ("ann@a.test", "@a.test", "app@a.test"):
        with refused("cannot keep a copy: it is no account with a mailbox"):
            edits.add_forward("app@a.test" if source == "ann@a.test" else source, ["x@far.test"], keep_copy=True)
    with refused("cannot keep a copy"):
        edits.set_keep_copy("ann@a.test", True)


@pytest.mark.parametrize("target", ["x@a.test", "X@A.test", "@a.test"])
def test_to_itself(edits: DirectoryEdits, target: str) -> None:
    with refused("^x@a.test forwarded to itself is a loop; .*keeps a copy"):
        edits.add_forward("x@a.test", ["y@far.test", target])
    edits.add_account("x@a.test")
    with refused("^x@a.test needs a target other than itself"):
        edits.add_forward("x@a.test", [target], keep_copy=True)
    assert edits.forwards() == []


def test_loops_are_named(edits: DirectoryEdits) -> None:
    edits.add_forward("one@a.test", ["two@b.test"])
    edits.add_forward("two@b.test", ["x@far.test", "three@a.test"])
    with refused("^this would make a loop: three@a.test -> one@a.test -> two@b.test -> three@a.test$"):
        edits.add_forward("Three@a.test", ["y@far.test", "one@a.test"])
    edits.add_forward("three@a.test", ["y@far.test"])
    with refused("three@a.test -> one@a.test"):
        edits.add_target("three@a.test", "one@a.test")
    assert edits.forward("three@a.test").targets == ("y@far.test",)


def test_loops_through_catch_alls(edits: DirectoryEdits) -> None:
    with refused("loop: x@a.test -> x@a.test$"):
        edits.add_forward("@a.test", ["x@a.test"])
    edits.add_account("x@a.test")
    edits.add_forward("@a.test", ["x@a.test"])
    with refused("loop: x@a.test -> x@a.test$"):  # without the account its mail would go to the catch-all
        edits.remove_account("x@a.test")
    with refused("loop: @b.test -> @a.test -> @b.test$"):
        edits.add_target("@a.test", "@b.test")
        edits.add_forward("@b.test", ["@a.test"])


def test_loops_through_domains_that_keep_the_local_part(edits: DirectoryEdits) -> None:
    edits.add_forward("u@b.test", ["u@a.test"])
    with refused("loop: u@a.test -> u@b.test -> u@a.test$"):
        edits.add_forward("@a.test", ["@b.test"])
    edits.remove_forward("u@b.test")
    edits.add_forward("@a.test", ["@b.test"])
    with refused("loop: u@b.test -> u@a.test -> u@b.test$"):
        edits.add_forward("u@b.test", ["u@a.test"])


def test_loops_through_tags(edits: DirectoryEdits) -> None:
    with refused(r"loop: x@a.test -> x\+tag@a.test -> x@a.test$"):
        edits.add_forward("x@a.test", ["x+tag@a.test"])
    edits.add_forward("x+tag@a.test", ["y@far.test"])
    edits.add_forward("x@a.test", ["x+tag@a.test"])
    with refused("loop"):
        edits.remove_forward("x+tag@a.test")


def test_no_loop_where_paths_only_meet(edits: DirectoryEdits) -> None:
    edits.add_account("end@a.test")
    edits.add_forward("left@a.test", ["end@a.test"])
    edits.add_forward("right@a.test", ["end@a.test", "left@a.test"])
    edits.add_forward("top@a.test", ["left@a.test", "right@a.test", "end@a.test"])


def test_a_long_chain(edits: DirectoryEdits) -> None:
    with edits.together():
        for number in range(300):
            edits.add_forward(f"n{number + 1}@a.test", [f"n{number}@a.test"])
        with refused("loop: n0@a.test -> n300@a.test"):
            edits.add_forward("n0@a.test", ["n300@a.test"])
    assert len(edits.forwards()) == 300


def test_lost_targets(edits: DirectoryEdits) -> None:
    edits.add_account("ann@a.test")
    forward = edits.add_forward("x@a.test", ["ann+t@a.test", "lost@a.test", "y@far.test", "x2@b.test"])
    assert edits.lost_targets(forward) == ["lost@a.test", "x2@b.test"]
    edits.add_forward("@b.test", ["ann@a.test"])
    assert edits.lost_targets(forward) == ["lost@a.test"]


def test_together_all_or_none(edits: DirectoryEdits) -> None:
    with pytest.raises(ZeroDivisionError), edits.together():
        edits.add_account("x@a.test")
        raise ZeroDivisionError
    assert edits.accounts() == []
    with edits.together():
        edits.add_account("x@a.test")
        with refused("loop"):
            edits.add_forward("y@a.test", ["z@far.test", "y@a.test"])
    assert (len(edits.accounts()), edits.forwards()) == (1, [])


def test_locked_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.sqlite"
    DirectoryEdits(path).close()
    holder = connect(path)
    monkeypatch.setattr("gatepost.directory.edits.connect", lambda path: connect(path, busy_timeout=0.05))
    with DirectoryEdits(path) as edits:
        with transaction(holder), pytest.raises(StorageLocked, match=r"d\.sqlite"):
            edits.add_domain("a.test")
        edits.add_domain("a.test")
    holder.close()


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Both add the same fifty accounts and half of a loop each: every account once, and never the whole loop."""
    path = tmp_path / "d.sqlite"
    with DirectoryEdits(path) as edits:
        edits.add_domain("a.test")
    script = """
import sys
from gatepost.directory.edits import DirectoryEdits, DirectoryError
edits = DirectoryEdits(sys.argv[1])
me, other = sys.argv[2:]
print("ready", flush=True)
sys.stdin.readline()
added = refused = 0
for number in range(50):
    for change in (lambda: edits.add_account(f"u{number}@a.test", password="$"),
                   lambda: edits.add_forward(f"{me}{number}@a.test", [f"{other}{number}@a.test"])):
        try:
            change()
            added += 1
        except DirectoryError:
            refused += 1
print(added, refused)
edits.close()
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for names in (("x", "y"), ("y", "x"))
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    counts = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        counts.append([int(word) for word in output.split()])
    assert [sum(each) for each in zip(*counts, strict=True)] == [100, 100]
    with DirectoryEdits(path) as edits:
        assert len(edits.accounts()) == 50
        assert all(account.password == "$" for account in edits.accounts())
        assert len({forward.source.strip("xy") for forward in edits.forwards()}) == len(edits.forwards()) == 50
