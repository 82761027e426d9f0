"""The declarations in settings.py as data, and a TOML value of each declared type read and written.

A declared type ("kind") is one of: str, bool, int, float, Seconds, Bytes, Network, a Literal of texts, a list of one of
these, another settings class (a table), or a list of settings classes (an array of tables). A setting of any other kind
fails when the tests read the declarations, not when an operator reads the file.

`read_value` is total: any value tomllib can give becomes a value of the kind or WrongValue. `toml_value` gives TOML that
reads back to the same value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from gatepost.config.problems import nearest
from gatepost.config.settings import Bytes, Network, Seconds
from gatepost.config.values import (
    WrongValue,
    check_duration,
    check_size,
    format_duration,
    format_network,
    format_size,
    parse_duration,
    parse_network,
    parse_size,
    quoted,
)

LARGEST_NUMBER = (1 << 31) - 1  # of settings that are neither a time nor a size

_NAMES: Mapping[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Seconds: "a time",
    Bytes: "a size",
    Network: "a network",
}
_ADVICE: Mapping[Any, str] = {
    str: "put it in double quotes",
    bool: "write true or false, without quotes",
    int: "write it in digits, without quotes",
    float: "write it in digits, without quotes",
    Seconds: 'write it like "5d", "4h30m", or a number of seconds',
    Bytes: 'write it like "50 MiB", or a whole number of bytes',
    Network: 'write it like "192.0.2.0/24"',
}


@dataclass(frozen=True, slots=True)
class Declaration:
    """One setting: `least` and `most` are included; a `given` one comes from outside and cannot stand in the file."""

    name: str
    kind: Any
    default: Any
    sentence: str
    least: float | None
    most: float | None
    given: bool


@lru_cache(maxsize=64)
def declarations(section: type) -> tuple[Declaration, ...]:
    """All settings of a settings class, in the order they are declared."""
    kinds = get_type_hints(section)
    found = []
    for field in fields(section):
        metadata: Mapping[str, Any] = field.metadata
        default = field.default if field.default_factory is MISSING else field.default_factory()
        found.append(
            Declaration(
                name=field.name,
                kind=kinds[field.name],
                default=default,
                sentence=metadata.get("sentence") or _purpose(table_of(kinds[field.name])),
                least=metadata.get("least"),
                most=metadata.get("most"),
                given=metadata.get("given", False),
            )
        )
    return tuple(found)


def _purpose(section: type | None) -> str:
    return (section.__doc__ or "").partition("\n")[0] if section else ""


def table_of(kind: Any) -> type | None:
    """The settings class, where the kind is a table."""
    return kind if isinstance(kind, type) and is_dataclass(kind) else None


def entry_of(kind: Any) -> Any:
    """What a list holds; None where the kind is no list."""
    return get_args(kind)[0] if get_origin(kind) is list else None


def choices_of(kind: Any) -> tuple[str, ...]:
    """The texts a Literal allows; none for another kind."""
    return get_args(kind) if get_origin(kind) is Literal else ()


def kind_name(kind: Any) -> str:
    """The kind for people: "a time", "a list of networks"."""
    if choices := choices_of(kind):
        return "one of " + ", ".join(f'"{choice}"' for choice in choices)
    if (entry := entry_of(kind)) is not None:
        return "a list of networks" if entry == Network else "a list of text"
    return _NAMES[kind]


def bounds_text(declaration: Declaration) -> str:
    """ "1 KiB to 1 GiB", "at least 1s", or nothing."""
    least, most = declaration.least, declaration.most
    if least is not None and most is not None:
        return f"{_readable(declaration.kind, least)} to {_readable(declaration.kind, most)}"
    if least:
        return f"at least {_readable(declaration.kind, least)}"
    return "" if most is None else f"at most {_readable(declaration.kind, most)}"


def read_value(declaration: Declaration, kind: Any, raw: object) -> Any:
    """What tomllib read, as a value of `kind` (the declaration's own, or that of its list's entries). Raises WrongValue."""
    if choices := choices_of(kind):
        return _read_choice(choices, raw)
    if kind is bool and isinstance(raw, bool):
        return raw
    if kind is str and isinstance(raw, str):
        return _read_text(raw)
    if kind == Network and isinstance(raw, str):
        return parse_network(raw)
    number = _read_number(kind, raw)
    if number is None:
        raise WrongValue(wrong_type(kind, raw))
    if declaration.least is not None and number < declaration.least:
        raise WrongValue(
            f"must be at least {_readable(kind, declaration.least)}, not {_readable(kind, number)}; raise it"
        )
    if declaration.most is not None and number > declaration.most:
        raise WrongValue(
            f"must be at most {_readable(kind, declaration.most)}, not {_readable(kind, number)}; lower it"
        )
    return number


def _read_choice(choices: tuple[str, ...], raw: object) -> str:
    if isinstance(raw, str) and raw in choices:
        return raw
    wanted = ", ".join(f'"{choice}"' for choice in choices)
    if not isinstance(raw, str):
        raise WrongValue(f"must be one of {wanted}, not {_toml_type(raw)}; write one of these")
    meant, _ = nearest(raw, choices)
    advice = f'did you mean "{meant}"?' if meant else "write one of these"
    raise WrongValue(f"must be one of {wanted}, not {quoted(raw)}; {advice}")


def _read_text(raw: str) -> str:
    # No setting has a use for them, and a line break would forge lines in the log.
    if not all(character.isprintable() for character in raw):
        raise WrongValue(f"{quoted(raw)} holds a control character or a line break; write it without")
    return raw


def _read_number(kind: Any, raw: object) -> float | None:
    """A number of the kind, not yet held against its own bounds; None where the raw value is of another type."""
    if isinstance(raw, str):
        if kind is Seconds:
            return parse_duration(raw)
        return parse_size(raw) if kind is Bytes else None
    if isinstance(raw, bool) or not isinstance(raw, (int, float)):
        return None
    if kind is Seconds:
        return check_duration(raw)
    if kind is Bytes and isinstance(raw, int):
        return check_size(raw)
    if kind is float or (kind is int and isinstance(raw, int)):
        if not abs(raw) <= LARGEST_NUMBER:  # also catches "nan"
            raise WrongValue(f"is a number nothing here can have; write one of at most {LARGEST_NUMBER}")
        return float(raw) if kind is float else raw
    return None


def _advice(kind: Any) -> str:
    if entry_of(kind) is not None:
        return 'write it in square brackets, like ["one", "two"]'
    return _ADVICE[kind]


def wrong_type(kind: Any, raw: object) -> str:
    """What to tell where a list, or an entry of one, has another type."""
    return f"must be {kind_name(kind)}, not {_toml_type(raw)}; {_advice(kind)}"


def _toml_type(raw: object) -> str:
    if isinstance(raw, str):
        return f"the text {quoted(raw)}"
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, (int, float)):
        return f"the number {raw}" if abs(raw) <= LARGEST_NUMBER else "a very large number"
    if isinstance(raw, list):
        return "a list"
    return "a table" if isinstance(raw, dict) else "a date or time"


def _readable(kind: Any, number: float) -> str:
    if kind is Seconds:
        return format_duration(number)
    return format_size(int(number)) if kind is Bytes else f"{number}"


def toml_value(kind: Any, value: Any) -> str:
    """A value as the file best says it: TOML, with times and sizes in units."""
    if (entry := entry_of(kind)) is not None:
        return "[" + ", ".join(toml_value(entry, one) for one in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if kind is Seconds:
        return toml_text(format_duration(value))
    if kind is Bytes:
        return toml_text(format_size(value))
    if kind == Network:
        return toml_text(format_network(value))
    return toml_text(value) if isinstance(value, str) else repr(value)


def toml_text(text: str) -> str:
    """A TOML basic string. Raises UnicodeEncodeError for text that is no Unicode, which no loaded setting holds."""
    text.encode()
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
