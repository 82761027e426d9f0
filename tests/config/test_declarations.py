from __future__ import annotations

import tomllib
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.config.declarations import Declaration, declarations, entry_of, kind_name, read_value, table_of, toml_text
from gatepost.config.settings import ROLE_DEFAULTS, ListenerSettings, Settings
from gatepost.config.values import WrongValue

SECTIONS = [
    Settings,
    ListenerSettings,
    *(section for declaration in declarations(Settings) if (section := table_of(declaration.kind))),
]


def _plain(section: type) -> list[Declaration]:
    nested = (table_of(one.kind) or table_of(entry_of(one.kind)) for one in declarations(section))
    return [one for one, inner in zip(declarations(section), nested, strict=True) if not inner and not one.given]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_has_a_sentence(section: type) -> None:
    assert {declaration.name for declaration in declarations(section)} == {field.name for field in fields(section)}
    for declaration in declarations(section):
        assert declaration.sentence.endswith("."), declaration
        assert declaration.sentence[:1].isupper() or declaration.sentence.startswith("none,"), declaration
        assert declaration.sentence.isprintable()


@pytest.mark.parametrize("section", SECTIONS)
def test_every_default_is_a_value_that_the_file_may_hold(section: type) -> None:
    for declaration in _plain(section):
        assert kind_name(declaration.kind)
        entry = entry_of(declaration.kind)
        if entry is None:
            assert read_value(declaration, declaration.kind, declaration.default) == declaration.default
        else:
            assert all(read_value(declaration, entry, str(one)) == one for one in declaration.default)


def test_the_defaults_of_roles_are_defaults_of_settings() -> None:
    known = {declaration.name: declaration for declaration in declarations(ListenerSettings)}
    for defaults in ROLE_DEFAULTS.values():
        for name, value in defaults.items():
            entry = entry_of(known[name].kind)
            assert (isinstance(value, list) and entry) or read_value(known[name], known[name].kind, value) == value


_TOML = st.recursive(
    st.integers() | st.floats() | st.booleans() | st.text() | st.dates() | st.times() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
)


@given(_TOML)
def test_any_value_is_read_or_refused(raw: object) -> None:
    for section in SECTIONS:
        for declaration in _plain(section):
            kind = entry_of(declaration.kind) or declaration.kind
            try:
                read_value(declaration, kind, raw)
            except WrongValue as problem:
                assert str(problem).isprintable()


@given(st.text())
def test_tomllib_reads_the_text_we_write(text: str) -> None:
    assert tomllib.loads(f"a = {toml_text(text)}")["a"] == text
