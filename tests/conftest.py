"""Options of the tests: how long the tests that are short in CI are to run by hand."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """See `./test --help`."""
    group = parser.getgroup("gatepost")
    group.addoption("--crash-seconds", type=float, default=20.0, help="How long the crash test kills the server (20).")
    group.addoption("--crash-seed", type=int, default=None, help="The crash test's random seed; another each time.")
    group.addoption("--recipients", type=int, default=100_000, help="RCPTs in the flood of recipients (100000).")
