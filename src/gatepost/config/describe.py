"""Settings -> what people read: the reference page, the sample file, and the settings in force.

All three are made from the declarations in settings.py and say nothing else. `python -m gatepost.config.describe` prints
the reference page, which is kept as docs/settings.md.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from gatepost.config.declarations import (
    Declaration,
    bounds_text,
    choices_of,
    declarations,
    entry_of,
    kind_name,
    table_of,
    toml_text,
    toml_value,
)
from gatepost.config.settings import ROLE_DEFAULTS, ListenerSettings, Settings

SAMPLE_ADDRESS = "127.0.0.1:2525"

_WIDTH = 100  # columns of comments in the sample file

_PAGE_TOP = """\
# Settings

`gatepost.toml` is read when Gatepost starts and when it gets SIGHUP. It is TOML. Every setting has a default except
`hostname`, and `address` in a listener. What is wrong in the file is told all at once, with file, line and what to do.

- A time is written like `"5d"`, `"4h30m"` or `"90s"` (w, d, h, m, s); a number alone is seconds.
- A size is written like `"50 MiB"` or `"64k"`; k, M, G and T count in 1024; a number alone is bytes.
- A network is written like `"192.0.2.0/24"` or `"2001:db8::/32"`.
- Paths are below the home folder, the one the file is in, unless they start with `/`.

This page is made from `src/gatepost/config/settings.py` by `python -m gatepost.config.describe`; change it there.
"""


# --- the reference page -----------------------------------------------------------------------------------------------


def reference_page() -> str:
    """docs/settings.md: a table for each section, with every setting, its kind, default and sentence."""
    parts = [_PAGE_TOP, "## Top of the file\n\nThese stand above the first table.\n", _table(Settings)]
    for declaration in declarations(Settings):
        section = _section_of(declaration)
        if section is not None:
            parts.append(f"## `{_header(declaration)}`\n\n{declaration.sentence}\n")
            if section is ListenerSettings:
                parts.append(
                    "Where the default depends on the role, the other roles' defaults follow the one of `mx`.\n"
                )
            parts.append(_table(section))
    return "\n".join(parts)


def _table(section: type) -> str:
    rows = ["| setting | kind | default | meaning |", "|---|---|---|---|"]
    for declaration in declarations(section):
        if not declaration.given and _section_of(declaration) is None:
            cells = (
                f"`{declaration.name}`",
                _kind_cell(declaration),
                _default_cell(declaration, section),
                declaration.sentence,
            )
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _kind_cell(declaration: Declaration) -> str:
    if choices := choices_of(declaration.kind):
        return ", ".join(f'`"{choice}"`' for choice in choices)
    bounds = bounds_text(declaration)
    name = kind_name(declaration.kind).removeprefix("a ")
    return f"{name}, {bounds}" if bounds else name


def _default_cell(declaration: Declaration, section: type) -> str:
    if (section, declaration.name) in _WITHOUT_DEFAULT:
        return "must be set"
    texts = [f"`{toml_value(declaration.kind, declaration.default)}`"]
    texts += [f"{role}: `{text}`" for role, text in _role_defaults(declaration, section)]
    return "; ".join(texts)


_WITHOUT_DEFAULT = {(Settings, "hostname"), (ListenerSettings, "address")}


# --- the sample file --------------------------------------------------------------------------------------------------


def sample_file(hostname: str) -> str:
    """A gatepost.toml that sets `hostname` and shows all else commented out, each setting with its sentence.

    A `#` directly before a name comments out a setting; taken away, the setting is in force with the default shown, which
    is that of role mx for listeners.
    """
    lines = ["# The settings of this Gatepost. What is commented out has its default.", ""]
    for declaration in declarations(Settings):
        if declaration.given or _section_of(declaration) is not None:
            continue
        if declaration.name == "hostname":
            lines += [*_comment(declaration.sentence), f"hostname = {toml_text(hostname)}", ""]
        else:
            lines += _sample_of(declaration, declaration.default, Settings)
    for declaration in declarations(Settings):
        section = _section_of(declaration)
        if section is None:
            continue
        # [[listener]] alone would be one listener more; an empty [table] changes nothing.
        off = "#" if section is ListenerSettings else ""
        lines += ["", *_comment(declaration.sentence), f"{off}{_header(declaration)}", ""]
        for inner in declarations(section):
            is_address = section is ListenerSettings and inner.name == "address"
            lines += _sample_of(inner, SAMPLE_ADDRESS if is_address else inner.default, section)
    return "\n".join(lines).rstrip() + "\n"


def _sample_of(declaration: Declaration, value: Any, section: type) -> list[str]:
    others = [f"{role}: {text}" for role, text in _role_defaults(declaration, section)]
    return [
        *_comment(declaration.sentence),
        *_comment("; ".join(others)),
        f"#{declaration.name} = {toml_value(declaration.kind, value)}",
        "",
    ]


def _role_defaults(declaration: Declaration, section: type) -> Iterator[tuple[str, str]]:
    """The roles whose default is another than the declared one, and that default."""
    if section is ListenerSettings:
        for role, defaults in ROLE_DEFAULTS.items():
            if declaration.name in defaults:
                yield role, toml_value(declaration.kind, defaults[declaration.name])


def _comment(sentence: str) -> list[str]:
    return textwrap.wrap(
        sentence, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )


# --- the settings in force --------------------------------------------------------------------------------------------


def show(settings: Settings) -> str:
    """The settings as TOML, nothing left out. What the loader gave loads to equal Settings again, in the same home."""
    lines = [f"# home: {toml_text(str(settings.home))[1:-1]}", *_assignments(settings)]
    for declaration in declarations(Settings):
        if _section_of(declaration) is None:
            continue
        value = getattr(settings, declaration.name)
        for section in value if isinstance(value, list) else [value]:
            lines += ["", _header(declaration), *_assignments(section)]
    return "\n".join(lines) + "\n"


def _assignments(section: object) -> Iterator[str]:
    kind: type = type(section)
    for declaration in declarations(kind):
        if not declaration.given and _section_of(declaration) is None:
            yield f"{declaration.name} = {toml_value(declaration.kind, getattr(section, declaration.name))}"


# --- shared by the three ----------------------------------------------------------------------------------------------


def _section_of(declaration: Declaration) -> type | None:
    """The settings class of a [table] or of the entries of [[tables]]; None for a plain setting."""
    return table_of(declaration.kind) or table_of(entry_of(declaration.kind))


def _header(declaration: Declaration) -> str:
    return f"[{declaration.name}]" if entry_of(declaration.kind) is None else f"[[{declaration.name}]]"


if __name__ == "__main__":
    print(reference_page(), end="")
