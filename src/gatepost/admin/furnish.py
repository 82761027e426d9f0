"""Furnish a home folder: settings, database, own CA and certificate, and a first account. What is there already is left alone,
so it can be run again after it was cut short."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gatepost.admin.residents import Residents, generate_password, password_hasher
from gatepost.config.load import load_settings
from gatepost.config.settings import Settings
from gatepost.directory.edits import DirectoryEdits
from gatepost.mail.address import parse_domain
from gatepost.net.own_ca import OwnCa
from gatepost.service.home import Home

DEMO_DOMAIN = "demo.test"
DEMO_PORTS = {"mx": 2525, "submission": 2587, "submissions": 2465}
REAL_PORTS = {"mx": 25, "submission": 587, "submissions": 465}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the new home is for."""

    domain: str
    hostname: str
    user: str = ""  # who workers run as, and who owns the home, when root furnishes it
    demo: bool = False  # loopback and unprivileged ports


def settings_text(plan: Plan) -> str:
    """A short gatepost.toml: what differs from the defaults, and nothing else."""
    addresses = ["127.0.0.1"] if plan.demo else ["0.0.0.0", "[::]"]
    ports = DEMO_PORTS if plan.demo else REAL_PORTS
    lines = [
        "# Gatepost's settings. All there is to set: `gatepost config sample`, or docs/settings.md.",
        "# After a change: `gatepost config check`, then `gatepost reload`.",
        "",
        f'hostname = "{plan.hostname}"',
        f'postmaster = "postmaster@{plan.domain}"',
    ]
    lines += [f'user = "{plan.user}"'] if plan.user else []
    for role, port in ports.items():
        for address in addresses:
            lines += ["", "[[listener]]", f'role = "{role}"', f'address = "{address}:{port}"']
    return "\n".join(lines) + "\n"


def furnish(home: Home, plan: Plan) -> Iterator[str]:
    """Make what is missing; yields a line for each thing made.

    Raises OSError, SettingsError, StorageError, CaError, DirectoryError.
    """
    parse_domain(plan.domain)
    home.path.mkdir(mode=0o750, parents=True, exist_ok=True)
    _hand_over(home.path, plan.user)
    if not home.settings_file.exists():
        home.settings_file.write_text(settings_text(plan))
        yield f"settings: {home.settings_file}"
    settings = load_settings(home.settings_file)
    home.prepare(settings)
    yield from _certify(home, settings)
    yield from _people(home, settings, plan)


def _certify(home: Home, settings: Settings) -> Iterator[str]:
    ca = OwnCa(home.path / "tls" / "ca")
    if not ca.exists:
        facts = ca.create(f"Gatepost CA of {settings.hostname}")
        yield f"own CA: {facts.path}"
    if settings.hostname not in ca.hosts():
        names = [settings.hostname, "localhost"] if settings.hostname.endswith(".test") else [settings.hostname]
        facts = ca.issue(names)
        yield f"certificate for {', '.join(names)}: {facts.path}"


def _people(home: Home, settings: Settings, plan: Plan) -> Iterator[str]:
    """The domain; and an account that gets the postmaster's mail."""
    path = home.directory(settings)
    first = f"alice@{plan.domain}" if plan.demo else f"admin@{plan.domain}"
    with DirectoryEdits(path, recipient_delimiter=settings.recipient_delimiter) as edits:
        if edits.domains():
            return
        residents = Residents(edits, password_hasher(settings.passwords))
        yield residents.add_domain(plan.domain).text
        password = generate_password()
        yield residents.add_account(first, password).text
        secret = home.path / "first-password"
        _write_secret(secret, password)
        yield f"its password: {secret} (remove the file once you have it)"
        for name in ("postmaster", "abuse"):
            yield residents.add_forward(f"{name}@{plan.domain}", [first]).text
        if plan.demo:
            yield residents.add_forward(f"hello@{plan.domain}", [first]).text


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{text}\n")


def demo_user(home: Path) -> str:
    """Who a demo that root starts runs as: nobody, if nobody can reach this program and the home; else root.

    Only a demo may run as root, because it listens on loopback alone (service.privileges).
    """
    if os.geteuid() != 0:
        return ""
    nobody = pwd.getpwnam("nobody")
    program = [sys.executable, "-c", "import os, sys, gatepost.service.worker; os.stat(sys.argv[1])", str(home.parent)]
    try:
        subprocess.run(program, user=nobody.pw_uid, group=nobody.pw_gid, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "root"
    return "nobody"


def _hand_over(path: Path, user: str) -> None:
    """The home belongs to who workers run as; what is made in it from here on is made as them."""
    if os.geteuid() != 0 or not user:
        return
    account = pwd.getpwnam(user)
    os.chown(path, account.pw_uid, account.pw_gid)
    os.setgroups([account.pw_gid])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
