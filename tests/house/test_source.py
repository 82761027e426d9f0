"""What no linter looks for: short files, names that say something, nothing left undone, nothing printed in passing."""

from __future__ import annotations

import ast
import re
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "gatepost"
FILES = sorted(SOURCE.rglob("*.py"))

MOST_LINES = 450
NOTHING_SAYING = {
    "util",
    "utils",
    "helper",
    "helpers",
    "common",
    "manager",
    "managers",
    "misc",
    "base",
    "core",
    "data",
    "info",
}
PRINTERS = {"config/describe.py", "service/master.py"}
"""Beside cli/: a page made by a program, and trouble that cannot go to the log because it is the log's."""


def path_of(file: Path) -> str:
    return file.relative_to(SOURCE).as_posix()


def test_files_are_short() -> None:
    long = {path_of(file): len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    long = {name: lines for name, lines in long.items() if lines > MOST_LINES}
    assert not long, f"more than {MOST_LINES} lines: {long}; there are two things in them"


def test_modules_are_named_for_what_they_hold() -> None:
    nothing = [path_of(file) for file in FILES if NOTHING_SAYING & {file.stem, file.parent.name}]
    assert not nothing, f"{nothing}: an orphan function shows a missing noun"


def test_nothing_is_left_to_be_done() -> None:
    left = [path_of(file) for file in FILES if re.search(r"\b(TODO|FIXME|XXX)\b", file.read_text(encoding="utf-8"))]
    assert not left


def test_only_faces_print() -> None:
    printing = set()
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                printing.add(path_of(file))
    printing = {name for name in printing if not name.startswith("cli/")} - PRINTERS
    assert not printing, f"{sorted(printing)}: tell an event instead"
