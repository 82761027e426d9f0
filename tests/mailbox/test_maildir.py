"""Batches into Maildirs: read back by the standard library, and killed half way."""

from __future__ import annotations

import errno
import mailbox
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gatepost
from gatepost.mail.address import parse_address
from gatepost.mail.clock import Clock, FakeClock, SystemClock
from gatepost.mailbox.durability import Durability
from gatepost.mailbox.maildir import STALE, SWEEP_EVERY, WAVE, Copy, MaildirStore, NotStored, Stored, lf_lines
from gatepost.mailbox.places import Places

NAME = re.compile(r"\d{10}\.M\d{1,6}P\d+Q\d+\.mx\.example\.test,S=(\d+)")
TEMPLATE = "mail/{domain}/{local}"


def make_store(home: Path, clock: Clock | None = None, durability: Durability | None = None) -> MaildirStore:
    return MaildirStore(Places(home, TEMPLATE), "mx.example.test", clock or SystemClock(), durability)


def copy(account: str, text: bytes = b"Subject: hi\n\nHello\n", fields: bytes = b"Return-Path: <>\n") -> Copy:
    return Copy(parse_address(account), fields, lambda: (text,))


def folder_of(home: Path, account: str) -> Path:
    local, _, domain = account.partition("@")
    return home / "mail" / domain / local


def stored(result: Stored | NotStored) -> Stored:
    assert isinstance(result, Stored), result
    return result


def refused(result: Stored | NotStored) -> NotStored:
    assert isinstance(result, NotStored), result
    return result


@pytest.mark.parametrize("count", [1, 3, 4, 40, WAVE + 5])
def test_the_standard_library_reads_what_was_delivered(tmp_path: Path, count: int) -> None:
    texts = [b"Subject: %d\n\nHello %d\n\xff\0\n" % (n, n) for n in range(count)]
    store = make_store(tmp_path)
    results = store.deliver([copy(f"user{n % 3}@example.test", text) for n, text in enumerate(texts)])
    assert len(results) == count
    seen = {}
    for n in range(3):
        if (tmp_path / f"mail/example.test/user{n}").exists():
            box = mailbox.Maildir(tmp_path / f"mail/example.test/user{n}", create=False)
            for key in box.keys():  # noqa: SIM118
                assert box.get_message(key).get_flags() == ""
                assert box.get_message(key).get_subdir() == "new"
                seen[key] = box.get_bytes(key)
    assert seen == {
        stored(result).name: b"Return-Path: <>\n" + text for result, text in zip(results, texts, strict=True)
    }
    assert list(tmp_path.rglob("tmp/*")) == []


def test_names_are_those_of_the_convention_and_hold_the_size(tmp_path: Path) -> None:
    (result,) = make_store(tmp_path).deliver([copy("alice@example.test")])
    found = NAME.fullmatch(stored(result).name)
    assert found is not None
    file = folder_of(tmp_path, "alice@example.test") / "new" / stored(result).name
    assert int(found[1]) == file.stat().st_size == stored(result).size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert all(stat.S_IMODE((file.parent.parent / name).stat().st_mode) == 0o700 for name in ("tmp", "new", "cur"))


def test_names_differ_while_time_stands_still_and_the_host_cannot_break_them(tmp_path: Path) -> None:
    store = MaildirStore(Places(tmp_path, TEMPLATE), "odd/host:1", FakeClock())
    names = [stored(result).name for result in store.deliver([copy("alice@example.test")] * 10)]
    assert len(set(names)) == 10
    assert all(".odd\\057host\\0721,S=" in name for name in names)


def test_missing_subfolders_are_made_again(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.deliver([copy("alice@example.test")])
    folder = folder_of(tmp_path, "alice@example.test")
    (folder / "cur").rmdir()
    (folder / "tmp").rmdir()
    stored(store.deliver([copy("alice@example.test")])[0])
    assert sorted(path.name for path in folder.iterdir()) == ["cur", "new", "tmp"]


@given(st.binary(max_size=60).map(lambda raw: raw.replace(b"a", b"\r").replace(b"b", b"\n")), st.data())
def test_line_ends_are_converted_wherever_chunks_end(content: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    chunks = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    assert b"".join(lf_lines(chunks)) == content.replace(b"\r\n", b"\n")


def test_a_big_message_is_streamed(tmp_path: Path) -> None:
    largest = 0

    def chunks() -> Iterator[bytes]:
        nonlocal largest
        for _ in range(200):
            yield b"x" * 65_536
            largest = max(largest, len(list((folder_of(tmp_path, "alice@example.test") / "tmp").iterdir())))

    (result,) = make_store(tmp_path).deliver([Copy(parse_address("alice@example.test"), b"A: b\n", chunks)])
    assert stored(result).size == 200 * 65_536 + 5
    assert largest == 1


def test_a_message_with_no_content_has_its_fields(tmp_path: Path) -> None:
    (result,) = make_store(tmp_path).deliver([Copy(parse_address("alice@example.test"), b"A: b\n", lambda: ())])
    assert stored(result).size == 5


# What goes wrong with one leaves the others alone


def test_one_bad_mailbox_does_not_harm_the_others(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    bad = folder_of(tmp_path, "bad@example.test")
    bad.mkdir(parents=True)
    (bad / "new").symlink_to(tmp_path / "elsewhere")
    accounts = ["good@example.test", "bad@example.test", f"{'x' * 64}@example.test"] * 3
    results = make_store(tmp_path).deliver([copy(account) for account in accounts])
    for account, result in zip(accounts, results, strict=True):
        if account.startswith("bad"):
            assert refused(result).errno in (errno.ENOTDIR, errno.ELOOP)
            assert str(bad) in refused(result).reason
        else:
            stored(result)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def fails_with(code: int) -> Callable[[], Iterable[bytes]]:
    def content() -> Iterator[bytes]:
        yield b"the first half\n"
        raise OSError(code, os.strerror(code))

    return content


@pytest.mark.parametrize("others", [0, 9])
def test_an_error_half_way_leaves_no_file(tmp_path: Path, others: int) -> None:
    broken = Copy(parse_address("alice@example.test"), b"", fails_with(errno.ENOSPC))
    results = make_store(tmp_path).deliver([broken] + [copy("alice@example.test")] * others)
    assert refused(results[0]).errno == errno.ENOSPC
    assert all(isinstance(result, Stored) for result in results[1:])
    folder = folder_of(tmp_path, "alice@example.test")
    assert list((folder / "tmp").iterdir()) == []
    assert len(list((folder / "new").iterdir())) == others


def test_nothing_becomes_visible_before_it_is_synced(tmp_path: Path) -> None:
    visible: list[int] = []

    def syncfs(_: int) -> None:
        visible.append(len(list(tmp_path.rglob("new/*"))))

    durability = Durability(SystemClock(), syncfs)
    make_store(tmp_path, durability=durability).deliver([copy(f"user{n}@example.test") for n in range(10)])
    assert visible == [0, 10]  # once for the files, once for the folders


def test_what_could_not_be_synced_is_not_published(tmp_path: Path) -> None:
    def syncfs(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    durability = Durability(SystemClock(), syncfs)
    results = make_store(tmp_path, durability=durability).deliver([copy("alice@example.test")] * 5)
    assert [refused(result).errno for result in results] == [errno.EIO] * 5
    assert list(tmp_path.rglob("new/*")) == list(tmp_path.rglob("tmp/*")) == []


def test_a_message_whose_folder_could_not_be_synced_is_not_reported_stored(tmp_path: Path) -> None:
    calls = 0

    def syncfs(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    durability = Durability(SystemClock(), syncfs)
    accounts = [f"user{n}@example.test" for n in range(5)]
    results = make_store(tmp_path, durability=durability).deliver([copy(account) for account in accounts])
    assert [refused(result).errno for result in results] == [errno.EIO] * 5


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "mail/example.test/bad").mkdir(parents=True)
    (tmp_path / "mail/example.test/bad/cur").write_text("not a folder")
    store = make_store(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    store.deliver([copy(f"{name}@example.test") for name in ("alice", "bad", "carol", "bad", "dave", "erin")])
    store.deliver([Copy(parse_address("alice@example.test"), b"", fails_with(errno.EIO))])
    store.sweep()
    assert len(os.listdir("/proc/self/fd")) == before


# What a crash left


def test_sweep_removes_only_stale_files(tmp_path: Path) -> None:
    clock = FakeClock(time.time())
    store = make_store(tmp_path, clock)
    store.deliver([copy("alice@example.test")])
    tmp = folder_of(tmp_path, "alice@example.test") / "tmp"
    old, young = tmp / "old", tmp / "young"
    for file, age in ((old, STALE + 60), (young, STALE - 600)):
        file.write_text("half")
        os.utime(file, (clock.now() - age, clock.now() - age))
    assert store.sweep_due
    assert store.sweep() == 1
    assert not old.exists()
    assert young.exists()
    assert not store.sweep_due


def test_a_mailbox_is_looked_at_once_a_day(tmp_path: Path) -> None:
    clock = FakeClock(time.time())
    store = make_store(tmp_path, clock)
    for due in (True, False):
        store.deliver([copy("alice@example.test")])
        assert store.sweep_due is due
        store.sweep()
    clock.advance(SWEEP_EVERY)
    store.deliver([copy("alice@example.test")])
    assert store.sweep_due


def test_sweep_survives_a_mailbox_that_went_away(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.deliver([copy("alice@example.test")])
    folder_of(tmp_path, "alice@example.test").rename(tmp_path / "away")
    assert store.sweep() == 0


# A process killed while it delivers

CHILD = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from gatepost.mail.address import parse_address
    from gatepost.mail.clock import SystemClock
    from gatepost.mailbox.maildir import Copy, MaildirStore, Stored
    from gatepost.mailbox.places import Places

    store = MaildirStore(Places(Path(sys.argv[1]), "mail/{domain}/{local}"), "mx.example.test", SystemClock())
    lines = [b"line %d\\n" % n for n in range(300)]
    batch = [
        Copy(parse_address(f"user{n % 3}@example.test"), b"Subject: x\\n\\n", lambda: [*lines, b"the end\\n"])
        for n in range(int(sys.argv[2]))
    ]
    while True:
        for result in store.deliver(batch):
            assert isinstance(result, Stored), result
            print(result.name, flush=False)
        sys.stdout.flush()
    """
)


@pytest.mark.crash
@pytest.mark.parametrize("batch", [2, 30])
def test_a_killed_delivery_leaves_whole_messages_only_and_all_it_reported(tmp_path: Path, batch: int) -> None:
    source = Path(gatepost.__file__).parents[1]
    whole = b"Subject: x\n\n" + b"".join(b"line %d\n" % n for n in range(300)) + b"the end\n"
    reported: set[str] = set()
    for pause in (0.0, 0.011, 0.023, 0.038):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(batch)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(source)},
        )
        assert child.stdout is not None
        with child.stdout:
            first = child.stdout.readline()  # it is at work now
            time.sleep(pause)
            child.send_signal(signal.SIGKILL)
            *complete, _cut = (first + child.stdout.read()).split(b"\n")
        assert child.wait(10) == -signal.SIGKILL
        reported |= {line.decode() for line in complete}
    files = {file.name: file for file in tmp_path.rglob("new/*")}
    assert reported
    assert reported <= files.keys()
    assert [name for name, file in files.items() if file.read_bytes() != whole] == []
