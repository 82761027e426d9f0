"""gatepost config: the settings in force, whether the file is right, and what there is to set."""

from __future__ import annotations

import click

from gatepost.cli.house import House
from gatepost.config.describe import reference_page, sample_file, show
from gatepost.config.problems import SettingsError
from gatepost.config.settings import Settings


@click.group("config")
def config() -> None:
    """The settings in gatepost.toml."""


@config.command("show")
@click.pass_obj
def show_settings(house: House) -> None:
    """Every setting as it is in force, as TOML."""
    house.say(show(_settings(house)).rstrip("\n"))


@config.command("check")
@click.pass_obj
def check(house: House) -> None:
    """Whether gatepost.toml is right; each fault with its line."""
    _settings(house)
    house.say(f"{house.home / 'gatepost.toml'} is right")


@config.command("reference")
@click.pass_obj
def reference(house: House) -> None:
    """All settings with types, defaults and sentences, as Markdown."""
    house.say(reference_page().rstrip("\n"))


@config.command("sample")
@click.option("--hostname", default="mail.example.org", show_default=True, help="The host name in it.")
@click.pass_obj
def sample(house: House, hostname: str) -> None:
    """A gatepost.toml with every setting, commented out."""
    house.say(sample_file(hostname).rstrip("\n"))


def _settings(house: House) -> Settings:
    try:
        return house.settings
    except SettingsError as error:
        raise click.ClickException(f"the settings are wrong:\n{error}") from None
