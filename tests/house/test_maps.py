"""Each package's docstring is its map: every module in it is named, and nothing that is not there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
PACKAGES = sorted(file.parent for file in SOURCE.rglob("__init__.py"))


def docstring_of(file: Path) -> str:
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def name_of(package: Path) -> str:
    return ".".join(package.relative_to(SOURCE).parts)


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_the_map_names_every_module(package: Path) -> None:
    text = docstring_of(package / "__init__.py")
    assert text, f"{name_of(package)} has no docstring"
    modules = [file.name for file in package.glob("*.py") if file.name != "__init__.py"]
    rooms = [f"{folder.name}/" for folder in package.iterdir() if (folder / "__init__.py").exists()]
    missing = [name for name in [*modules, *rooms] if not re.search(rf"(?<![\w/]){re.escape(name)}(?![\w/])", text)]
    assert not missing, f"the docstring of {name_of(package)} does not name {', '.join(missing)}"


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_the_map_names_nothing_that_is_not_there(package: Path) -> None:
    named = re.findall(r"^ *((?:\w+\.py(?:, *)?)+)(?: |$)", docstring_of(package / "__init__.py"), re.MULTILINE)
    files = {name for line in named for name in re.findall(r"\w+\.py", line)}
    gone = sorted(name for name in files if not (package / name).exists())
    assert not gone, f"the docstring of {name_of(package)} names {', '.join(gone)}"


def test_every_module_says_what_it_is_for() -> None:
    silent = [file for file in SOURCE.rglob("*.py") if not docstring_of(file)]
    assert not silent
