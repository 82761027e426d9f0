"""pyproject.toml, what is wanted and what is locked say the same; the lock files hold versions and hashes, and no addresses."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("run", "test")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^ ;]+)", re.MULTILINE)


def names(requirements: list[str]) -> set[str]:
    found = (_NAME.match(line) for line in requirements)
    return {normal(name[0]) for name in found if name is not None}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def text_of(name: str) -> str:
    return (ROOT / "requirements" / name).read_text(encoding="utf-8")


def pyproject() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def locked(name: str) -> dict[str, str]:
    return {normal(found[0]): found[1] for found in _PINNED.findall(text_of(f"{name}.lock"))}


def wanted(name: str) -> set[str]:
    return names([line for line in text_of(f"{name}.in").splitlines() if not line.startswith(("-r", "#"))])


def test_what_gatepost_needs_is_wanted_and_locked() -> None:
    project = pyproject()["project"]
    assert isinstance(project, dict)
    needed = names(project["dependencies"])
    assert needed and needed <= wanted("run") <= set(locked("run"))
    assert wanted("run") - needed == {"flit-core"}, "besides what runs, only what builds"


def test_what_the_tests_need_is_wanted_and_locked() -> None:
    groups = pyproject()["dependency-groups"]
    assert isinstance(groups, dict)
    assert names(groups["test"]) == wanted("test") <= set(locked("test"))


def test_tests_run_with_what_gatepost_runs_with() -> None:
    assert locked("run").items() <= locked("test").items()


@pytest.mark.parametrize("name", LOCKS)
def test_everything_locked_has_hashes(name: str) -> None:
    text = text_of(f"{name}.lock")
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text)
    for block in blocks:
        if _PINNED.match(block):
            assert "--hash=sha256:" in block, block.splitlines()[0]
    assert len(locked(name)) > 10


@pytest.mark.parametrize("name", [f"{lock}.{kind}" for lock in LOCKS for kind in ("in", "lock")])
def test_no_file_holds_an_address(name: str) -> None:
    text = text_of(name)
    assert "http" not in text and "://" not in text and "file:" not in text
    assert "--index-url" not in text and "--find-links" not in text
