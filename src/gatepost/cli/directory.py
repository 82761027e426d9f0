"""What the nouns domain, account and forward share: the directory of a house opened for a command, and lists as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from gatepost.admin.residents import Done, Residents, password_hasher
from gatepost.cli.house import House
from gatepost.config.problems import SettingsError
from gatepost.directory.edits import DirectoryEdits, DirectoryError
from gatepost.storage.errors import StorageError

json_option = click.option("--json", "as_json", is_flag=True, help="As a JSON list.")


@contextmanager
def residents_of(house: House) -> Iterator[Residents]:
    """The directory, made and migrated where needed. What goes wrong within ends the command with its text."""
    try:
        settings = house.settings
        path = house.home / settings.directory.database
        with DirectoryEdits(path, recipient_delimiter=settings.recipient_delimiter) as edits:
            yield Residents(edits, password_hasher(settings.passwords))
    except (DirectoryError, StorageError, SettingsError) as error:
        raise click.ClickException(str(error)) from error


def tell(house: House, done: Done) -> None:
    """What was done, on standard output; notes on standard error."""
    house.say(done.text)
    for note in done.notes:
        click.echo(f"Note: {note}", err=True)


def say_json(house: House, records: Iterable[Mapping[str, Any]]) -> None:
    """A list of objects."""
    house.say(json.dumps(list(records), ensure_ascii=False, indent=2))


def with_marks(text: str, marks: Mapping[str, bool]) -> str:
    """The text with those marks that hold, in brackets."""
    holding = [mark for mark, holds in marks.items() if holds]
    return f"{text} ({', '.join(holding)})" if holding else text
