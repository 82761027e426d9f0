from __future__ import annotations

import tomllib
from collections.abc import Iterator

from hypothesis import example, given
from hypothesis import strategies as st

from gatepost.config.locate import SettingPath, locate

DOCUMENT = '''\
# a comment = with an equals sign
hostname = "mail.example.test" # another = [one]
"quoted key" = 1
'literal # key' = 2
"esc\\u0061ped" = 3

[queue]
lifetime . "most" = "5d"
text = """
[log]
fake = 1 \\"""
"""
raw = \'\'\'
[dns]
it''s\'\'\'\'\'

[[listener]]
role = "mx"
mynetworks = [
  "10.0.0.0/8", # ] not the end
  [1,
   2],
  { a = 1, b.c = "}" },

  "::1/128" ]
when = 1979-05-27 07:32:00

[listener.deep]
x = 1
[[listener]]
role = "lmtp"
[[listener.more]]
y = 1
[[listener.more]]
y = 2

[log]
file = ""
inline = { a = [
  1,
  2 ] }
entries = [ { name = "one" },
  { name = "two" } ]
'''


def test_every_kind_of_place() -> None:
    tomllib.loads(DOCUMENT)
    places = locate(DOCUMENT)
    lines: dict[SettingPath, int] = {
        ("hostname",): 2,
        ("quoted key",): 3,
        ("literal # key",): 4,
        ("escaped",): 5,
        ("queue",): 7,
        ("queue", "lifetime"): 8,
        ("queue", "lifetime", "most"): 8,
        ("queue", "text"): 9,
        ("queue", "raw"): 13,
        ("listener",): 17,
        ("listener", 0): 17,
        ("listener", 0, "role"): 18,
        ("listener", 0, "mynetworks"): 19,
        ("listener", 0, "mynetworks", 0): 20,
        ("listener", 0, "mynetworks", 1): 21,
        ("listener", 0, "mynetworks", 1, 1): 22,
        ("listener", 0, "mynetworks", 2, "b", "c"): 23,
        ("listener", 0, "mynetworks", 3): 25,
        ("listener", 0, "when"): 26,
        ("listener", 0, "deep"): 28,
        ("listener", 0, "deep", "x"): 29,
        ("listener", 1): 30,
        ("listener", 1, "role"): 31,
        ("listener", 1, "more", 0): 32,
        ("listener", 1, "more", 0, "y"): 33,
        ("listener", 1, "more", 1): 34,
        ("listener", 1, "more", 1, "y"): 35,
        ("log",): 37,
        ("log", "file"): 38,
        ("log", "inline", "a", 1): 41,
        ("log", "entries", 1, "name"): 43,
    }
    for path, line in lines.items():
        assert (path, places.line_of(path), places.has(path)) == (path, line, True)


def test_what_the_text_does_not_have_gets_the_line_of_what_it_belongs_to() -> None:
    places = locate(DOCUMENT)
    assert places.line_of(("listener", 1, "address")) == 30
    assert places.line_of(("queue", "bounce")) == 7
    assert places.line_of(("passwords", "x")) == 1
    assert places.line_of(()) == 1
    assert not places.has(("queue", "bounce"))


def test_a_table_below_does_not_hide_the_header() -> None:
    assert locate("[a.b]\nx = 1\n[a]\ny = 1\n").line_of(("a",)) == 3


def test_windows_line_ends() -> None:
    places = locate('a = 1\r\n[t]\r\nb = [\r\n "x",\r\n "y"]\r\n')
    assert places.line_of(("t", "b", 1)) == 5


def test_a_text_that_is_no_toml_keeps_what_came_before() -> None:
    places = locate("a = 1\nb = [1, 2\nc == 3\n")
    assert places.line_of(("a",)) == 1
    assert places.line_of(("b", 1)) == 2


def test_large_values_and_deep_nesting_do_no_harm() -> None:
    long = "x" * 500_000
    assert locate(f'a = """{long}\n"""\nb = 1').line_of(("b",)) == 3
    assert locate(f"a = '''{long}\n'''\nb = 1").line_of(("b",)) == 3
    assert locate(f'a = "{long}"\nb = 1').line_of(("b",)) == 2
    assert locate("a = " + "[" * 100_000).line_of(("a",)) == 1
    assert locate("a." * 100_000 + "b = 1").line_of(("a",)) == 1


def _leaves(value: object, path: SettingPath = ()) -> Iterator[SettingPath]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield (*path, number)
            yield from _leaves(inner, (*path, number))


_KEYS = st.sampled_from(["a", "b", "c", '"a"', "'d'", '"e\\n"', "a.b", "a . c", "b.'x.y'", "1"])
_VALUES = st.recursive(
    st.sampled_from(
        [
            *["1", "-2.5e3", "true", "inf", "1979-05-27T07:32:00Z", "1979-05-27 07:32:00", "07:32:00"],
            *['"x"', '"[\\"#"', "'\\'", '""'],
            *['"""\n[a]\n"b"\\""""', '"""a""\\n"""""', "''''a''''", "''''''", '""""""', '"""\\\n  x"""', "'''\n\n]'''"],
        ]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda values: "[\n" + ", # ]\n".join(values) + " ]"),
        st.lists(st.tuples(_KEYS, inner), max_size=2).map(
            lambda pairs: "{ " + ", ".join(f"{key} = {value}" for key, value in pairs) + " }"
        ),
    ),
    max_leaves=6,
)
_LINES = st.one_of(
    _KEYS.map(lambda key: f"[{key}]"),
    _KEYS.map(lambda key: f"[[ {key} ]] # new"),
    st.tuples(_KEYS, _VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    st.sampled_from(["", "  # comment = [", "\t"]),
)


@given(st.lists(_LINES, max_size=8).map("\n".join))
@example('a = """x""\\""""\nb = 1')
def test_whatever_tomllib_finds_has_a_line(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    places = locate(text)
    for path in _leaves(document):
        assert places.has(path), (path, text)
        key = path[-1]
        if isinstance(key, str) and key.isalnum():
            # The line is not just any line: the key stands there, or its array of tables begins there.
            assert key in text.split("\n")[places.line_of(path) - 1], (path, text)


@given(st.text() | st.text("ab=[]{}\"'\\#., \n\r", max_size=40))
def test_any_text_has_lines(text: str) -> None:
    places = locate(text)
    assert 1 <= places.line_of(("a", 0, "b")) <= text.count("\n") + 1
