"""gatepost explain: the live path, printed step by step."""

from __future__ import annotations

import asyncio
import json
import sys

import click

from gatepost.admin.explain import Explanation, explain_login, explain_recipient
from gatepost.cli.house import House
from gatepost.config.problems import SettingsError
from gatepost.storage.errors import StorageError

json_option = click.option("--json", "as_json", is_flag=True, help="As a JSON object.")


@click.group("explain")
def explain() -> None:
    """Say what would happen, and why. Ends with 1 where it would be refused."""


@explain.command("recipient")
@click.argument("address")
@json_option
@click.pass_obj
def recipient(house: House, address: str, as_json: bool) -> None:
    """Where mail for ADDRESS goes: forwards followed, mailbox or next hop named."""
    try:
        directory = house.home / house.settings.directory.database
        found = asyncio.run(explain_recipient(house.settings, directory, address))
    except (SettingsError, StorageError) as error:
        raise click.ClickException(str(error)) from None
    _tell(house, found, as_json)


@explain.command("login")
@click.argument("user")
@click.option("--password-stdin", is_flag=True, help="Read a password from standard input and compare it.")
@json_option
@click.pass_obj
def login(house: House, user: str, password_stdin: bool, as_json: bool) -> None:
    """How a login as USER goes: the account, what is stored for it, the verdict."""
    password = None
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    elif sys.stdin.isatty():
        password = click.prompt("Password (empty for none)", hide_input=True, default="", show_default=False) or None
    try:
        directory = house.home / house.settings.directory.database
        found = asyncio.run(explain_login(house.settings, directory, user, password))
    except (SettingsError, StorageError) as error:
        raise click.ClickException(str(error)) from None
    _tell(house, found, as_json)


def _tell(house: House, found: Explanation, as_json: bool) -> None:
    if as_json:
        house.say(
            json.dumps({"steps": found.steps, "end": found.end, "good": found.is_good}, ensure_ascii=False, indent=2)
        )
    else:
        for number, step in enumerate(found.steps, 1):
            house.say(f"{number:3}. {step}")
        house.say(f"  => {found.end}")
    if not found.is_good:
        raise SystemExit(1)
