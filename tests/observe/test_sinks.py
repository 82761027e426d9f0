"""Files and standard output: modes, rotation, readers that stop."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gatepost.observe.sinks import LogFile, StandardOutput

LINES = b"".join(b"%06d\n" % number for number in range(100_000))  # 700 kB: more than a pipe holds


def test_a_file_is_made_with_its_folder_and_only_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log" / "mail.log"
    first, second = LogFile(path), LogFile(path)
    for sink, text in ((first, b"a\n"), (second, b"b\n"), (first, b"c\n")):
        assert sink.write(text, 0.0) == 2
    assert path.read_bytes() == b"a\nb\nc\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.parent.stat().st_mode & 0o777 == 0o750
    first.close()
    second.close()


def test_a_moved_file_is_noticed_once_a_second(tmp_path: Path) -> None:
    path, old = tmp_path / "mail.log", tmp_path / "mail.log.1"
    sink = LogFile(path)
    sink.write(b"a\n", 10.0)
    path.rename(old)
    sink.write(b"b\n", 10.9)
    assert not path.exists()
    sink.write(b"c\n", 11.0)
    assert (old.read_bytes(), path.read_bytes()) == (b"a\nb\n", b"c\n")
    path.unlink()
    sink.write(b"d\n", 12.1)
    assert path.read_bytes() == b"d\n"
    path.unlink()
    path.write_bytes(b"made by logrotate\n")  # another file under the same name
    sink.write(b"e\n", 13.2)
    assert path.read_bytes() == b"made by logrotate\ne\n"
    sink.close()


def test_reopen_does_not_wait_for_the_second(tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    sink = LogFile(path)
    sink.write(b"a\n", 10.0)
    path.rename(tmp_path / "mail.log.1")
    sink.reopen()
    sink.write(b"b\n", 10.0)
    assert path.read_bytes() == b"b\n"
    sink.close()


def test_a_truncated_file_goes_on_at_its_start(tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    sink = LogFile(path)
    sink.write(b"a\n", 0.0)
    os.truncate(path, 0)  # logrotate's copytruncate
    sink.write(b"b\n", 5.0)
    assert path.read_bytes() == b"b\n"
    sink.close()


def test_a_symbolic_link_and_a_fifo_nobody_reads_are_errors(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(OSError, match="symbolic link"):
        LogFile(tmp_path / "link").write(b"a\n", 0.0)
    assert (tmp_path / "target").read_bytes() == b""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="No such device"):
        LogFile(tmp_path / "fifo").write(b"a\n", 0.0)


def test_a_pipe_nobody_reads_takes_whole_lines_and_then_none() -> None:
    read_end, write_end = os.pipe()
    sink = StandardOutput(write_end)
    try:
        taken = sink.write(LINES, 0.0)
        assert 4096 <= taken < len(LINES)
        assert taken % 7 == 0
        with pytest.raises(BlockingIOError):
            sink.write(LINES[taken:], 0.0)
        assert os.get_blocking(write_end)  # it is shared: its flags are not ours to change
        received = os.read(read_end, len(LINES))
        assert received == LINES[: len(received)]
        assert sink.write(b"more\n", 0.0) == 5
    finally:
        sink.close()
        os.fstat(write_end)  # still open
        os.close(read_end)
        os.close(write_end)


def test_a_socket_nobody_reads_does_not_block() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sink = StandardOutput(ours.fileno())
        taken = sink.write(LINES, 0.0)
        assert 0 < taken < len(LINES)
        with pytest.raises(BlockingIOError):
            sink.write(LINES[taken:], 0.0)
        sink.close()
        assert ours.getblocking()
        assert theirs.recv(14) == b"000000\n000001\n"


def test_a_file_as_standard_output(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    sink = StandardOutput(fd)
    assert sink.write(LINES, 0.0) == len(LINES)
    sink.close()
    os.close(fd)
    assert (tmp_path / "out").read_bytes() == LINES


def test_a_reader_that_is_gone_is_an_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    sink = StandardOutput(write_end)
    with pytest.raises(BrokenPipeError):
        sink.write(b"a\n", 0.0)
    sink.close()
    os.close(write_end)


def test_a_line_longer_than_a_pipe_takes_at_once() -> None:
    read_end, write_end = os.pipe()
    sink = StandardOutput(write_end)
    line = b"x" * 10_000 + b"\n"
    assert sink.write(line + b"end\n", 0.0) == len(line) + 4
    assert os.read(read_end, 20_000) == line + b"end\n"
    sink.close()
    os.close(read_end)
    os.close(write_end)
