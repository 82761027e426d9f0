from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatepost.config.declarations import Declaration, choices_of, declarations, entry_of, table_of
from gatepost.config.describe import reference_page, sample_file, show
from gatepost.config.load import parse_settings
from gatepost.config.settings import Bytes, ListenerSettings, Network, Role, Seconds, Settings

ROOT = Path(__file__).parents[2]
HOME = Path("/home/mail")


def parse(text: str) -> Settings:
    return parse_settings(text, file="gatepost.toml", home=HOME)


def _sections() -> list[tuple[str, type]]:
    tables = [(one.name, table_of(one.kind) or table_of(entry_of(one.kind))) for one in declarations(Settings)]
    return [(name, section) for name, section in tables if section is not None]


# --- the reference page -----------------------------------------------------------------------------------------------


def test_the_committed_page_is_up_to_date() -> None:
    committed = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert committed == reference_page(), "run: python -m gatepost.config.describe > docs/settings.md"


def test_the_module_prints_the_page() -> None:
    command = [sys.executable, "-W", "error", "-m", "gatepost.config.describe"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout == reference_page()


def test_the_page_names_every_setting_in_its_section() -> None:
    parts = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", reference_page(), re.MULTILINE | re.DOTALL))
    assert list(parts) == ["Top of the file", "`[[listener]]`", *(f"`[{name}]`" for name, _ in _sections()[1:])]
    for name, section in _sections():
        part = parts["`[[listener]]`" if section is ListenerSettings else f"`[{name}]`"]
        for declaration in declarations(section):
            assert f"| `{declaration.name}` |" in part
            assert declaration.sentence.replace("|", "\\|") in part
    assert "`home`" not in parts["Top of the file"]
    assert '`"may"`; submission: `"encrypt"`; submissions: `"wrapper"`; lmtp: `"none"`' in parts["`[[listener]]`"]


def test_every_row_of_the_page_has_four_cells() -> None:
    for line in reference_page().split("\n"):
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5, line


# --- the sample file --------------------------------------------------------------------------------------------------


def test_the_sample_loads_as_it_is() -> None:
    assert parse(sample_file("mail.example.test")) == Settings(hostname="mail.example.test", home=HOME)


def test_the_sample_loads_with_every_setting_in_force() -> None:
    text = re.sub(r"^#(?=\S)", "", sample_file("mail.example.test"), flags=re.MULTILINE)
    document = tomllib.loads(text)
    for declaration in declarations(Settings):
        assert declaration.given or declaration.name in document
    for name, section in _sections():
        table = document[name][0] if section is ListenerSettings else document[name]
        assert set(table) == {declaration.name for declaration in declarations(section)}
    listener = ListenerSettings(name="mx 127.0.0.1:2525", address="127.0.0.1:2525")
    assert parse(text) == Settings(hostname="mail.example.test", home=HOME, listener=[listener])


def test_the_sample_has_every_sentence() -> None:
    text = re.sub(r"\n# ", " ", sample_file("mail.example.test"))
    for section in (Settings, *(section for _, section in _sections())):
        for declaration in declarations(section):
            assert declaration.given or declaration.sentence in text


# --- the settings in force --------------------------------------------------------------------------------------------

_TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8)
_NETWORKS = st.sampled_from([IPv4Network("10.0.0.0/8"), IPv4Network("192.0.2.1"), IPv6Network("2001:db8::/32")])


def _values_of(declaration: Declaration, kind: Any) -> st.SearchStrategy[Any]:
    least, most = declaration.least or 0, declaration.most
    if choices := choices_of(kind):
        return st.sampled_from(choices)
    if (entry := entry_of(kind)) is not None:
        return st.lists(_values_of(declaration, entry), max_size=2)
    if kind is Seconds:
        return st.floats(least, most or 1e7).map(lambda value: round(value, 6)) | st.integers(int(least) + 1, 60).map(
            float
        )
    if kind is Bytes or kind is int:
        return st.integers(int(least), int(most or 1 << 31 - 1))
    return {bool: st.booleans(), str: _TEXTS, Network: _NETWORKS}[kind]


def _section(section: type, keep: set[str]) -> st.SearchStrategy[Any]:
    """Any values, but those of `keep`, whose form the cross checks prescribe, stay at their defaults."""
    chosen = [one for one in declarations(section) if one.name not in keep and not one.given]
    return st.builds(section, **{one.name: _values_of(one, one.kind) for one in chosen})


_LISTENERS = st.lists(
    _section(
        ListenerSettings,
        {"hostname", "address", "soft_error_limit", "hard_error_limit", "tls", "auth", "auth_required"},
    ),
    max_size=2,
)
_TOP = _section(
    Settings, {"hostname", "postmaster", "recipient_delimiter", "listener", *(name for name, _ in _sections())}
)
_KEEP = {"relayhost", "servers", "path", "syslog_name", "database", "minimal_backoff_time", "maximal_backoff_time"}
_KEEP |= {"initial_destination_concurrency", "destination_concurrency_limit"}
_TABLES = st.fixed_dictionaries({name: _section(section, _KEEP) for name, section in _sections()[1:]})


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(_TOP, _LISTENERS, _TABLES)
def test_what_is_shown_loads_to_the_same_settings(
    top: Settings, listeners: list[ListenerSettings], tables: dict[str, Any]
) -> None:
    complete = [
        replace(one, address=f"127.0.0.1:{port}", name=one.name or f"{one.role} 127.0.0.1:{port}")
        for port, one in enumerate(listeners, 2525)
    ]
    made = replace(top, hostname="mail.example.test", home=HOME, listener=complete, **tables)
    assert parse(show(made)) == made


def test_what_the_checks_look_at_is_shown_too() -> None:
    loaded = parse(
        """
        hostname = "mail.example.test"
        postmaster = "\\"post master\\"@example.test"
        recipient_delimiter = "-"
        [[listener]]
        address = "unix:run/a b"
        role = "lmtp"
        hostname = "lmtp.example.test"
        tls = "wrapper"
        auth = true
        soft_error_limit = 3
        hard_error_limit = 4
        [queue]
        minimal_backoff_time = 1.25
        maximal_backoff_time = "1w"
        [delivery]
        relayhost = "[2001:db8::1]:587"
        initial_destination_concurrency = 2
        destination_concurrency_limit = 2
        [dns]
        servers = ["[::1]:5353", "192.0.2.53"]
        [log]
        syslog_name = "postfix-in"
        [mailboxes]
        path = "mail/{local}@{domain}"
        """
    )
    assert loaded.postmaster == '"post master"@example.test'
    assert parse(show(loaded)) == loaded


def test_every_role_is_shown_whole() -> None:
    text = 'hostname = "mail.example.test"\n'
    for port, role in enumerate(get_args(Role), 2525):
        text += f'[[listener]]\nrole = "{role}"\naddress = "127.0.0.1:{port}"\n'
    loaded = parse(text)
    document = tomllib.loads(show(loaded))
    assert parse(show(loaded)) == loaded
    for name, section in _sections():
        for table in document[name] if isinstance(document[name], list) else [document[name]]:
            assert set(table) == {declaration.name for declaration in declarations(section)}
    assert "home" not in document
