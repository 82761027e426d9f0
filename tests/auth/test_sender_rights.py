"""Who may write which sender, against a real directory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatepost.auth.sender_rights import SenderRights, SenderVerdict
from gatepost.directory.edits import DirectoryEdits
from gatepost.directory.lookups import Directory
from gatepost.mail.address import Address, parse_address
from gatepost.mail.peer import Identity

ACCOUNTS = (
    "Kay@example.test",
    "lee@example.test",
    "lee+private@example.test",
    "kay+lee@example.test",
    "off@example.test",
    "lee@shop.test",
)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("directory") / "directory.sqlite"
    with DirectoryEdits(path) as edits, edits.together():
        for domain in ("example.test", "shop.test", "alias.test", "closed.test", "bücher.test"):
            edits.add_domain(domain)
        for account in ACCOUNTS:
            edits.add_account(account)
        edits.add_forward("sales@example.test", ["lee@example.test", "KAY@example.test"])
        edits.add_forward("info@example.test", ["kay+info@example.test"])
        edits.add_forward("all@example.test", ["sales@example.test"])
        edits.add_forward("old@example.test", ["kay@example.test"])
        edits.set_forward_active("old@example.test", False)
        edits.add_forward("kay+lists@example.test", ["lee@example.test"])
        edits.add_forward("@shop.test", ["kay@example.test"])
        edits.add_forward("partner@shop.test", ["someone@elsewhere.test"])
        edits.add_forward("paused@shop.test", ["kay@example.test"])
        edits.set_forward_active("paused@shop.test", False)
        edits.add_forward("@alias.test", ["@example.test"])
        edits.add_forward("@closed.test", ["kay@example.test"])
        edits.set_domain_active("closed.test", False)
        edits.add_forward("köln@bücher.test", ["kay@example.test"])
        edits.set_account_active("off@example.test", False)
    yield path


def judge(town: Path, account: str, sender: Address | None, delimiter: str = "+") -> SenderVerdict:
    async def play() -> SenderVerdict:
        directory = Directory(town)
        try:
            identity = Identity(parse_address(account), account, "PLAIN")
            return await SenderRights(directory, delimiter).may_send_as(identity, sender)
        finally:
            directory.close()

    return asyncio.run(play())


@pytest.mark.parametrize(
    ("sender", "reason"),
    [
        ("kay@example.test", "own address"),
        ("KAY@EXAMPLE.TEST", "own address"),
        ("kay+news@example.test", "own address"),
        ("Kay+A+B@example.test", "own address"),
        ("sales@example.test", "forward sales@example.test goes straight to"),
        ("Sales@Example.test", "forward sales@example.test goes straight to"),
        ("sales+2026@example.test", "forward sales@example.test goes straight to"),
        ("info@example.test", "forward info@example.test goes straight to"),
        ("anything@shop.test", "forward @shop.test goes straight to"),
        ("kay@shop.test", "forward @shop.test goes straight to"),
        ("kay@alias.test", "forward @alias.test goes straight to"),
        ("kay+news@alias.test", "forward @alias.test goes straight to"),
        ("köln@bücher.test", "köln@bücher.test goes straight to"),
        ("KÖLN@xn--bcher-kva.test", "köln@bücher.test goes straight to"),
    ],
)
def test_an_address_whose_mail_goes_straight_to_the_account_is_its_own(town: Path, sender: str, reason: str) -> None:
    verdict = judge(town, "kay@example.test", parse_address(sender))
    assert verdict.allowed
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("sender", "reason"),
    [
        ("lee@example.test", "another account"),
        ("LEE@example.test", "another account"),
        ("lee+kay@example.test", "another account, lee@example.test"),
        ("kay+lee@example.test", "another account"),  # looks like a tag of kay's
        ("kay+lists@example.test", "does not go straight"),
        ("kayx@example.test", "neither an account nor a forward"),
        ("ka@example.test", "neither an account nor a forward"),
        ("+kay@example.test", "neither an account nor a forward"),
        ("kay@example.test.test", "not ours"),
        ("all@example.test", "does not go straight"),  # all -> sales -> kay is two steps
        ("old@example.test", "disabled"),
        ("lee@shop.test", "another account"),
        ("partner@shop.test", "does not go straight"),
        ("paused@shop.test", "disabled"),
        ("lee@alias.test", "does not go straight"),
        ("x@closed.test", "disabled"),
        ("kay@elsewhere.test", "not ours"),
        ("kay@example.test.elsewhere.test", "not ours"),
        ("kay@[127.0.0.1]", "not ours"),
        ('""@example.test', "neither an account nor a forward"),
        ('"kay@example.test"@elsewhere.test', "not ours"),
    ],
)
def test_any_other_address_is_refused(town: Path, sender: str, reason: str) -> None:
    verdict = judge(town, "kay@example.test", parse_address(sender))
    assert not verdict.allowed
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("sender", "owned"),
    [
        ("kay@example.test", True),
        ("KAY+news@example.test", True),
        ("off@example.test", True),  # disabled, and still nobody else's
        ("sales@example.test", True),
        ("info@example.test", True),
        ("anything@shop.test", True),
        ("lee@alias.test", True),
        ("nobody@alias.test", False),
        ("partner@shop.test", False),  # a forward to somebody elsewhere
        ("all@example.test", False),
        ("old@example.test", False),
        ("nobody@example.test", False),
        ("x@closed.test", False),
        ("x@elsewhere.test", False),
    ],
)
def test_an_address_has_an_owner_where_some_account_may_write_it(town: Path, sender: str, owned: bool) -> None:
    async def play() -> bool:
        directory = Directory(town)
        try:
            return await SenderRights(directory, "+").has_owner(parse_address(sender))
        finally:
            directory.close()

    assert asyncio.run(play()) is owned


def test_the_null_sender_is_everybodys(town: Path) -> None:
    assert judge(town, "kay@example.test", None).allowed


@pytest.mark.parametrize("account", ["off@example.test", "gone@example.test", "kay@closed.test"])
@pytest.mark.parametrize("own", [True, False])
def test_an_account_that_is_disabled_after_its_login_may_write_nothing(town: Path, account: str, own: bool) -> None:
    verdict = judge(town, account, parse_address(account) if own else None)
    assert not verdict.allowed
    assert "gone or disabled" in verdict.reason


@pytest.mark.parametrize(
    ("delimiter", "sender", "allowed"),
    [("", "kay+news@example.test", False), ("-", "kay-news@example.test", True), ("-", "kay+news@example.test", False)],
)
def test_a_tag_is_what_the_setting_says(town: Path, delimiter: str, sender: str, allowed: bool) -> None:
    assert judge(town, "kay@example.test", parse_address(sender), delimiter).allowed is allowed


def test_a_change_counts_at_the_next_sender(town: Path) -> None:
    async def play() -> list[bool]:
        directory = Directory(town)
        rights = SenderRights(directory, "+")
        identity = Identity(parse_address("kay@example.test"), "kay@example.test", "PLAIN")
        sender = parse_address("press@example.test")
        found = []
        with DirectoryEdits(town) as edits:
            found.append((await rights.may_send_as(identity, sender)).allowed)
            edits.add_forward("press@example.test", ["kay@example.test"])
            found.append((await rights.may_send_as(identity, sender)).allowed)
            edits.remove_forward("press@example.test")
            found.append((await rights.may_send_as(identity, sender)).allowed)
        directory.close()
        return found

    assert asyncio.run(play()) == [False, True, False]


def test_the_owner_of_a_catch_all_does_not_own_the_empty_name_of_another(town: Path) -> None:
    """`""@shop.test` has the key of the catch-all itself; it goes by the catch-all like any other name."""
    assert judge(town, "kay@example.test", Address("", "shop.test")).allowed
    assert not judge(town, "lee@example.test", Address("", "shop.test")).allowed
