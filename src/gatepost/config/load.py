"""gatepost.toml -> Settings, or SettingsError with everything that is wrong with it.

The text is read by tomllib, each value is held against its declaration in settings.py, then checks.py looks at the
whole. Defaults are those declared; a listener's come from ROLE_DEFAULTS first. Every problem names file, line and
setting, and what to do; a setting that is not known gets the nearest right name and the table it belongs to.

Total: any text gives Settings or SettingsError. Limit: a file of 1 MiB.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from gatepost.config.checks import CHECKS
from gatepost.config.declarations import (
    Declaration,
    declarations,
    entry_of,
    read_value,
    table_of,
    wrong_type,
)
from gatepost.config.locate import SettingPath, locate
from gatepost.config.problems import Check, Complaints, Problem, SettingsError, nearest
from gatepost.config.settings import ROLE_DEFAULTS, ListenerSettings, Role, Settings
from gatepost.config.values import WrongValue, quoted

LARGEST_FILE = 1024 * 1024  # bytes, and characters of a text

_TOML_PLACE = re.compile(r" \(at (?:line ([0-9]+), column ([0-9]+)|end of document)\)$")
_LONG_NUMBER = re.compile(r"[0-9_]{4300,}")  # CPython's limit for int(); tomllib passes its ValueError on
_POSTFIX_NAME = re.compile(r"\(Postfix ([a-z_]+)\)")


def load_settings(path: Path, checks: Sequence[Check] = ()) -> Settings:
    """The settings in a file; `home` is the folder it is in. Raises SettingsError, also where it cannot be read.

    `checks` are those of rooms above, run beside this room's own.
    """
    file = str(path)
    try:
        with path.open("rb") as source:
            content = source.read(LARGEST_FILE + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError([Problem(file, 0, "", f"cannot be read: {reason}; see its name and rights")]) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError([Problem(file, line, "", "is not in UTF-8; save the file as UTF-8")]) from None
    return parse_settings(text, file=file, home=path.parent.absolute(), checks=checks)


def parse_settings(text: str, *, file: str, home: Path, checks: Sequence[Check] = ()) -> Settings:
    """The settings in a text; `file` is what problems call it. Raises SettingsError."""
    document = _parse_toml(text, file)
    complaints = Complaints(file, locate(text))
    settings = _Reader(complaints).settings(document, home)
    for check in (*CHECKS, *checks):
        check(settings, complaints)
    complaints.raise_any()
    return settings


def _parse_toml(text: str, file: str) -> dict[str, Any]:
    if len(text) > LARGEST_FILE:
        raise SettingsError([Problem(file, 0, "", "is larger than 1 MiB; take out what is no setting")])
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([_syntax_problem(str(error), text, file)]) from None
    except RecursionError:
        problem = Problem(file, _deepest_line(text), "", "has lists or tables nested too deeply; no setting needs that")
        raise SettingsError([problem]) from None
    except ValueError:
        found = _LONG_NUMBER.search(text)
        line = text.count("\n", 0, found.start()) + 1 if found else 0
        raise SettingsError([Problem(file, line, "", "has a number with thousands of digits; shorten it")]) from None


def _syntax_problem(message: str, text: str, file: str) -> Problem:
    place = _TOML_PLACE.search(message)
    reason = quoted(_TOML_PLACE.sub("", message))[1:-1]
    if place and place[1]:
        advice = "text stands in double quotes" if reason == "Invalid value" else "correct this line"
        return Problem(file, int(place[1]), "", f"is not TOML at column {place[2]}: {reason}; {advice}")
    last = text.count("\n") + (not text.endswith("\n"))
    return Problem(file, last, "", f"is not TOML at its end: {reason}; close what was opened and not closed")


def _deepest_line(text: str) -> int:
    """The line with most opening brackets: a good guess where nesting went too far."""
    lines = text.split("\n")
    return max(range(len(lines)), key=lambda number: lines[number].count("[") + lines[number].count("{")) + 1


class _Reader:
    """Makes settings classes out of TOML tables. What is wrong is complained about and replaced by its default."""

    def __init__(self, complaints: Complaints) -> None:
        self._complaints = complaints

    def settings(self, document: Mapping[str, Any], home: Path) -> Settings:
        values = self._values(Settings, document, (), {})
        return Settings(**values | {"home": home})

    def _values(
        self, section: type, raw: Mapping[str, Any], path: SettingPath, defaults: Mapping[str, Any]
    ) -> dict[str, Any]:
        """A value for each setting of a section: from the file, else from `defaults`, else as declared."""
        known = {declaration.name: declaration for declaration in declarations(section)}
        for key in raw:
            if key not in known:
                self._complaints.say(_unknown(key, section), (*path, key))
        values: dict[str, Any] = {}
        for name, declaration in known.items():
            if name in raw:
                values[name] = self._value(declaration, raw[name], (*path, name), defaults)
            else:
                values[name] = _default(declaration, defaults)
        return values

    def _value(self, declaration: Declaration, raw: object, path: SettingPath, defaults: Mapping[str, Any]) -> Any:
        default = _default(declaration, defaults)
        if declaration.given:
            self._complaints.say("cannot be set here; it is the folder this file is in, so take the line out", path)
            return default
        if (section := table_of(declaration.kind)) is not None:
            return self._table(section, raw, path)
        entry = entry_of(declaration.kind)
        if entry is not None:
            return self._list(declaration, entry, raw, path) if table_of(entry) is None else self._listeners(raw, path)
        try:
            return read_value(declaration, declaration.kind, raw)
        except WrongValue as problem:
            self._complaints.say(str(problem), path)
            return default

    def _table(self, section: type, raw: object, path: SettingPath) -> Any:
        if isinstance(raw, dict):
            return section(**self._values(section, raw, path, {}))
        self._complaints.say(f"must be a table; write [{path[-1]}] and its settings on the lines below", path)
        return section()

    def _list(self, declaration: Declaration, entry: Any, raw: object, path: SettingPath) -> list[Any]:
        if not isinstance(raw, list):
            self._complaints.say(wrong_type(declaration.kind, raw), path)
            return []
        values = []
        for number, one in enumerate(raw):
            try:
                values.append(read_value(declaration, entry, one))
            except WrongValue as problem:
                self._complaints.say(str(problem), (*path, number))
        return values

    def _listeners(self, raw: object, path: SettingPath) -> list[ListenerSettings]:
        if not isinstance(raw, list):
            self._complaints.say(f"there may be several; write [[{path[-1]}]], in double brackets", path)
            return []
        listeners = []
        for number, one in enumerate(raw):
            if isinstance(one, dict):
                listeners.append(self._listener(one, (*path, number)))
            else:
                self._complaints.say(f"must be a table; write [[{path[-1]}]] and its settings below", (*path, number))
        return listeners

    def _listener(self, raw: Mapping[str, Any], path: SettingPath) -> ListenerSettings:
        role: Role = next((role for role in ROLE_DEFAULTS if role == raw.get("role")), "mx")
        listener = ListenerSettings(**self._values(ListenerSettings, raw, path, ROLE_DEFAULTS[role]))
        return listener if listener.name else replace(listener, name=f"{listener.role} {listener.address}")


def _default(declaration: Declaration, defaults: Mapping[str, Any]) -> Any:
    value = defaults.get(declaration.name, declaration.default)
    return list(value) if isinstance(value, list) else value


# --- names nobody knows -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """A section of the file, what an operator would call it, and the names it has: ours, and Postfix's where they differ."""

    section: type
    words: str
    names: tuple[str, ...]
    postfix_names: Mapping[str, str]


@lru_cache(maxsize=1)
def _places() -> tuple[_Place, ...]:
    found = [_place(Settings, "at the top of the file, above the first table")]
    for declaration in declarations(Settings):
        if (section := table_of(entry_of(declaration.kind))) is not None:
            found.append(_place(section, f"in [[{declaration.name}]]"))
        elif (section := table_of(declaration.kind)) is not None:
            found.append(_place(section, f"in [{declaration.name}]"))
    return tuple(found)


def _place(section: type, words: str) -> _Place:
    settable = [declaration for declaration in declarations(section) if not declaration.given]
    # Sentences say what Postfix calls a setting: "... (Postfix smtpd_peername_lookup)."
    postfix = ((_POSTFIX_NAME.search(declaration.sentence), declaration.name) for declaration in settable)
    return _Place(
        section,
        words,
        tuple(declaration.name for declaration in settable),
        {found[1]: name for found, name in postfix if found},
    )


def _unknown(key: str, section: type) -> str:
    """What to tell about a key that `section` does not have."""
    name = key.lower().replace("-", "_")
    places = sorted(_places(), key=lambda place: place.section is not section)  # this table first
    elsewhere = [place.words for place in places if name in place.names]
    if elsewhere and name not in places[0].names:
        return f"is not known here; it belongs {' or '.join(elsewhere)}"
    best, where, likeness = "", "", 0.0
    for place in places:
        here = place is places[0]
        # A name of this very table is taken more readily than one of another.
        near, ratio = nearest(name, place.names, 0.6 if here else 0.75)
        if name in place.postfix_names:
            near, ratio = place.postfix_names[name], 1.0
        ratio += 0.1 if here and near else 0.0
        if ratio > likeness:
            best, where, likeness = near, "" if here else f" {place.words}", ratio
    return (
        f"is not known; did you mean {best}{where}?" if best else "is not known, nor is any name like it; take it out"
    )
