"""Options of the tests: how long the tests that are short in CI are to run by hand."""

from __future__ import annotations

import pytest
from hypothesis import settings

# A machine with other work to do makes no test wrong; what must be quick measures its own processor time.
settings.register_profile("gatepost", deadline=None)
settings.load_profile("gatepost")


def pytest_addoption(parser: pytest.Parser) -> None:
    """See `./test --help`."""
    group = parser.getgroup("gatepost")
    group.addoption("--crash-seconds", type=float, default=20.0, help="How long the crash test kills the server (20).")
    group.addoption("--crash-seed", type=int, default=None, help="The crash test's random seed; another each time.")
    group.addoption("--recipients", type=int, default=100_000, help="RCPTs in the flood of recipients (100000).")
