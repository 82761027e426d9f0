"""House: what every command is given: the home folder, its settings, and a mouth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import click

from gatepost.config.load import load_settings
from gatepost.config.settings import Settings


@dataclass
class House:
    """The home folder of one Gatepost. The settings are read when first asked for."""

    home: Path

    @cached_property
    def settings(self) -> Settings:
        """gatepost.toml of the home folder. Raises SettingsError."""
        return load_settings(self.home / "gatepost.toml")

    def say(self, text: str) -> None:
        """A line to standard output."""
        click.echo(text)
