"""Loops, held against a second way of finding them; and edits, held against a model."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gatepost.directory.chains import find_loop
from gatepost.directory.edits import DirectoryEdits, DirectoryError

NODES = "abcdef"
graphs = st.dictionaries(st.sampled_from(NODES), st.lists(st.sampled_from(NODES), unique=True, max_size=4))


@given(graph=graphs)
def test_find_loop_agrees_with_the_closure(graph: dict[str, list[str]]) -> None:
    reach = {node: set(graph.get(node, ())) for node in NODES}
    for _ in NODES:
        for node in NODES:
            reach[node] |= {far for near in reach[node] for far in reach[near]}
    for start in NODES:
        loop = find_loop(start, lambda node: graph.get(node, []), set())
        assert bool(loop) == any(node in reach[node] for node in {start, *reach[start]})
        if loop:
            assert loop[0] == loop[-1]
            assert all(after in graph[before] for before, after in pairwise(loop))


locals_ = st.sampled_from(["a", "b", "A", "b+t"])
ends = st.one_of(
    st.builds(lambda local, domain: f"{local}@{domain}.test", locals_, st.sampled_from("pq")),
    st.sampled_from(["@p.test", "@q.test", "x@far.test"]),
)
changes = st.one_of(
    st.tuples(st.just("add_account"), ends),
    st.tuples(st.just("remove_account"), ends),
    st.tuples(st.just("add_forward"), ends, st.lists(ends, min_size=1, max_size=2)),
    st.tuples(st.just("remove_forward"), ends),
    st.tuples(st.just("add_target"), ends, ends),
    st.tuples(st.just("remove_target"), ends, ends),
)


class Model:
    """The directory as two dicts, and mail walked through them one step at a time."""

    def __init__(self) -> None:
        self.accounts: set[str] = set()
        self.forwards: dict[str, list[str]] = {}

    def loops(self) -> bool:
        starts = {f"{local}@{domain}.test" for local in ("a", "b", "b+t", "anybody", "x") for domain in "pq"}
        return any(self._walk(start, []) for start in starts)

    def _walk(self, key: str, path: list[str]) -> bool:
        if key in path:
            return True
        local, _, domain = key.rpartition("@")
        base = f"{local.partition('+')[0]}@{domain}"
        if key in self.forwards:
            targets = self.forwards[key]
        elif key in self.accounts:
            targets = []
        elif base != key and (base in self.forwards or base in self.accounts):
            targets = [base]
        else:
            targets = self.forwards.get(f"@{domain}", [])
        return any(self._walk(local + to if to.startswith("@") else to, [*path, key]) for to in targets)

    def apply(self, name: str, subject: str, *more: list[str] | str) -> None:
        key = subject.lower()
        if key.endswith("far.test") or (key.startswith("@") and "account" in name):
            raise DirectoryError
        match name, *more:
            case "add_account", *_:
                _require(key not in self.accounts)
                self.accounts.add(key)
            case "remove_account", *_:
                _require(key in self.accounts)
                self.accounts.remove(key)
            case "add_forward", list(targets):
                _require(key not in self.forwards)
                self.forwards[key] = list(dict.fromkeys(target.lower() for target in targets))
            case "remove_forward", *_:
                _require(key in self.forwards)
                del self.forwards[key]
            case "add_target", str(target):
                _require(key in self.forwards)
                if target.lower() not in self.forwards[key]:
                    self.forwards[key] = [*self.forwards[key], target.lower()]
            case "remove_target", str(target):
                _require(target.lower() in self.forwards.get(key, []) and len(self.forwards[key]) > 1)
                self.forwards[key] = [other for other in self.forwards[key] if other != target.lower()]
        domain = key[key.index("@") :]
        _require(not {key, domain} & set(self.forwards.get(key, [])))
        _require(not self.loops())


def _require(holds: bool) -> None:
    if not holds:
        raise DirectoryError


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(changes, max_size=15))
def test_edits_agree_with_a_model(steps: list[tuple[str, str] | tuple[str, str, str | list[str]]]) -> None:
    with tempfile.TemporaryDirectory() as folder, DirectoryEdits(Path(folder) / "d.sqlite") as edits:
        edits._connection.execute("PRAGMA synchronous = OFF")
        edits.add_domain("p.test")
        edits.add_domain("q.test")
        model = Model()
        for step in steps:
            before = set(model.accounts), dict(model.forwards)
            try:
                model.apply(*step)
                expected = True
            except DirectoryError:
                model.accounts, model.forwards = before
                expected = False
            try:
                getattr(edits, step[0])(*step[1:])
                happened = True
            except DirectoryError:
                happened = False
            assert happened == expected, step
            assert {account.address.key for account in edits.accounts()} == model.accounts
            stored = {forward.source: [target.lower() for target in forward.targets] for forward in edits.forwards()}
            assert stored == model.forwards
