"""What is wrong with a settings file, told all at once: Problem, SettingsError, and Complaints, where they are gathered."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from gatepost.config.locate import Places, SettingPath
from gatepost.config.settings import Settings
from gatepost.config.values import quoted

_LONGEST_NAME = 64  # characters of what may be a misspelt name
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `line` counts from 1, 0 where it is the file as a whole; `setting` may be empty.

    `text` says what is wrong and, after a semicolon, what to do. It fits on one line.
    """

    file: str
    line: int
    setting: str
    text: str

    def __str__(self) -> str:
        """`gatepost.toml:12: queue.maximal_backoff_time: what is wrong; what to do`."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.setting}: {self.text}" if self.setting else f"{place}: {self.text}"


class SettingsError(Exception):
    """The settings cannot be used. `problems` are all that were found, in the order of their lines; never empty."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Complaints:
    """Gathers problems of one file and finds their lines.

    A setting is complained about once: what follows from a fault already told would only confuse.
    """

    def __init__(self, file: str, places: Places) -> None:
        self._file = file
        self._places = places
        self._problems: list[Problem] = []
        self._told: set[SettingPath] = set()
        self._above_told: set[SettingPath] = set()

    def say(self, text: str, path: SettingPath, *also: SettingPath) -> None:
        """Something is wrong with the setting at `path`, or between it and those in `also`.

        The line is that of the first of them which the file has; else that of the table they belong to.
        """
        paths = (path, *also)
        if any(map(self._is_told, paths)):
            return
        at = next((one for one in paths if self._places.has(one)), path)
        name = ".".join(_shown(part) for part in at if isinstance(part, str))
        self._problems.append(Problem(self._file, self._places.line_of(at), name, text))
        for one in paths:
            self._told.add(one)
            self._above_told.update(one[:length] for length in range(len(one)))

    def _is_told(self, path: SettingPath) -> bool:
        """Whether a fault was told at the setting, in the table or list it belongs to, or inside it."""
        return path in self._above_told or any(path[:length] in self._told for length in range(len(path) + 1))

    def line_of(self, path: SettingPath) -> int:
        """Where a setting stands, for a complaint that names it beside another."""
        return self._places.line_of(path)

    def raise_any(self) -> None:
        """Raises SettingsError where anything was said."""
        if self._problems:
            raise SettingsError(sorted(self._problems, key=lambda problem: problem.line))


def nearest(text: str, names: Iterable[str], cutoff: float = 0.6) -> tuple[str, float]:
    """The name most like a text and how like it is (0 to 1); ("", 0.0) where none reaches the cutoff. The first wins a tie."""
    best, likeness = "", 0.0
    matcher = difflib.SequenceMatcher(b=text[:_LONGEST_NAME].lower())
    for name in names:
        matcher.set_seq1(name.lower())
        if matcher.real_quick_ratio() >= cutoff and (ratio := matcher.ratio()) >= cutoff and ratio > likeness:
            best, likeness = name, ratio
    return best, likeness


def _shown(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else quoted(key)


Check: TypeAlias = Callable[[Settings, Complaints], None]
"""Looks at settings as a whole and complains. Rooms above add their own: policy knows the names of restrictions, say."""
