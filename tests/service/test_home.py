"""The home folder: one master at a time, and everything in it belongs to its owner."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatepost.config.settings import DirectorySettings, Settings
from gatepost.directory.edits import DirectoryEdits
from gatepost.service.home import Home, HomeBusy
from peers.programs import require_root

NOBODY = 65534

MASTER = """
import sys
from pathlib import Path
from gatepost.service.home import Home
with Home(Path(sys.argv[1])).lock() as left_behind:
    print(left_behind, flush=True)
    sys.stdin.read()
"""


def master(home: Path) -> subprocess.Popen[str]:
    """Another process that has the lock once it has said a line."""
    return subprocess.Popen(
        [sys.executable, "-c", MASTER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_second_master_is_told_who_is_there(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with master(tmp_path) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "False\n"
        with pytest.raises(HomeBusy) as busy, home.lock():
            raise AssertionError("two masters")
        assert str(busy.value) == f"{tmp_path} is served already, by process {other.pid}; `gatepost stop` ends it"
        other.communicate()
    with home.lock() as left_behind:
        assert not left_behind  # it ended by itself


def test_a_master_that_was_killed_is_told_of(tmp_path: Path) -> None:
    with master(tmp_path) as other:
        assert other.stdout is not None
        other.stdout.readline()
        other.send_signal(signal.SIGKILL)
        other.wait()
    home = Home(tmp_path)
    with home.lock() as left_behind:
        assert left_behind
        assert (tmp_path / "run" / "lock").read_text() == f"{os.getpid()}\n"
    with home.lock() as left_behind:
        assert not left_behind


def test_two_in_one_process(tmp_path: Path) -> None:
    with Home(tmp_path).lock(), pytest.raises(HomeBusy, match=f"by process {os.getpid()};"), Home(tmp_path).lock():
        raise AssertionError("two masters")


def test_a_start_that_failed_was_not_killed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(OSError, match="port in use"), home.lock():
        raise OSError("port in use")
    with home.lock() as left_behind:
        assert not left_behind


def test_the_lock_is_not_passed_on_to_programs(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.lock():
        program = [sys.executable, "-c", "print('runs', flush=True); input()"]
        child = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, close_fds=False)
        assert child.stdout is not None
        assert child.stdout.readline() == "runs\n"
    try:
        with home.lock():
            pass
    finally:
        child.communicate("\n")


def test_a_home_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), Home(tmp_path / "none").lock():
        raise AssertionError("a lock on nothing")


def test_prepare_makes_what_is_missing_and_keeps_what_is_there(tmp_path: Path) -> None:
    home = Home(tmp_path)
    settings = Settings(workers=2, directory=DirectorySettings(database="people.sqlite"))
    home.prepare(settings)
    assert home.shards() == [0, 1]
    with DirectoryEdits(home.directory(settings)) as edits:
        edits.add_domain("example.test")
    home.prepare(Settings(workers=3, directory=DirectorySettings(database="people.sqlite")))
    assert home.shards() == [0, 1, 2]
    with DirectoryEdits(home.directory(settings)) as edits:
        assert [domain.name for domain in edits.domains()] == ["example.test"]
    for path in tmp_path.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o007, path  # nothing for others


def test_shards_are_those_with_a_number(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.shards() == []
    for name in ("0", "10", "9", "9.old", "x", "9\u00b2", "\u0663"):
        home.shard(0).with_name(name).mkdir(parents=True)
    assert home.shards() == [0, 9, 10]


def test_places(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.settings_file == tmp_path / "gatepost.toml"
    assert home.control == tmp_path / "run" / "control.sock"
    assert home.shard(3) == home.queue / "3" == tmp_path / "queue" / "3"


@pytest.fixture
def nobodys_home() -> Iterator[Path]:
    """A home of another user, in a folder that this user can reach."""
    require_root("only root can give a folder away")
    folder = Path(tempfile.mkdtemp(prefix="gatepost-home-"))
    folder.chmod(0o755)
    home = folder / "home"
    home.mkdir(0o750)
    os.chown(home, NOBODY, NOBODY)
    yield home
    shutil.rmtree(folder)


def test_what_root_makes_in_somebodys_home_is_theirs(nobodys_home: Path) -> None:
    home = Home(nobodys_home)
    home.prepare(Settings(workers=1))
    with home.lock():
        pass
    made = list(nobodys_home.rglob("*"))
    assert {path.name for path in made} >= {"directory.sqlite", "queue.sqlite", "lock", "run", "0"}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(NOBODY, NOBODY)}
    assert (os.geteuid(), os.getegid()) == (0, 0)


def test_root_does_not_follow_somebodys_link(nobodys_home: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mail")
    (nobodys_home / "run").mkdir()
    os.chown(nobodys_home / "run", NOBODY, NOBODY)
    (nobodys_home / "run" / "lock").symlink_to(precious)
    with pytest.raises(OSError), Home(nobodys_home).lock():
        raise AssertionError("a lock on somebody else's file")
    assert precious.read_text() == "mail"
