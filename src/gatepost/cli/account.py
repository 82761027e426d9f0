"""gatepost account: who can log in and has a mailbox. A password is typed, read from standard input or made up; it never
stands on the command line, where every process on the machine can read it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from gatepost.admin.residents import generate_password
from gatepost.cli.directory import json_option, residents_of, say_json, tell, with_marks
from gatepost.cli.house import House

LONGEST_LINE = 64 * 1024  # bytes read from standard input; what is longer than a password may be is refused later


@click.group()
def account() -> None:
    """Who can log in and has a mailbox."""


def password_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--password-stdin and --generate."""
    stdin = click.option("--password-stdin", is_flag=True, help="Read the password from standard input, one line.")
    generate = click.option("--generate", is_flag=True, help="Make up a password and print it, this once.")
    return stdin(generate(command))


@account.command("add")
@click.argument("address")
@click.option("--no-mailbox", is_flag=True, help="It can log in and send, but no mail is kept for it.")
@password_options
@click.pass_obj
def add_account(house: House, address: str, no_mailbox: bool, password_stdin: bool, generate: bool) -> None:
    """Add the account ADDRESS. Asks for a password unless told where it comes from."""
    with residents_of(house) as residents:
        residents.edits.check_new_account(address)  # before anybody types a password
        password = _password(password_stdin, generate)
        tell(house, residents.add_account(address, password, has_mailbox=not no_mailbox))
    _say_generated(house, password, generate)


@account.command("remove")
@click.argument("address")
@click.pass_obj
def remove_account(house: House, address: str) -> None:
    """Remove the account ADDRESS. Its mail stays on disk."""
    with residents_of(house) as residents:
        tell(house, residents.remove_account(address))


@account.command("list")
@click.argument("prefix", default="")
@click.option("--domain", default="", metavar="NAME", help="Only those of this domain.")
@json_option
@click.pass_obj
def list_accounts(house: House, prefix: str, domain: str, as_json: bool) -> None:
    """All accounts, or those that start with PREFIX."""
    with residents_of(house) as residents:
        accounts = residents.edits.accounts(prefix, domain=domain)
    if as_json:
        say_json(
            house,
            (
                {
                    "address": str(found.address),
                    "display": found.display,
                    "active": found.active,
                    "mailbox": found.has_mailbox,
                    "password": bool(found.password),  # whether there is one
                }
                for found in accounts
            ),
        )
        return
    for found in accounts:
        marks = {"off": not found.active, "no mailbox": not found.has_mailbox, "no password": not found.password}
        house.say(with_marks(found.display, marks))


@account.command("password")
@click.argument("address")
@password_options
@click.pass_obj
def set_password(house: House, address: str, password_stdin: bool, generate: bool) -> None:
    """Give the account ADDRESS another password."""
    with residents_of(house) as residents:
        residents.edits.account(address)
        password = _password(password_stdin, generate)
        tell(house, residents.set_password(address, password))
    _say_generated(house, password, generate)


@account.command("enable")
@click.argument("address")
@click.pass_obj
def enable_account(house: House, address: str) -> None:
    """Switch the account ADDRESS on again."""
    with residents_of(house) as residents:
        tell(house, residents.switch_account(address, True))


@account.command("disable")
@click.argument("address")
@click.pass_obj
def disable_account(house: House, address: str) -> None:
    """Switch the account ADDRESS off; its passwords and mail are kept."""
    with residents_of(house) as residents:
        tell(house, residents.switch_account(address, False))


def _password(from_stdin: bool, generate: bool) -> str:
    if from_stdin and generate:
        raise click.UsageError("--password-stdin and --generate cannot both be given")
    if generate:
        return generate_password()
    if from_stdin:
        return _password_line()
    if not _at_terminal():
        raise click.UsageError("no password: give --password-stdin or --generate, or run this in a terminal")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return password


def _password_line() -> str:
    line = sys.stdin.buffer.readline(LONGEST_LINE)
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise click.ClickException("the password on standard input is not in UTF-8") from None


def _at_terminal() -> bool:
    return sys.stdin.isatty()


def _say_generated(house: House, password: str, generated: bool) -> None:
    if generated:
        house.say(f"Password: {password}")
