"""Where forwards lead, seen from the tables alone, so that a loop is found and named before it is stored.

An address goes where its own forward leads; else, if it is an account's, no further; else `user+tag` goes where `user`
does; else where the catch-all of its domain leads. Forwards that are switched off count as if they were on, so that
switching one on makes no loop. `routing` has limits of its own: loops through other hosts are not seen here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence

_TARGETS = """
    SELECT forward_target.key FROM forward
    JOIN forward_target ON forward_target.forward_id = forward.id
    WHERE forward.key = :key ORDER BY forward_target.position"""
_ACCOUNT = "SELECT 1 FROM account WHERE key = :key"
_SOURCE = "SELECT 1 FROM forward WHERE key = :key"
_CATCH_ALLS_TO = """
    SELECT forward.key FROM forward JOIN forward_target ON forward_target.forward_id = forward.id
    WHERE forward_target.key = :key AND forward.local = ''"""
_TARGETS_IN = """
    SELECT DISTINCT key FROM forward_target
    WHERE substr(key, length(key) - length(:domain) + 1) = :domain AND key <> :domain"""


class Chains:
    """Follows forwards in the tables behind one connection. Keys are `user@domain`, or `@domain` for anybody there."""

    def __init__(self, connection: sqlite3.Connection, delimiter: str) -> None:
        self._connection = connection
        self._delimiter = delimiter

    def loop_through(self, source: str) -> list[str]:
        """A loop that mail for `source` would run into, as keys, the first one again at the end; [] if there is none."""
        starts = [source] if not source.startswith("@") else self._starts(source)
        seen: set[str] = set()
        for start in starts:
            loop = find_loop(start, self._next, seen)
            if loop:
                return loop
        return []

    def leads_nowhere(self, key: str) -> bool:
        """Whether an address of one of our domains has neither account nor forward, tag and catch-all considered."""
        return not self._is_account(key) and not self._next(key)

    def _next(self, key: str) -> list[str]:
        local, _, domain = key.rpartition("@")
        targets = self._targets(key)
        if not targets and local:
            if self._is_account(key):
                return []
            base = local.partition(self._delimiter)[0] if self._delimiter else local
            if base and base != local and self._exists(f"{base}@{domain}"):
                return [f"{base}@{domain}"]
            targets = self._targets(f"@{domain}")
        return [f"{local}{target}" if target.startswith("@") else target for target in targets]

    def _starts(self, catch_all: str) -> list[str]:
        """A catch-all changes the way of anybody in its domain, and of those whom other catch-alls send there."""
        domains = [catch_all]
        for domain in domains:
            domains += [key for key in self._column(_CATCH_ALLS_TO, key=domain) if key not in domains]
        named = [key for domain in domains for key in self._column(_TARGETS_IN, domain=domain)]
        return [catch_all, *named]

    def _targets(self, key: str) -> list[str]:
        return self._column(_TARGETS, key=key)

    def _is_account(self, key: str) -> bool:
        return bool(self._column(_ACCOUNT, key=key))

    def _exists(self, key: str) -> bool:
        return self._is_account(key) or bool(self._column(_SOURCE, key=key))

    def _column(self, sql: str, **parameters: str) -> list[str]:
        return [value for (value,) in self._connection.execute(sql, parameters)]


def find_loop(start: str, next_of: Callable[[str], Sequence[str]], seen: set[str]) -> list[str]:
    """The first loop met by following `next_of` from `start`, closed by its first member; [] if there is none.

    `seen` holds what is known to lead into no loop; it is added to.
    """
    if start in seen:
        return []
    path: list[str] = [start]
    on_path = {start}
    waiting: list[Iterator[str]] = [iter(next_of(start))]
    while path:
        following = next(waiting[-1], None)
        if following is None:
            waiting.pop()
            done = path.pop()
            on_path.discard(done)
            seen.add(done)
        elif following in on_path:
            return [*path[path.index(following) :], following]
        elif following not in seen:
            path.append(following)
            on_path.add(following)
            waiting.append(iter(next_of(following)))
    return []
