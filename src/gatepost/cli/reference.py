"""Every command, argument and option -> docs/cli.md. `python -m gatepost.cli.reference` prints the page.

It is made of what `--help` is made of and says nothing else, so a word that is wrong here is mended where the command is.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc

import click

from gatepost.cli.main import gatepost

_PAGE_TOP = """\
# Commands

`gatepost [--home FOLDER] NOUN VERB …`: the nouns are below, each with its verbs. `--help` after any of them says the same.

- Facts go to standard output; trouble, and what to do about it, to standard error. A command ends with 0 where it did what it
  was asked, with 1 where it did not, with 2 where it was asked wrongly.
- Whoever may read and write the home folder may use them: its owner, or root, who becomes its owner first.
- Domains, accounts and forwards may be changed whether a server runs or not; a running one sees a change at once.

This page is made from the commands themselves by `python -m gatepost.cli.reference`; change it there.
"""


def reference_page() -> str:
    """docs/cli.md: a section for each command, a subsection for each verb of a noun."""
    context = click.Context(gatepost, info_name="gatepost")
    parts = [_PAGE_TOP, _section(context, 2)]
    for noun in _commands(context):
        parts.append(_section(noun, 2))
        parts += [_section(verb, 3) for verb in _commands(noun)]
    return "\n".join(parts)


def _commands(context: click.Context) -> Iterator[click.Context]:
    """A context for each command of a group, in the group's order; nothing for a command that is none."""
    group = context.command
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield click.Context(command, info_name=name, parent=context)


def _section(context: click.Context, level: int) -> str:
    command = context.command
    usage = " ".join(command.collect_usage_pieces(context))
    text = cleandoc(command.help or "")
    parts = [f"{'#' * level} {context.command_path}\n", f"`{context.command_path} {usage}`\n", f"{text}\n"]
    rows = [_row(*record) for record in _records(context)]
    if rows:
        parts.append("\n".join(["| option | meaning |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _records(context: click.Context) -> Iterator[tuple[str, str]]:
    """Spelling and meaning of each option but --help, which all have. Arguments are told by the command's own words."""
    for parameter in context.command.params:
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            yield record


def _row(spelling: str, meaning: str) -> str:
    cells = (f"`{spelling}`", meaning.replace("  [", " ["))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    print(reference_page(), end="")
