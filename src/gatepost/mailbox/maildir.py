"""Maildir: a batch of messages put into mailboxes durably, for one worker thread.

Each message is written to `tmp`, synced, and renamed into `new`, which is synced in its turn before the message counts as
stored. So a file in `new` is whole whatever happens to the machine, and what was reported stored stays. A crash before the
report leaves the message in the queue too: it may come twice, never not at all.

Names follow the Maildir convention: `seconds.M<microseconds>P<process>Q<count>.<host>` in `tmp`, with `,S=<bytes>` in
`new`, which saves Dovecot a look at the file and makes Maildir++ quotas work. `/` and `:` of the host become `\\057` and
`\\072`. There are no flags: those belong to `cur`, where nothing is ever delivered.

rename(2), not link(2) and unlink(2): one change of one name, so no crash leaves a second one behind, and it works where
there are no hard links. It would replace a file of that name, but there is none: the name was taken with O_EXCL in `tmp`,
and holds the microsecond, the process and its count. (Linking cost 0.1 to 0.8 ms more per 100 messages.)

A batch is worked off in waves of at most WAVE messages, which bounds the descriptors (two per mailbox). How they are
synced: durability.py. An error concerns its own message or mailbox only; an error of a whole file system's sync concerns
all of the wave that are on it.

`tmp` files that a crash left are removed by `sweep` when they are older than STALE seconds, as the convention has it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gatepost.mail.address import Address
from gatepost.mail.clock import Clock
from gatepost.mailbox.durability import Durability, find_syncfs
from gatepost.mailbox.places import FOLDER, BadPlace, Places, open_folder

WAVE = 128  # messages
STALE = 36 * 3600.0  # seconds
SWEEP_EVERY = 24 * 3600.0  # seconds between two looks at one mailbox's tmp
SWEEP_AT_ONCE = 50  # mailboxes
REMEMBERED = 20_000  # mailboxes

FILE_MODE = 0o600
SUBFOLDERS = ("tmp", "new", "cur")


@dataclass(frozen=True, slots=True)
class Copy:
    """One message for one account: `fields` on top, then what `content` yields, both with lines ending in LF.

    `content` is called once, in the worker thread, and may raise OSError.
    """

    account: Address
    fields: bytes
    content: Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Stored:
    """It is in `new` under `name`, on the disk."""

    name: str
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class NotStored:
    """It is not there. `reason` is for the operator: it names the folder and what the system said.

    `errno` is 0 where the system was not asked, since the address has no folder (BadPlace).
    """

    errno: int
    reason: str


_UNTRIED = NotStored(0, "not attempted")


def lf_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes with every CRLF as LF; a lone CR or LF stays. Yields about as much at a time as it is given."""
    held = b""
    for chunk in chunks:
        text = held + chunk if held else chunk
        held = b"\r" if text.endswith(b"\r") else b""  # its LF may come with the next chunk
        yield (text[:-1] if held else text).replace(b"\r\n", b"\n")
    if held:
        yield held


@dataclass(slots=True)
class _Folder:
    """An open mailbox of this wave."""

    account: Address
    device: int
    tmp: int
    new: int


@dataclass(slots=True)
class _Draft:
    """A message written to `tmp`. `at` is its place in the wave."""

    at: int
    folder: _Folder
    name: str
    size: int


@dataclass(slots=True)
class _Wave:
    """What happened so far to the copies of one wave."""

    results: list[Stored | NotStored]
    folders: dict[str, _Folder | NotStored] = field(default_factory=dict)
    drafts: list[_Draft] = field(default_factory=list)


class MaildirStore:
    """Delivers into Maildirs. Every method blocks; one thread at a time may be in it."""

    def __init__(self, places: Places, hostname: str, clock: Clock, durability: Durability | None = None) -> None:
        self._places = places
        self._host = hostname.replace("/", "\\057").replace(":", "\\072")
        self._clock = clock
        self._durability = durability if durability is not None else Durability(clock, find_syncfs())
        self._count = itertools.count()
        self._swept: dict[str, float] = {}  # account key -> when, monotonic
        self._unswept: dict[str, Address] = {}

    def deliver(self, copies: Sequence[Copy]) -> list[Stored | NotStored]:
        """Store them all; one result each, in their order. Never raises for what the system refuses."""
        results: list[Stored | NotStored] = []
        for start in range(0, len(copies), WAVE):
            results += self._deliver_wave(copies[start : start + WAVE])
        return results

    def _deliver_wave(self, copies: Sequence[Copy]) -> list[Stored | NotStored]:
        wave = _Wave([_UNTRIED] * len(copies))
        try:
            whole = self._durability.as_a_whole(len(copies))
            for at, copy in enumerate(copies):
                self._write(wave, at, copy, sync=not whole)
            if whole:
                self._sync_drafts(wave)
            self._publish(wave)
        finally:
            for folder in wave.folders.values():
                if isinstance(folder, _Folder):
                    os.close(folder.tmp)
                    os.close(folder.new)
        return wave.results

    def _write(self, wave: _Wave, at: int, copy: Copy, *, sync: bool) -> None:
        folder = self._folder(wave, copy.account)
        if isinstance(folder, NotStored):
            wave.results[at] = folder
            return
        name = self._unique_name()
        try:
            size = _write_file(folder.tmp, name, copy, sync=sync)
        except OSError as error:
            wave.results[at] = self._not_stored(copy.account, error)
            _discard(folder.tmp, name)
        else:
            wave.drafts.append(_Draft(at, folder, name, size))

    def _folder(self, wave: _Wave, account: Address) -> _Folder | NotStored:
        known = wave.folders.get(account.key)
        if known is not None:
            return known
        folder: _Folder | NotStored
        try:
            folder = self._open(account)
        except BadPlace as error:
            folder = NotStored(0, f"no mailbox for {account}: {error}")
        except OSError as error:
            folder = self._not_stored(account, error)
        wave.folders[account.key] = folder
        self._note_for_sweep(account)
        return folder

    def _open(self, account: Address) -> _Folder:
        root = self._places.open(account, create=True)
        opened: list[int] = []
        try:
            for name in SUBFOLDERS:
                # One by one, so that those already open are closed after an error.
                opened.append(open_folder(root, name, create=True))  # noqa: PERF401
            tmp, new, cur = opened
            os.close(cur)
            opened.pop()
            return _Folder(account, os.fstat(tmp).st_dev, tmp, new)
        except OSError:
            for fd in opened:
                os.close(fd)
            raise
        finally:
            os.close(root)

    def _unique_name(self) -> str:
        seconds, micros = divmod(int(self._clock.now() * 1_000_000), 1_000_000)
        return f"{seconds}.M{micros}P{os.getpid()}Q{next(self._count)}.{self._host}"

    def _sync_drafts(self, wave: _Wave) -> None:
        """Put the drafts on the disk, one sync for each file system; drop those of one that fails."""
        devices = {draft.folder.device: draft.folder.tmp for draft in wave.drafts}
        for device, on in devices.items():
            try:
                self._durability.sync_all(on)
            except OSError as error:
                for draft in wave.drafts:
                    if draft.folder.device == device:
                        self._give_up(wave, draft, error)
                wave.drafts = [draft for draft in wave.drafts if draft.folder.device != device]

    def _publish(self, wave: _Wave) -> None:
        """Rename the synced drafts into `new`, and sync those folders."""
        published: dict[int, dict[int, _Folder]] = {}  # by device, by descriptor of new
        for draft in wave.drafts:
            folder = draft.folder
            name = f"{draft.name},S={draft.size}"
            try:
                os.rename(draft.name, name, src_dir_fd=folder.tmp, dst_dir_fd=folder.new)
            except OSError as error:
                self._give_up(wave, draft, error)
                continue
            wave.results[draft.at] = Stored(name, draft.size)
            published.setdefault(folder.device, {})[folder.new] = folder
        failed: dict[int, OSError] = {}
        for folders in published.values():
            failed |= self._durability.sync_folders(list(folders))
        for draft in wave.drafts:
            error_or_none = failed.get(draft.folder.new)
            if error_or_none is not None:
                # It can be read but might not outlive a crash: it stays in the queue, and may come twice.
                wave.results[draft.at] = self._not_stored(draft.folder.account, error_or_none)

    def _give_up(self, wave: _Wave, draft: _Draft, error: OSError) -> None:
        wave.results[draft.at] = self._not_stored(draft.folder.account, error)
        _discard(draft.folder.tmp, draft.name)

    def _not_stored(self, account: Address, error: OSError) -> NotStored:
        where = self._places.path(account)
        what = f" ({error.filename})" if error.filename else ""
        return NotStored(error.errno or 0, f"cannot deliver into {where}: {error.strerror or error}{what}")

    # What a crash left in tmp

    def _note_for_sweep(self, account: Address) -> None:
        swept = self._swept.get(account.key)
        if swept is None or self._clock.monotonic() - swept >= SWEEP_EVERY:
            self._unswept[account.key] = account

    @property
    def sweep_due(self) -> bool:
        """Whether `sweep` has anything to look at."""
        return bool(self._unswept)

    def sweep(self) -> int:
        """Remove stale `tmp` files of some mailboxes delivered to since they were last looked at; how many."""
        removed = 0
        for key in list(self._unswept)[:SWEEP_AT_ONCE]:
            account = self._unswept.pop(key)
            if len(self._swept) >= REMEMBERED:
                self._swept.clear()  # they are looked at once more than needed
            self._swept[key] = self._clock.monotonic()
            try:
                removed += self._sweep_one(account)
            except (OSError, BadPlace):  # delivery into it reports what is wrong with it
                continue
        return removed

    def _sweep_one(self, account: Address) -> int:
        root = self._places.open(account, create=False)
        try:
            tmp = os.open("tmp", FOLDER, dir_fd=root)
        finally:
            os.close(root)
        removed = 0
        try:
            oldest = self._clock.now() - STALE
            with os.scandir(tmp) as entries:
                files = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
            for file in files:
                if file.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(file.name, dir_fd=tmp)
                    removed += 1
        finally:
            os.close(tmp)
        return removed


def _write_file(tmp: int, name: str, copy: Copy, *, sync: bool) -> int:
    """Write it whole; its size in bytes. Raises OSError, and may leave a part."""
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE, dir_fd=tmp)
    try:
        size = 0
        head = copy.fields
        for chunk in copy.content():
            size += _write_all(fd, head, chunk)
            head = b""
        size += _write_all(fd, head, b"")
        if sync:
            os.fsync(fd)
        return size
    finally:
        os.close(fd)


def _write_all(fd: int, head: bytes, tail: bytes) -> int:
    length = len(head) + len(tail)
    if length == 0:
        return 0
    written = os.writev(fd, (head, tail))
    if written < length:
        rest = memoryview(head + tail)[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]
    return length


def _discard(tmp: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=tmp)
    except OSError:  # it was never made, or sweep takes it later
        pass
