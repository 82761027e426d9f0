"""docs/rfcs.md has a line for every RFC, and for every section, that the source says it obeys."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "rfcs.md"

_SECTION = r"(?:§ ?[0-9]+(?:\.[0-9]+)*|appendix [A-Z](?:\.[0-9]+)*)"
_CITED = re.compile(rf"RFC ([0-9]{{3,5}})(?:'s)?((?: {_SECTION}(?:, {_SECTION})*)?)")
_ROW = re.compile(r"^\| ([0-9]{3,5}) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$")


def rows() -> list[tuple[str, set[str], str, str]]:
    """(RFC, its sections, obeyed, how) of each line of the tables."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        row = _ROW.match(line)
        if row is not None:
            found.append((row[1], set(row[2].split(", ")), row[3], row[4]))
    return found


def cited() -> dict[tuple[str, str], str]:
    """(RFC, section or "all") -> a file that names it."""
    found: dict[tuple[str, str], str] = {}
    for file in sorted((ROOT / "src").rglob("*.py")):
        text = re.sub(r"\s*\n\s*#?\s*", " ", file.read_text(encoding="utf-8"))  # a citation may go on in the next line
        for number, sections in _CITED.findall(text):
            for section in sections.strip().split(", ") if sections else ["all"]:
                found.setdefault((number, section), str(file.relative_to(ROOT)))
    return found


def test_the_source_cites_in_the_form_that_is_looked_for() -> None:
    assert len(cited()) > 100
    assert ("5321", "§4.1.1.3") in cited()


def test_every_rfc_cited_in_the_source_has_a_line() -> None:
    known = {number for number, *_ in rows()}
    missing = {number: file for (number, _), file in cited().items() if number not in known}
    assert not missing, f"docs/rfcs.md says nothing of {missing}"


def test_every_section_cited_in_the_source_has_a_line() -> None:
    known = {(number, section) for number, sections, *_ in rows() for section in sections}
    missing = {key: file for key, file in cited().items() if key[1] != "all" and key not in known}
    assert not missing, f"docs/rfcs.md says nothing of {missing}"


def test_lines_say_yes_partly_or_no_and_stand_once() -> None:
    seen: set[tuple[str, str]] = set()
    for number, sections, obeyed, how in rows():
        assert obeyed in ("yes", "partly", "no"), f"RFC {number} {sections}: {obeyed!r}"
        assert how.strip().endswith("."), f"RFC {number} {sections} needs a sentence"
        for section in sections:
            assert section == "all" or re.fullmatch(_SECTION, section), f"RFC {number}: {section!r} is no section"
            assert (number, section) not in seen, f"RFC {number} {section} stands twice"
            seen.add((number, section))


def test_every_line_of_the_tables_can_be_read() -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    headings = [line for line in lines if line.startswith("| RFC |")]
    assert len(lines) == len(rows()) + len(headings)
