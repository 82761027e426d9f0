"""Steps: what led to a decision, noted by the code that decides, at the cost of a tuple each; turned into sentences only when
somebody asks (`gatepost explain`)."""

from __future__ import annotations


class Steps:
    """Notes in order. `note` takes a template for str.format and its values; nothing is formatted until `lines`."""

    __slots__ = ("_notes",)

    def __init__(self) -> None:
        self._notes: list[tuple[str, tuple[object, ...]]] = []

    def note(self, template: str, *values: object) -> None:
        """One step more."""
        self._notes.append((template, values))

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._notes)

    def lines(self) -> list[str]:
        """The steps as sentences."""
        return [template.format(*values) for template, values in self._notes]
