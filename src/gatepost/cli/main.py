"""`gatepost`: finds the home folder and hands over to the noun that is asked for."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import click

from gatepost import __version__
from gatepost.cli.house import House

COMMANDS = {
    "init": "server:init",
    "serve": "server:serve",
    "status": "server:status",
    "reload": "server:reload",
    "stop": "server:stop",
    "domain": "domain:domain",
    "account": "account:account",
    "forward": "forward:forward",
    "queue": "queue:queue_group",
    "ca": "ca:ca",
    "explain": "explain:explain",
    "send": "send:send",
    "config": "settings:config",
}

NEEDS_ROOT = frozenset({"init", "serve"})
"""Commands that stay root where root starts them."""


class LazyGroup(click.Group):
    """Imports a noun's file when the noun is asked for, so that none pays for the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All nouns and verbs, in the order people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(f"gatepost.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command


def default_home() -> Path:
    """GATEPOST_HOME, else /var/lib/gatepost."""
    return Path(os.environ.get("GATEPOST_HOME") or "/var/lib/gatepost")


@click.group(
    "gatepost", cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="The home folder: settings, accounts, queue, mail. GATEPOST_HOME, else /var/lib/gatepost, where not given.",
)
@click.version_option(__version__, prog_name="gatepost")
@click.pass_context
def gatepost(ctx: click.Context, home: Path | None) -> None:
    """A complete mail server in one Python package."""
    house = House((home or default_home()).absolute())
    ctx.obj = house
    if ctx.invoked_subcommand in NEEDS_ROOT or {"-h", "--help"} & set(sys.argv):
        return
    try:
        house.become_owner()
    except FileNotFoundError:
        raise click.ClickException(
            f"there is no home folder {house.home}; make one with `gatepost --home {house.home} init DOMAIN`"
        ) from None
    except PermissionError:
        raise click.ClickException(f"you may not use {house.home}; run this as its owner or as root") from None


def main() -> None:
    """The console script."""
    gatepost()
