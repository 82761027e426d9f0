"""Which line of a TOML text a setting stands on.

`tomllib` gives values without positions, and no kept library with positions was found good enough to take its place
(tomlkit, too, forgets them once it has parsed). So tomllib reads the values, and this scanner walks over the same text
for nothing but the lines. It knows tables, arrays of tables, dotted and quoted keys, inline tables, arrays over several
lines and all four kinds of strings (TOML 1.0.0).

`locate` never fails: where the text is no TOML it stops, and keeps what it found. A path it has not seen gets the line
of what it belongs to: its list, its table, else line 1. Time and memory grow with the length of the text; nesting and
dotted keys deeper than 32, which no setting has, end the scan.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections.abc import Mapping
from typing import TypeAlias

SettingPath: TypeAlias = tuple[str | int, ...]
"""("listener", 0, "mynetworks", 2): keys, and places within lists counted from 0."""

_DEEPEST = 32

_BLANK = re.compile(r"[ \t]*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*'""")
_STRING = re.compile(
    r""""{3}(?:\\.|[^\\])*?"{3,5}"""  # up to two quotes of the content may touch the closing ones
    r"""|'{3}.*?'{3,5}"""
    r'''|"(?:\\.|[^"\\\n])*"'''
    r"""|'[^'\n]*'""",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^\[\]{},#\n\"']+")


class Places:
    """The lines of one text. Lines count from 1."""

    def __init__(self, lines: Mapping[SettingPath, int]) -> None:
        self._lines = lines

    def has(self, path: SettingPath) -> bool:
        """Whether the text sets it."""
        return path in self._lines

    def line_of(self, path: SettingPath) -> int:
        """Its line; the line of what it belongs to where the text does not have it."""
        for length in range(len(path), 0, -1):
            line = self._lines.get(path[:length])
            if line is not None:
                return line
        return 1


def locate(text: str) -> Places:
    """The lines of all keys and list entries of a text. Never fails."""
    scan = _Scan(text)
    try:
        scan.document()
    except _Lost:
        pass
    return Places(scan.lines)


class _Lost(Exception):
    """The text goes on in a way TOML does not have."""


class _Scan:
    def __init__(self, text: str) -> None:
        self.lines: dict[SettingPath, int] = {}
        self._text = text
        self._at = 0
        self._ends = [found.start() for found in re.finditer("\n", text)]
        self._entries: dict[SettingPath, int] = {}  # how many [[tables]] an array of tables has so far

    def document(self) -> None:
        table: SettingPath = ()
        while True:
            self._skip(_BLANK_LINES)
            if self._at == len(self._text):
                return
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table, depth=0)

    def _header(self) -> SettingPath:
        line = self._line()
        brackets = 2 if self._text.startswith("[[", self._at) else 1
        self._at += brackets
        *above, last = self._dotted_key()
        self._expect("]" * brackets)
        path: SettingPath = ()
        for key in above:
            path = self._newest((*path, key))
            self.lines.setdefault(path, line)
        path = (*path, last)
        if brackets == 2:
            self.lines.setdefault(path, line)
            number = self._entries.get(path, 0)
            self._entries[path] = number + 1
            path = (*path, number)
        else:
            path = self._newest(path)
        self.lines[path] = line  # the table's own header, even if [table.below] came first
        return path

    def _newest(self, path: SettingPath) -> SettingPath:
        """`[listener.x]` speaks of the newest `[[listener]]`."""
        count = self._entries.get(path)
        return path if count is None else (*path, count - 1)

    def _pair(self, table: SettingPath, depth: int) -> None:
        line = self._line()
        path = table
        for key in self._dotted_key():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self._expect("=")
        self._skip(_BLANK)
        self._value(path, depth + 1)

    def _dotted_key(self) -> list[str]:
        keys: list[str] = []
        while len(keys) < _DEEPEST:
            self._skip(_BLANK)
            keys.append(_unquoted(self._take(_KEY)))
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1
        raise _Lost

    def _value(self, path: SettingPath, depth: int) -> None:
        if depth > _DEEPEST:
            raise _Lost
        start = self._text[self._at : self._at + 1]
        if start == "[":
            self._array(path, depth)
        elif start == "{":
            self._inline_table(path, depth)
        else:
            self._take(_STRING if start in {'"', "'"} else _SCALAR)

    def _array(self, path: SettingPath, depth: int) -> None:
        self._at += 1
        number = 0
        while not self._ends_with("]"):
            self.lines[*path, number] = self._line()
            self._value((*path, number), depth + 1)
            number += 1
            self._comma_or("]")

    def _inline_table(self, path: SettingPath, depth: int) -> None:
        self._at += 1
        while not self._ends_with("}"):
            self._pair(path, depth)
            self._comma_or("}")

    def _ends_with(self, bracket: str) -> bool:
        self._skip(_BLANK_LINES)
        if not self._text.startswith(bracket, self._at):
            return False
        self._at += 1
        return True

    def _comma_or(self, bracket: str) -> None:
        self._skip(_BLANK_LINES)
        if self._text.startswith(",", self._at):
            self._at += 1
        elif not self._text.startswith(bracket, self._at):
            raise _Lost

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        assert found is not None  # these patterns also match nothing
        self._at = found.end()

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise _Lost
        self._at = found.end()
        return found[0]

    def _expect(self, text: str) -> None:
        if not self._text.startswith(text, self._at):
            raise _Lost
        self._at += len(text)

    def _line(self) -> int:
        return bisect_left(self._ends, self._at) + 1


def _unquoted(key: str) -> str:
    if key[0] == "'":
        return key[1:-1]
    if key[0] != '"' or "\\" not in key:
        return key.strip('"')
    try:
        return str(tomllib.loads(f"key = {key}")["key"])
    except tomllib.TOMLDecodeError:
        raise _Lost from None
