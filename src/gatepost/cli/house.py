"""House: what every command is given: the home folder, its settings, and a mouth."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import click

from gatepost.config.load import load_settings
from gatepost.config.settings import Settings
from gatepost.policy.chain import check_restrictions
from gatepost.service.channel import ChannelClosed, Request, ask_once
from gatepost.service.home import Home


@dataclass
class House:
    """The home folder of one Gatepost. The settings are read when first asked for."""

    home: Path

    @cached_property
    def settings(self) -> Settings:
        """gatepost.toml of the home folder. Raises SettingsError."""
        return load_settings(self.home / "gatepost.toml", [check_restrictions])

    def say(self, text: str) -> None:
        """A line to standard output."""
        click.echo(text)

    def ask(self, request: Request) -> Request | None:
        """A request to the running server; None where none runs. Ends the command where it cannot be asked."""
        try:
            return ask_once(Home(self.home).control, request)
        except ChannelClosed as closed:
            raise click.ClickException(str(closed)) from None

    def poke(self, what: str, ids: Sequence[str]) -> None:
        """Tell the running server, if there is one, that these were changed under it."""
        self.ask({"do": what, "ids": list(ids)})

    def become_owner(self) -> None:
        """Root becomes the home's owner for good, so that nothing is made there that the server cannot use."""
        owner = self.home.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.setgroups([owner.st_gid])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)
