"""gatepost forward: addresses whose mail goes on to others."""

from __future__ import annotations

import click

from gatepost.admin.residents import describe_forward
from gatepost.cli.directory import json_option, residents_of, say_json, tell
from gatepost.cli.house import House
from gatepost.directory.records import display_address


@click.group()
def forward() -> None:
    """Addresses whose mail goes on to others.

    SOURCE is an address, or @domain for whoever has no account or forward there. A TARGET is an address anywhere, or
    @domain for the same local part there.
    """


@forward.command("add")
@click.argument("source")
@click.argument("targets", metavar="TARGET...", nargs=-1)
@click.option(
    "--keep-copy/--no-keep-copy",
    default=None,
    help="Whether the account of the same address gets the mail too; a new forward keeps none unless told.",
)
@click.pass_obj
def add_forward(house: House, source: str, targets: tuple[str, ...], keep_copy: bool | None) -> None:
    """Forward mail for SOURCE to each TARGET, beside those it has.

    Without a TARGET only --keep-copy is changed.
    """
    if not targets and keep_copy is None:
        raise click.UsageError("name a target, or say --keep-copy or --no-keep-copy")
    with residents_of(house) as residents:
        tell(house, residents.add_forward(source, targets, keep_copy=keep_copy))


@forward.command("remove")
@click.argument("source")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.pass_obj
def remove_forward(house: House, source: str, targets: tuple[str, ...]) -> None:
    """Forward mail for SOURCE no more, or not to each TARGET named."""
    with residents_of(house) as residents:
        tell(house, residents.remove_forward(source, targets))


@forward.command("enable")
@click.argument("source")
@click.pass_obj
def enable_forward(house: House, source: str) -> None:
    """Switch the forward of SOURCE on again."""
    with residents_of(house) as residents:
        tell(house, residents.switch_forward(source, True))


@forward.command("disable")
@click.argument("source")
@click.pass_obj
def disable_forward(house: House, source: str) -> None:
    """Switch the forward of SOURCE off; its targets are kept."""
    with residents_of(house) as residents:
        tell(house, residents.switch_forward(source, False))


@forward.command("list")
@click.argument("prefix", default="")
@click.option("--domain", default="", metavar="NAME", help="Only those of this domain.")
@json_option
@click.pass_obj
def list_forwards(house: House, prefix: str, domain: str, as_json: bool) -> None:
    """All forwards, or those whose source starts with PREFIX."""
    with residents_of(house) as residents:
        forwards = residents.edits.forwards(prefix, domain=domain)
    if as_json:
        say_json(
            house,
            (
                {
                    "source": found.spelt,
                    "display": found.display,
                    "targets": list(found.targets),
                    "keep_copy": found.keep_copy,
                    "active": found.active,
                }
                for found in forwards
            ),
        )
        return
    for found in forwards:
        house.say(describe_forward(found))


@forward.command("show")
@click.argument("source")
@click.pass_obj
def show_forward(house: House, source: str) -> None:
    """Where mail for SOURCE goes, a target on each line."""
    with residents_of(house) as residents:
        found = residents.edits.forward(source)
        lost = residents.edits.lost_targets(found)
    house.say(found.display if found.active else f"{found.display} (off)")
    for target in found.targets:
        house.say(f"  -> {display_address(target)}{' (nobody is there)' if target in lost else ''}")
    if found.keep_copy:
        house.say("  and its own mailbox keeps a copy")
