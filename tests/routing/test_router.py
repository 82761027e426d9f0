"""Where mail goes, asked of the router, over the real directory and over one in dicts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatepost.admin.explain import explain_recipient
from gatepost.config.settings import DeliverySettings, ForwardSettings
from gatepost.mail.address import Address, parse_address
from gatepost.mail.route import Route
from gatepost.routing.router import DISABLED, MAX_KEPT, USER_UNKNOWN, Router
from gatepost.routing.transports import Transports
from villages import SqlVillage, Village, now
from villages.questions import AnyVillage, resolve, settings, targets


@pytest.fixture
def village() -> Village:
    """To be changed."""
    village = Village()
    furnish(village)
    return village


@pytest.fixture(scope="module", params=["dicts", "sqlite"])
def still(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnyVillage]:
    """To be asked only."""
    if request.param == "dicts":
        made = Village()
        furnish(made)
        yield made
        return
    kept = SqlVillage(tmp_path_factory.mktemp("village") / "directory.sqlite")
    with kept.edits.together():
        furnish(kept)
    yield kept
    kept.close()


def furnish(village: AnyVillage) -> None:
    village.add_domain("example.test")
    village.add_domain("other.test")
    village.add_domain("closed.test", active=False)
    village.add_account("Ann@example.test")
    village.add_account("bob@example.test")
    village.add_account("gone@example.test", active=False)
    village.add_account("app@example.test", has_mailbox=False)
    village.add_account("ann@other.test")
    village.add_account("ann@closed.test")
    village.add_forward("info@example.test", "ann@example.test", "kay@far.test")
    village.add_forward("bob@example.test", "bob@far.test", keep_copy=True)
    village.add_forward("ann+lists@example.test", "bob+lists@example.test")
    village.add_forward("moved@example.test", "info@example.test")
    village.add_forward("paused@example.test", "kay@far.test", active=False)
    village.add_forward("dead@example.test", "nobody@example.test", "kay@far.test", "gone@example.test")
    village.add_forward("hopeless@example.test", "nobody@example.test")
    village.add_forward("@other.test", "@example.test")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ann@example.test", ["ann@example.test maildir:ann@example.test"]),
        ("ANN@example.test", ["ANN@example.test maildir:ann@example.test"]),
        ("ann+tag@example.test", ["ann+tag@example.test maildir:ann@example.test"]),
        ("info@example.test", ["ann@example.test maildir:ann@example.test", "kay@far.test smtp:far.test"]),
        (
            "info+tag@example.test",
            ["ann+tag@example.test maildir:ann@example.test", "kay+tag@far.test smtp:far.test"],
        ),
        ("moved@example.test", ["ann@example.test maildir:ann@example.test", "kay@far.test smtp:far.test"]),
        ("bob@example.test", ["bob@far.test smtp:far.test", "bob@example.test maildir:bob@example.test"]),
        (
            "bob+tag@example.test",
            ["bob+tag@far.test smtp:far.test", "bob+tag@example.test maildir:bob@example.test"],
        ),
        # The forward of the whole address goes before the account without the tag.
        (
            "ann+lists@example.test",
            ["bob+lists@far.test smtp:far.test", "bob+lists@example.test maildir:bob@example.test"],
        ),
        ("dead@example.test", ["kay@far.test smtp:far.test"]),
        # The catch-all takes whom nobody else has, and the local part goes along.
        ("info@other.test", ["ann@example.test maildir:ann@example.test", "kay@far.test smtp:far.test"]),
        ("ann@other.test", ["ann@other.test maildir:ann@other.test"]),
        ("ann+tag@other.test", ["ann+tag@other.test maildir:ann@other.test"]),
        ("bob+tag@other.test", ["bob+tag@far.test smtp:far.test", "bob+tag@example.test maildir:bob@example.test"]),
        ("kay@far.test", ["kay@far.test smtp:far.test"]),
        ("kay@[192.0.2.1]", ["kay@[192.0.2.1] smtp:[192.0.2.1]"]),
    ],
)
def test_targets(still: AnyVillage, address: str, expected: list[str]) -> None:
    assert targets(still, address) == expected


@pytest.mark.parametrize(
    ("address", "refusal"),
    [
        ("nobody@example.test", USER_UNKNOWN),
        ("nobody+ann@example.test", USER_UNKNOWN),
        ("+ann@example.test", USER_UNKNOWN),
        ("gone@example.test", DISABLED),
        ("gone+tag@example.test", DISABLED),
        ("gone@other.test", USER_UNKNOWN),  # the catch-all's target is dead, and it has no other
        ("app@example.test", USER_UNKNOWN),
        ("paused@example.test", USER_UNKNOWN),
        ("hopeless@example.test", USER_UNKNOWN),
        ('""@example.test', USER_UNKNOWN),
    ],
)
def test_refusals(still: AnyVillage, address: str, refusal: object) -> None:
    resolution = resolve(still, address)
    assert (resolution.refusal, resolution.targets, resolution.is_ours, resolution.fault) == (refusal, (), True, "")


@pytest.mark.parametrize(
    ("address", "is_ours"),
    [
        ("ann@example.test", True),
        ("nobody@example.test", True),
        ("kay@far.test", False),
        ("ann@sub.example.test", False),
        ("ann@closed.test", False),
        ("ann@[127.0.0.1]", False),
    ],
)
def test_is_ours(still: AnyVillage, address: str, is_ours: bool) -> None:
    assert resolve(still, address).is_ours is is_ours


def test_a_disabled_domain_is_not_ours_even_as_a_target(village: Village) -> None:
    village.add_forward("old@example.test", "ann@closed.test")
    assert targets(village, "old@example.test") == ["ann@closed.test smtp:closed.test"]
    resolution = resolve(village, "ann@closed.test")
    assert "domain closed.test is disabled" in resolution.steps.lines()


def test_a_catch_all_never_takes_an_accounts_mail(village: Village) -> None:
    village.add_forward("@example.test", "kay@far.test")
    assert targets(village, "ann@example.test") == ["ann@example.test maildir:ann@example.test"]
    assert targets(village, "ann+tag@example.test") == ["ann+tag@example.test maildir:ann@example.test"]
    assert resolve(village, "gone@example.test").refusal is DISABLED
    for address in ("nobody@example.test", "app@example.test", "paused@example.test", "x+y@example.test"):
        assert targets(village, address) == ["kay@far.test smtp:far.test"]


def test_an_empty_local_part_is_the_catch_alls(village: Village) -> None:
    village.add_forward("@example.test", "kay@far.test")
    assert targets(village, '""@example.test') == ["kay@far.test smtp:far.test"]


def test_without_a_delimiter_there_are_no_tags(still: AnyVillage) -> None:
    told = settings(delimiter="")
    assert resolve(still, "bob+tag@example.test", told).refusal is USER_UNKNOWN
    assert resolve(still, "ann+lists@example.test", told).refusal is USER_UNKNOWN  # bob+lists is nobody
    assert targets(still, "ann@example.test", told) == ["ann@example.test maildir:ann@example.test"]


def test_tags_need_not_go_along(still: AnyVillage) -> None:
    told = settings(forwards=ForwardSettings(propagate_extension=False))
    assert targets(still, "info+tag@example.test", told) == [
        "ann@example.test maildir:ann@example.test",
        "kay@far.test smtp:far.test",
    ]
    assert targets(still, "bob+tag@example.test", told) == [
        "bob@far.test smtp:far.test",
        "bob+tag@example.test maildir:bob@example.test",
    ]


def test_a_tag_too_long_for_its_target_is_left_out(village: Village) -> None:
    village.add_forward("x@example.test", "k" * 40 + "@far.test")
    assert targets(village, "x+" + "t" * 23 + "@example.test") == [f"{'k' * 40}+{'t' * 23}@far.test smtp:far.test"]
    assert targets(village, "x+" + "t" * 24 + "@example.test") == [f"{'k' * 40}@far.test smtp:far.test"]


def test_a_disabled_account_costs_the_other_targets_nothing(village: Village) -> None:
    village.add_forward("gone@example.test", "kay@far.test", keep_copy=True)
    assert targets(village, "gone@example.test") == ["kay@far.test smtp:far.test"]
    village.add_forward("late@example.test", "nobody@example.test", "gone@example.test")
    assert targets(village, "late@example.test") == ["kay@far.test smtp:far.test"]


def test_relayhost_takes_all_that_is_not_ours(still: AnyVillage) -> None:
    told = settings(relayhost="[mx.far.test]:2525")
    assert targets(still, "bob@example.test", told) == [
        "bob@far.test smtp:[mx.far.test]:2525",
        "bob@example.test maildir:bob@example.test",
    ]


def test_transports() -> None:
    address = Address("kay", "far.test")
    assert Transports(DeliverySettings()).to(address) == (Route("smtp", "far.test"), "MX hosts of its domain")
    assert Transports(DeliverySettings(relayhost="[h.test]")).to(address) == (Route("smtp", "[h.test]"), "relayhost")


# -- postmaster, RFC 5321 §4.5.1 --


def test_bare_postmaster_belongs_to_the_first_domain(village: Village) -> None:
    assert resolve(village, "postmaster").refusal is USER_UNKNOWN
    village.add_forward("postmaster@example.test", "ann@example.test")
    resolution = resolve(village, "postmaster")
    assert [str(target.address) for target in resolution.targets] == ["ann@example.test"]
    assert resolution.address == Address("postmaster", "")
    assert resolution.is_ours


def test_bare_postmaster_may_be_anybody(village: Village) -> None:
    assert targets(village, "postmaster", settings(postmaster="ann@example.test")) == [
        "ann@example.test maildir:ann@example.test"
    ]
    elsewhere = resolve(village, "postmaster", settings(postmaster="root@far.test"))
    assert elsewhere.is_ours  # so strangers may write there too
    assert [str(target.address) for target in elsewhere.targets] == ["root@far.test"]


def test_every_domain_has_a_postmaster(village: Village) -> None:
    told = settings(postmaster="ann@example.test")
    for domain in ("example.test", "EXAMPLE.test"):
        assert targets(village, f"PostMaster@{domain}", told) == ["ann@example.test maildir:ann@example.test"]
    assert resolve(village, "postmaster@example.test").refusal is USER_UNKNOWN
    assert resolve(village, "abuse@example.test", told).refusal is USER_UNKNOWN
    village.add_forward("postmaster@example.test", "kay@far.test")
    assert targets(village, "postmaster@example.test", told) == ["kay@far.test smtp:far.test"]


def test_a_postmaster_who_does_not_exist_is_no_endless_search(village: Village) -> None:
    for name in ("nobody@example.test", "postmaster@example.test", "Postmaster@example.test"):
        for address in ("postmaster", "postmaster@example.test"):
            assert resolve(village, address, settings(postmaster=name)).refusal is USER_UNKNOWN


def test_postmaster_without_any_open_domain() -> None:
    village = Village()
    assert resolve(village, "postmaster").refusal is USER_UNKNOWN
    village.add_domain("closed.test", active=False)
    village.add_account("postmaster@closed.test")
    assert resolve(village, "postmaster").refusal is USER_UNKNOWN


# -- answers kept, and steps --


def test_answers_are_kept_until_the_directory_changes() -> None:
    village = Village()
    furnish(village)
    router = Router(village, settings())
    address = parse_address("info@example.test")
    first = now(router.resolve(address))
    asked = village.asked
    assert now(router.resolve(address)) is first
    assert now(router.resolve(parse_address("INFO@example.test"))).targets == first.targets
    assert village.asked > asked  # another spelling is asked for anew
    village.add_forward("info@example.test", "bob@far.test")
    assert [str(target.address) for target in now(router.resolve(address)).targets] == ["bob@far.test"]


def test_a_change_is_seen_at_once_by_a_router_on_the_real_directory(tmp_path: Path) -> None:
    village = SqlVillage(tmp_path / "directory.sqlite")
    try:
        furnish(village)
        router = Router(village, settings())
        address = parse_address("new@example.test")
        assert now(router.resolve(address)).refusal is USER_UNKNOWN
        village.add_account("new@example.test")
        assert now(router.resolve(address)).refusal is None
        village.edits.set_account_active("new@example.test", False)
        assert now(router.resolve(address)).refusal is DISABLED
        village.edits.set_domain_active("example.test", False)
        assert not now(router.resolve(address)).is_ours
    finally:
        village.close()


def test_a_storm_of_unknown_addresses_is_forgotten_again() -> None:
    village = Village()
    village.add_domain("example.test")
    router = Router(village, settings())
    for at in range(MAX_KEPT):
        now(router.resolve(Address(f"guess{at}", "example.test")))
    assert len(router._answers) == MAX_KEPT // 2  # each with its one step
    first = Address("guess0", "example.test")
    asked = village.asked
    now(router.resolve(first))
    assert village.asked > asked


def test_a_list_asked_for_with_ever_new_tags_does_not_fill_memory() -> None:
    village = Village()
    village.add_domain("example.test")
    village.add_forward("all@example.test", *(f"u{at}@far.test" for at in range(1000)))
    router = Router(village, settings())
    for at in range(60):
        now(router.resolve(Address(f"all+{at}", "example.test")))
    assert 0 < sum(len(answer.targets) for answer in router._answers.values()) < MAX_KEPT
    latest = Address("all+59", "example.test")
    assert now(router.resolve(latest)) is now(router.resolve(latest))


def test_an_answer_overtaken_by_a_change_is_not_kept() -> None:
    village = Village()
    village.add_domain("example.test")
    router = Router(village, settings())
    address = parse_address("ann@example.test")
    waiting = router.resolve(address)
    generations = iter([1, 2, 2])  # the change comes while the first answer is on its way
    village.generation = lambda: next(generations)  # type: ignore[method-assign]
    assert now(waiting).refusal is USER_UNKNOWN
    village.add_account("ann@example.test")
    assert now(router.resolve(address)).refusal is None


@pytest.mark.parametrize(
    ("address", "lines"),
    [
        ("ann@example.test", ["account Ann@example.test keeps it"]),
        (
            "ann+tag@example.test",
            ["ann+tag@example.test is ann@example.test with the tag tag", "account Ann@example.test keeps it"],
        ),
        (
            "moved@example.test",
            [
                "forward moved@example.test -> info@example.test",
                "forward info@example.test -> ann@example.test, kay@far.test",
                "account Ann@example.test keeps it",
                "far.test is not ours",
                "kay@far.test goes by smtp:far.test (MX hosts of its domain)",
            ],
        ),
        (
            "bob@example.test",
            [
                "forward bob@example.test -> bob@far.test (keeps a copy)",
                "far.test is not ours",
                "account bob@example.test keeps it",
                "bob@far.test goes by smtp:far.test (MX hosts of its domain)",
            ],
        ),
        (
            "hopeless@example.test",
            [
                "forward hopeless@example.test -> nobody@example.test",
                "nobody@example.test has neither an account nor a forward",
                "target nobody@example.test is dropped: nobody has it",
                "no target of hopeless@example.test is left",
            ],
        ),
        ("nobody@example.test", ["nobody@example.test has neither an account nor a forward"]),
        ("gone@example.test", ["account gone@example.test is disabled"]),
    ],
)
def test_the_steps_are_those_that_were_taken(still: AnyVillage, address: str, lines: list[str]) -> None:
    assert resolve(still, address).steps.lines() == lines


def test_explain_prints_the_steps_of_the_live_path(tmp_path: Path) -> None:
    path = tmp_path / "directory.sqlite"
    village = SqlVillage(path)
    with village.edits.together():
        furnish(village)
    try:
        for address in ("moved@example.test", "nobody@example.test", "dead@example.test", "postmaster"):
            explanation = asyncio.run(explain_recipient(settings(), path, address))
            resolution = resolve(village, address)
            assert list(explanation.steps) == resolution.steps.lines()
            assert explanation.is_good == (resolution.refusal is None)
    finally:
        village.close()
