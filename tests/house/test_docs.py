"""The pages tell the truth: links lead somewhere, files and folders are there, commands and options exist, and so do settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gatepost.cli.main import COMMANDS, gatepost
from gatepost.config.declarations import declarations, entry_of, table_of
from gatepost.config.settings import ListenerSettings, Settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MADE = {"settings.md", "cli.md"}  # by programs
WRITTEN = [page for page in PAGES if page.name not in MADE]
UNITS = sorted((ROOT / "contrib").iterdir())

_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PATH = re.compile(
    r"(?:[\w.-]+/)*[\w.-]+\.(?:py|md|lock|in|service)|(?:src|tests|docs|bench|contrib|requirements)/[\w./-]*"
)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """As the usual renderers make them of headings."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(_BLOCK.sub("", text_of(page))):
        path, _, anchor = target.partition("#")
        assert "://" not in target, f"{target}: pages here name no other place"
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading; there are {sorted(anchors(file))}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_are_there(page: Path) -> None:
    for code in _CODE.findall(_BLOCK.sub("", text_of(page))):
        if _PATH.fullmatch(code):
            places = (ROOT, ROOT / "src" / "gatepost", page.parent)
            found = any((place / code).exists() for place in places) or ("/" not in code and is_some_file(code))
            assert found, f"`{code}` is not there"


def is_some_file(name: str) -> bool:
    return any(next((ROOT / folder).rglob(name), None) for folder in ("src", "tests", "docs"))


def test_the_life_of_a_message_goes_through_every_room() -> None:
    text = text_of(ROOT / "docs" / "life-of-a-message.md")
    rooms = [folder.name for folder in (ROOT / "src" / "gatepost").iterdir() if (folder / "__init__.py").exists()]
    assert len(rooms) > 10
    for room in rooms:
        assert re.search(rf"`{room}/[\w/]+\.py`", text), f"nothing happens in {room}/"


# --- commands ---------------------------------------------------------------------------------------------------------


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words after `gatepost` of every command on a page or in a unit, without --home FOLDER."""
    text = text_of(page)
    codes = [] if page in UNITS else _CODE.findall(_BLOCK.sub("", text))
    blocks = [text] if page in UNITS else [block for kind, block in _BLOCK.findall(text) if kind == "sh"]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in [*codes, *lines]:
        for part in re.split(r"&&|\||;", line):
            words = words_of(part)
            if words and re.fullmatch(r"(ExecStart=|ExecReload=)?(\S*/)?gatepost", words[0]) and len(words) > 1:
                yield words[3:] if words[1] == "--home" else words[1:]


def words_of(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []  # prose with an apostrophe


def check_command(words: list[str]) -> None:
    """The command is there, and takes these options."""
    context = click.Context(gatepost, info_name="gatepost")
    while words and isinstance(context.command, click.Group) and re.fullmatch(r"[a-z]+", words[0]):
        command = context.command.get_command(context, words[0])
        assert command is not None, f"gatepost has no {words}"
        context, words = click.Context(command, info_name=words[0], parent=context), words[1:]
    known = {name for parameter in context.command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("--"):
            assert name in {*known, "--help"}, f"{context.command_path} has no {name}"


@pytest.mark.parametrize("page", [*WRITTEN, *UNITS], ids=name_of)
def test_commands_exist(page: Path) -> None:
    for words in command_lines(page):
        check_command(words)


def test_commands_are_found_and_judged() -> None:
    assert ["init", "example.org", "--user", "gatepost"] in list(command_lines(ROOT / "README.md"))
    with pytest.raises(AssertionError, match="has no --loudly"):
        check_command(["forward", "add", "a@b.test", "--loudly"])
    with pytest.raises(AssertionError, match="has no"):
        check_command(["forward", "burn"])


def test_people_are_told_of_every_noun() -> None:
    named = {words[0] for page in WRITTEN for words in command_lines(page)}
    assert set(COMMANDS) <= named, f"neither README nor docs use {set(COMMANDS) - named}"


# --- settings ---------------------------------------------------------------------------------------------------------


def setting_names() -> set[str]:
    names = set()
    for one in declarations(Settings):
        section = table_of(one.kind) or table_of(entry_of(one.kind))
        names |= {one.name} if section is None else {f"{one.name}.{inner.name}" for inner in declarations(section)}
    return names


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_settings_exist(page: Path) -> None:
    tables = {name.partition(".")[0] for name in setting_names() if "." in name}
    known = {*setting_names(), "directory.sqlite"}
    for code in _CODE.findall(text_of(page)):
        name = code.partition(" ")[0]
        if re.fullmatch(r"[a-z]+\.[a-z_0-9]+", name) and name.partition(".")[0] in tables:
            assert name in known, f"there is no setting {name}"


def test_listeners_in_examples_can_be_read() -> None:
    known = {one.name for one in declarations(ListenerSettings)}
    blocks = [block for page in WRITTEN for kind, block in _BLOCK.findall(text_of(page)) if kind == "toml"]
    assert blocks
    for block in blocks:
        for table, body in re.findall(r"^\[+(\w+)\]+\n((?:(?!\[).*\n)*)", block, re.MULTILINE):
            for name in re.findall(r"^(\w+) =", body, re.MULTILINE):
                assert name in known if table == "listener" else f"{table}.{name}" in setting_names(), (
                    f"{table}: {name}"
                )


def test_no_page_names_this_machine() -> None:
    for page in [*PAGES, *UNITS]:
        assert not re.search(r"(?<![\w.])/(?:work|root|tmp|farm|home/\w)", text_of(page)), name_of(page)
