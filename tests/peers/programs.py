"""Programs from Debian's packages."""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {
    "argon2": "argon2",
    "curl": "curl",
    "doveadm": "dovecot-core",
    "dovecot": "dovecot-core",
    "exim4": "exim4-daemon-light",
    "openssl": "openssl",
    "pflogsumm": "pflogsumm",
    "postconf": "postfix",
    "postfix": "postfix",
    "postlog": "postfix",
    "postmap": "postfix",
    "postqueue": "postfix",
    "saslauthd": "sasl2-bin",
    "sendmail": "postfix",
    "smtp-sink": "postfix",
    "smtp-source": "postfix",
    "swaks": "swaks",
    "testsaslauthd": "sasl2-bin",
}
"""Program -> the Debian package that has it."""

_SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def require(program: str) -> str:
    """The path of `program`, or the test is skipped with the package to install."""
    found = shutil.which(program, path=_SEARCH)
    if found is None:
        pytest.skip(f"{program} is not installed; it is in the Debian package {PACKAGES.get(program, program)}")
    return found


def require_root(why: str) -> None:
    """Skip the test unless it is run by root."""
    if os.geteuid() != 0:
        pytest.skip(f"this needs root: {why}")
