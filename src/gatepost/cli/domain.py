"""gatepost domain: the domains mail is taken for."""

from __future__ import annotations

import click

from gatepost.cli.directory import json_option, residents_of, say_json, tell, with_marks
from gatepost.cli.house import House


@click.group()
def domain() -> None:
    """The domains that mail is taken for."""


@domain.command("add")
@click.argument("name")
@click.pass_obj
def add_domain(house: House, name: str) -> None:
    """Take mail for the domain NAME from now on."""
    with residents_of(house) as residents:
        tell(house, residents.add_domain(name))


@domain.command("remove")
@click.argument("name")
@click.option("--with-residents", is_flag=True, help="Its accounts and forwards go too. Their mail stays on disk.")
@click.pass_obj
def remove_domain(house: House, name: str, with_residents: bool) -> None:
    """Take no more mail for the domain NAME."""
    with residents_of(house) as residents:
        tell(house, residents.remove_domain(name, with_residents=with_residents))


@domain.command("list")
@click.argument("prefix", default="")
@json_option
@click.pass_obj
def list_domains(house: House, prefix: str, as_json: bool) -> None:
    """All domains, or those that start with PREFIX."""
    with residents_of(house) as residents:
        domains = residents.edits.domains(prefix)
    if as_json:
        say_json(house, ({"domain": found.name, "display": found.display, "active": found.active} for found in domains))
        return
    for found in domains:
        house.say(with_marks(found.display, {"off": not found.active}))


@domain.command("enable")
@click.argument("name")
@click.pass_obj
def enable_domain(house: House, name: str) -> None:
    """Switch the domain NAME on again."""
    with residents_of(house) as residents:
        tell(house, residents.switch_domain(name, True))


@domain.command("disable")
@click.argument("name")
@click.pass_obj
def disable_domain(house: House, name: str) -> None:
    """Switch the domain NAME off; its accounts and forwards are kept."""
    with residents_of(house) as residents:
        tell(house, residents.switch_domain(name, False))
