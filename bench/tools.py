"""The programs the bench needs, looked for where Debian has them."""

from __future__ import annotations

import os
import shutil

from bench.contender import BenchError

_SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
_PACKAGES = {"setpriv": "util-linux"}


def program(name: str) -> str:
    """The path of a program. Raises BenchError with the Debian package that has it."""
    found = shutil.which(name, path=_SEARCH)
    if found is None:
        raise BenchError(f"{name} is not installed; it is in Debian's package {_PACKAGES.get(name, 'postfix')}")
    return found
