from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from gatepost.cli.main import COMMANDS, gatepost
from gatepost.cli.reference import reference_page

ROOT = Path(__file__).parents[2]


def commands(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            yield from commands(click.Context(command, info_name=name, parent=context))


def all_commands() -> list[click.Context]:
    return list(commands(click.Context(gatepost, info_name="gatepost")))


def test_the_committed_page_is_up_to_date() -> None:
    committed = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert committed == reference_page(), "run: python -m gatepost.cli.reference > docs/cli.md"


def test_the_module_prints_the_page() -> None:
    command = [sys.executable, "-W", "error", "-m", "gatepost.cli.reference"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout == reference_page()


def test_the_page_has_a_section_for_every_command_in_the_order_of_help() -> None:
    sections = re.findall(r"^##+ (.+)$", reference_page(), re.MULTILINE)
    assert sections == [context.command_path for context in all_commands()]
    assert [section.split()[1] for section in sections if section.count(" ") == 1] == list(COMMANDS)


def test_every_command_and_option_has_a_sentence() -> None:
    for context in all_commands():
        assert (context.command.help or "").strip().endswith("."), f"{context.command_path} has no sentence"
        for parameter in context.command.params:
            if isinstance(parameter, click.Option):
                told = (parameter.help or "").strip()
                assert told.endswith((".", '"', "…")), f"{context.command_path} {parameter.opts[0]} has no sentence"


def test_every_option_stands_in_its_section() -> None:
    page = reference_page()
    for context in all_commands():
        section = page.split(f"# {context.command_path}\n", 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]
        for parameter in context.command.params:
            if isinstance(parameter, click.Option):
                assert f"`{parameter.opts[0]}" in section, f"{context.command_path} {parameter.opts[0]}"


def test_every_row_has_two_cells() -> None:
    for line in reference_page().split("\n"):
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 3, line
