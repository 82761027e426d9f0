"""Messages on their way in: the header block is found however it is cut, limits hold, and what is refused leaves nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.intake.incoming import (
    HEADER_TOO_BIG,
    NO_SPACE,
    NOT_NOW,
    TOO_MANY_HOPS,
    HeaderRules,
    Incoming,
)
from gatepost.queue.bodies import BodyWriter
from gatepost.queue.records import Body
from gatepost.storage.errors import StorageError, StorageFull, StorageUnavailable

TOP = b"Received: from x\r\n\tby mail.test; date\r\n"
NUMBER = 4711


def dress(header: bytes) -> bytes:
    return TOP + header


def incoming(
    folder: Path,
    *,
    size_limit: int = 1000,
    hops: int = 50,
    file_size: int = 1 << 20,
    unsynced: dict[int, int] | None = None,
) -> Incoming:
    writer = BodyWriter(folder / "body", NUMBER, file_size, {} if unsynced is None else unsynced)
    return Incoming(writer, HeaderRules(size_limit, hops, dress))


def receive(pieces: Sequence[bytes], *, hops: int = 50) -> tuple[Body | None, Incoming]:
    message = incoming(Path("/nowhere"), hops=hops)
    for piece in pieces:
        message.write(piece)
    return message.finish(), message


def content_of(pieces: Sequence[bytes]) -> bytes:
    body, message = receive(pieces)
    assert message.refusal is None
    assert body is not None
    assert body.size == len(body.read())
    return body.read()


CONTENTS = [
    b"",
    b"\r\n",
    b"\r\ntext\r\n",
    b"a: b\r\n",
    b"a: b\r\n\r\n",
    b"a: b\r\nc: d\r\n e\r\n\r\nfirst\r\n\r\nsecond\r\n",
    b"text without any header\r\nmore\r\n",
]


@pytest.mark.parametrize("content", CONTENTS)
def test_it_does_not_matter_where_the_content_is_cut(content: bytes) -> None:
    assert content_of([content]) == TOP + content
    for at in range(len(content) + 1):
        assert content_of([content[:at], content[at:]]) == TOP + content
    assert content_of([content[at : at + 1] for at in range(len(content))]) == TOP + content


@given(
    st.lists(st.sampled_from([b"\r\n", b"a: b", b"\r", b"\n", b" ", b"x", b""]) | st.binary(max_size=5), max_size=20)
)
def test_any_content_goes_on_unchanged_below_what_is_put_on_top(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    came = content_of(pieces)
    assert came == content_of([content])
    assert came.startswith(TOP)
    assert came.endswith(content)
    assert came.removeprefix(TOP).removesuffix(content) in (b"", b"\r\n")


@pytest.mark.parametrize("blank", [b" ", b"\t"])
def test_content_cannot_go_on_with_our_own_field(blank: bytes) -> None:
    forged = (
        blank + b"from bank.test by mail.test; Thu, 1 Jan 1970 00:00:00 +0000\r\nFrom: boss@bank.test\r\n\r\ntext\r\n"
    )
    for pieces in ([forged], [forged[at : at + 1] for at in range(len(forged))]):
        assert content_of(pieces) == TOP + b"\r\n" + forged


def test_the_header_limit_counts_the_header_only() -> None:
    header = b"a: " + b"x" * 995 + b"\r\n"
    assert len(header) == 1000
    assert receive([header + b"\r\n" + b"y" * 5000])[1].refusal is None
    assert receive([header, b"\r\n"])[1].refusal is None
    body, message = receive([header + b"b: c\r\n\r\n"])
    assert (body, message.refusal) == (None, HEADER_TOO_BIG)
    body, message = receive([b"a: "] + [b"x" * 100] * 10)
    assert (body, message.refusal) == (None, HEADER_TOO_BIG)


def test_memory_is_given_back_when_the_header_is_too_big() -> None:
    message = incoming(Path("/nowhere"))
    for _ in range(1000):
        message.write(b"x" * 10_000)
        assert len(message._held) <= 11_000
    assert message.finish() is None


def test_a_header_that_drips_costs_no_more_than_one_that_flows() -> None:
    message = incoming(Path("/nowhere"), size_limit=1 << 20)
    began = time.process_time()
    for _ in range(200_000):
        message.write(b"x")
    # Searched and copied from its beginning for each byte, it would take most of a minute.
    assert time.process_time() - began < 3.0
    assert message.refusal is None


@pytest.mark.parametrize("name", [b"Received:", b"RECEIVED :", b"received\t:"])
def test_the_limit_of_hops(name: bytes) -> None:
    fields = (name + b" from a\r\n\tby b\r\n") * 5
    assert receive([fields + b"\r\n"], hops=5)[1].refusal is None
    for rest in (b"", b"\r\ntext\r\n"):
        body, message = receive([fields + b"X: y\r\n", name + b" z\r\n", rest], hops=5)
        assert (body, message.refusal) == (None, TOO_MANY_HOPS)
    assert str(TOO_MANY_HOPS).startswith("554 5.4.6 ")


def test_received_elsewhere_is_no_hop() -> None:
    fields = b"Subject: Received: x\r\nX-Received: y\r\nTo: a,\r\n Received: z\r\n" * 10
    body, message = receive([fields + b"\r\n" + b"Received: x\r\n" * 100], hops=1)
    assert body is not None
    assert message.refusal is None


class FailingWriter(BodyWriter):
    """Fails at one of its calls."""

    def __init__(self, path: Path, error: StorageError, fails_at: int) -> None:
        super().__init__(path, NUMBER, 10, {})
        self._error = error
        self._calls_left = fails_at

    def _count(self) -> None:
        self._calls_left -= 1
        if self._calls_left < 0:
            self.discard()
            raise self._error

    def write(self, chunk: bytes) -> None:
        self._count()
        super().write(chunk)

    def finish(self) -> Body:
        self._count()
        return super().finish()


@pytest.mark.parametrize("fails_at", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("error", "reply"),
    [(StorageFull("/q", "no room"), NO_SPACE), (StorageUnavailable("/q", "not yours"), NOT_NOW)],
)
def test_trouble_with_the_store_is_told_at_the_end(
    tmp_path: Path, fails_at: int, error: StorageError, reply: object
) -> None:
    message = Incoming(FailingWriter(tmp_path / "body", error, fails_at), HeaderRules(1000, 50, dress))
    for piece in (b"a: b\r\n\r\n", b"one\r\n", b"two\r\n"):
        message.write(piece)  # never raises
    assert message.finish() is None
    assert message.refusal is reply
    assert "no room" in message.cause or "not yours" in message.cause
    assert "/q" not in str(message.refusal)
    assert list(tmp_path.iterdir()) == []


def test_without_a_body_the_store_may_fail_at_the_very_end(tmp_path: Path) -> None:
    message = Incoming(FailingWriter(tmp_path / "body", StorageFull("/q", "no room"), 0), HeaderRules(1000, 50, dress))
    message.write(b"a: b\r\n")
    assert message.finish() is None
    assert message.refusal is NO_SPACE


def test_a_full_disk_for_real(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    message = incoming(tmp_path, file_size=10)
    message.write(b"a: b\r\n\r\nlong enough for a file\r\n")
    assert (tmp_path / "body").exists()
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, message._writer._file)
    os.close(full)
    message.write(b"more\r\n")
    assert message.refusal is NO_SPACE
    assert message.finish() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("finish_first", [True, False])
def test_discard_leaves_no_file_and_no_descriptor(tmp_path: Path, finish_first: bool) -> None:
    before = os.listdir("/proc/self/fd")
    unsynced: dict[int, int] = {}
    message = incoming(tmp_path, file_size=10, unsynced=unsynced)
    message.write(b"a: b\r\n\r\nlong enough for a file\r\n")
    assert (tmp_path / "body").exists()
    if finish_first:
        assert message.finish() is not None
        assert list(unsynced) == [NUMBER]
    message.discard()
    message.discard()
    assert list(tmp_path.iterdir()) == []
    assert unsynced == {}
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_large_message_goes_to_a_file_whole(tmp_path: Path) -> None:
    unsynced: dict[int, int] = {}
    message = incoming(tmp_path, file_size=100, unsynced=unsynced)
    content = b"a: b\r\n\r\n" + b"x" * 500
    for at in range(0, len(content), 7):
        message.write(content[at : at + 7])
    body = message.finish()
    assert body is not None
    assert (body.path, body.content) == (tmp_path / "body", None)
    assert body.read() == TOP + content
    assert body.header == TOP + b"a: b\r\n"
    os.close(unsynced.pop(NUMBER))
