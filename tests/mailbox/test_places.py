"""Where an account's mail is: names that cannot walk out, folders that cannot be replaced by links."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.mail.address import Address, parse_address
from gatepost.mailbox.places import MAX_NAME, BadPlace, BadTemplate, Places, decode_name, encode_name

DEFAULT = "mail/{domain}/{local}"

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("alice", "alice"),
        ("first.last", "first.last"),
        ("bob-2_x+tag=1", "bob-2_x+tag=1"),
        ("example.test", "example.test"),
        ("..", "%2E."),
        (".", "%2E"),
        (".hidden", "%2Ehidden"),
        ("a/b", "a%2Fb"),
        ("a\0b", "a%00b"),
        ("a b", "a%20b"),
        ("a@b", "a%40b"),
        ("100%", "100%25"),
        ("%", "%25"),
        ("", "%"),
        ("müller", "m%C3%BCller"),
        ("[ipv6:::1]", "%5Bipv6%3A%3A%3A1%5D"),
        ("Upper", "%55pper"),
    ],
)
def test_names_are_encoded_so_that_ordinary_ones_stay_as_they_are(text: str, name: str) -> None:
    assert encode_name(text) == name
    assert decode_name(name) == text


@given(any_text)
def test_any_text_makes_one_harmless_name_and_comes_back(text: str) -> None:
    name = encode_name(text)
    assert name
    assert name.isascii()
    assert not name.startswith(".")
    assert not set(name) & set("/\0@: \\")
    assert decode_name(name) == text


@given(any_text)
def test_no_name_is_decoded_that_encoding_would_not_make(name: str) -> None:
    try:
        text = decode_name(name)
    except ValueError:
        return
    assert encode_name(text) == name


def test_a_lone_surrogate_has_no_name() -> None:
    with pytest.raises(BadPlace):
        encode_name("\ud800")


def test_folders_follow_the_template(tmp_path: Path) -> None:
    places = Places(tmp_path, DEFAULT)
    assert places.path(parse_address("Alice@Example.test")) == tmp_path / "mail" / "example.test" / "alice"
    together = Places(tmp_path, "{local}@{domain}/Maildir")
    assert together.path(parse_address("bob@example.test")) == tmp_path / "bob@example.test" / "Maildir"


@given(st.lists(st.tuples(any_text, any_text), min_size=2, max_size=2), st.sampled_from([DEFAULT, "{local}@{domain}"]))
def test_two_accounts_never_share_a_folder(pairs: list[tuple[str, str]], template: str) -> None:
    places = Places(Path("/home"), template)
    one, two = (Address(local, domain) for local, domain in pairs)
    try:
        same = places.path(one) == places.path(two)
    except BadPlace:
        return
    assert same == (one.key == two.key)


@given(st.emails())
def test_every_address_has_a_place_below_the_home_folder(text: str) -> None:
    account = parse_address(text)
    names = Places(Path("/home"), DEFAULT).names(account)
    assert len(names) == 2
    assert all(name not in ("", ".", "..") and "/" not in name and len(name) <= MAX_NAME for name in names)


@pytest.mark.parametrize("local", ["\U0001f4ec" * 16, "İ" * 32, "/" * 64])
def test_the_longest_local_parts_fit(local: str) -> None:
    Places(Path("/home"), DEFAULT).names(parse_address(f"{local}@example.test"))


def test_an_over_long_name_is_refused_not_cut(tmp_path: Path) -> None:
    with pytest.raises(BadPlace, match="longer than 255"):
        Places(tmp_path, DEFAULT).open(Address("x" * 256, "example.test"), create=True)
    assert list(tmp_path.rglob("x*")) == []


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("/mail/{domain}/{local}", "no folder name"),
        ("../{domain}/{local}", "no folder name"),
        ("mail//{domain}/{local}", "no folder name"),
        ("mail/{domain}/{local}/", "no folder name"),
        ("mail/{user}/{domain}/{local}", "no folder name"),
        ("", "no folder name"),
        ("mail/{local}", r"lacks \{domain\}"),
        ("mail/{domain}", r"lacks \{local\}"),
        ("mail/{domain}{local}", "need an @"),
        ("mail/{domain}-{local}", "need an @"),
    ],
)
def test_a_template_that_could_mix_mailboxes_is_refused(template: str, reason: str) -> None:
    with pytest.raises(BadTemplate, match=reason):
        Places(Path("/home"), template)


def test_missing_folders_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    account = parse_address("alice@example.test")
    folder = Places(tmp_path, DEFAULT).open(account, create=True)
    os.close(folder)
    for made in (tmp_path / "mail", tmp_path / "mail/example.test", tmp_path / "mail/example.test/alice"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_nothing_is_made_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Places(tmp_path, DEFAULT).open(parse_address("alice@example.test"), create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", ["example.test", "example.test/alice"])
@pytest.mark.parametrize("target_exists", [True, False])
def test_a_symbolic_link_below_the_root_is_not_followed(tmp_path: Path, link: str, target_exists: bool) -> None:
    outside = tmp_path / "outside"
    if target_exists:
        outside.mkdir()
    at = tmp_path / "home/mail" / link
    at.parent.mkdir(parents=True)
    at.symlink_to(outside)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        Places(tmp_path / "home", DEFAULT).open(parse_address("alice@example.test"), create=True)
    assert not target_exists or list(outside.iterdir()) == []


def test_the_operator_may_link_the_root_itself(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "mail").symlink_to(disk)
    os.close(Places(tmp_path, DEFAULT).open(parse_address("alice@example.test"), create=True))
    assert (disk / "example.test/alice").is_dir()
