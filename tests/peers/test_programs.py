"""What is there is found; what is not skips the test and names the package."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from peers import programs
from peers.ports import free_port


def test_a_program_is_found_in_the_folders_of_root_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "swaks"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setattr(programs, "_SEARCH", str(tmp_path))
    assert programs.require("swaks") == str(tool)


def test_a_missing_program_skips_and_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(programs, "_SEARCH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match=r"smtp-source is not installed; .* package postfix"):
        programs.require("smtp-source")


def test_root_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(pytest.skip.Exception, match="needs root: to bind port 25"):
        programs.require_root("to bind port 25")


def test_a_free_port_can_be_bound_and_is_given_once() -> None:
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", ports[0]))
