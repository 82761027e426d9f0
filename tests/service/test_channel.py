"""Channels: each request gets its own answer, and garbage in either direction breaks nothing but its own connection."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from gatepost.service import channel as module
from gatepost.service.channel import Channel, ChannelClosed, Request, answer_requests, ask_once


async def echo(request: Request) -> Request:
    match request["do"]:
        case "echo":
            return {"said": request["say"]}
        case "fail":
            return {"said": request["nothing"]}
        case "slow":
            await asyncio.sleep(0.2)
            return {"said": "late"}
        case unknown:
            raise ValueError(unknown)


@asynccontextmanager
async def answerer() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Somebody who answers; the other end of the connection to them. Its streams have asyncio's own small limits."""
    ours, theirs = socket.socketpair()
    their_ends = await asyncio.open_connection(sock=theirs)
    answering = asyncio.create_task(answer_requests(*their_ends, echo))
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        yield reader, writer
    finally:
        writer.close()
        await asyncio.wait_for(answering, 5)
        for end in (writer, their_ends[1]):
            with suppress(ConnectionError):
                await end.wait_closed()


def test_each_request_gets_its_own_answer() -> None:
    async def story() -> None:
        async with answerer() as ends:
            channel = Channel(*ends)
            answers = await asyncio.gather(*(channel.ask({"do": "echo", "say": at}) for at in range(50)))
            assert answers == [{"said": at} for at in range(50)]

    asyncio.run(story())


def test_a_line_may_be_as_long_as_promised() -> None:
    async def story() -> None:
        async with answerer() as ends:
            channel = Channel(*ends)
            text = "x" * (module.MAX_LINE - 200_000)
            assert await channel.ask({"do": "echo", "say": text}) == {"said": text}
            assert await channel.ask({"do": "echo", "say": "short"}) == {"said": "short"}

    asyncio.run(story())


def test_text_of_any_kind_goes_through() -> None:
    async def story() -> None:
        async with answerer() as ends:
            for text in ("", "a\nb\r\n", "\x00\u2028ü\ud800"):
                assert await Channel(*ends).ask({"do": "echo", "say": text}) == {"said": text}

    asyncio.run(story())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"garbage",
        b"[]",
        b'"do"',
        b"null",
        b"\xff\xfe",
        b"{}",
        b'{"do": "fail"}',
        b'{"do": "unknown"}',
        b"[" * 100_000,
        b'{"do": ' + b"[" * 100_000,
    ],
    ids=lambda line: repr(line[:20]),
)
def test_a_bad_request_is_answered_and_the_next_one_too(line: bytes) -> None:
    async def story() -> None:
        async with answerer() as (reader, writer):
            writer.write(line + b"\n" + b'{"do": "echo", "say": 1}\n')
            answer = json.loads(await reader.readline())
            assert answer["error"].startswith("bad request: ")
            assert json.loads(await reader.readline()) == {"said": 1}

    asyncio.run(story())


def test_requests_in_small_pieces() -> None:
    async def story() -> None:
        async with answerer() as (reader, writer):
            for byte in b'{"do": "echo", "say": 1}\n{"do": "echo", "say": 2}\n{"do"':
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert json.loads(await reader.readline()) == {"said": 1}
            assert json.loads(await reader.readline()) == {"said": 2}

    asyncio.run(story())


def test_who_sends_too_much_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINE", 300_000)

    async def story() -> None:
        async with answerer() as (reader, writer):
            try:
                for _ in range(100):
                    writer.write(b"x" * 10_000)
                    await writer.drain()
                assert await reader.read() == b""
            except ConnectionError:
                pass  # hung up on while we were at it

    asyncio.run(story())


# -- the one who asks --


@asynccontextmanager
async def channel_to(say: Callable[[bytes], Awaitable[bytes]]) -> AsyncIterator[Channel]:
    """A channel to somebody who says what `say` makes of each line; nothing more after b""."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=theirs)

    async def answer() -> None:
        while line := await reader.readline():
            said = await say(line)
            writer.write(said)
            if not said.endswith(b"\n"):
                break
        writer.close()
        await writer.wait_closed()

    answering = asyncio.create_task(answer())
    ends = await asyncio.open_connection(sock=ours)
    channel = Channel(*ends)
    try:
        yield channel
    finally:
        channel.close()
        await asyncio.wait_for(answering, 5)
        await ends[1].wait_closed()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "hung up before it answered"),
        (b'{"said": 1}', "hung up before it answered"),
        (b"garbage\n", "no JSON object"),
        (b"[1]\n", "no JSON object"),
        (b"\xff\n", "no JSON object"),
        (b"[" * 100_000 + b"\n", "no JSON object"),
        (b"x" * 200_000 + b"\n", "more than 100000 bytes"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_answers_that_are_none(said: bytes, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINE", 100_000 if b"xxx" in said else 1_000_000)

    async def say(line: bytes) -> bytes:
        return said

    async def story() -> None:
        async with channel_to(say) as channel:
            with pytest.raises(ChannelClosed, match=why):
                await channel.ask({"do": "echo"})
            with pytest.raises(ChannelClosed, match="an earlier request was not answered"):
                await channel.ask({"do": "echo"})

    asyncio.run(story())


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIME_LIMIT", 0.05)

    async def story() -> None:
        async with answerer() as ends:
            channel = Channel(*ends)
            with pytest.raises(ChannelClosed, match="no answer for 0 seconds"):
                await channel.ask({"do": "slow"})
            await asyncio.sleep(0.3)
            with pytest.raises(ChannelClosed, match="an earlier request was not answered"):
                await channel.ask({"do": "echo", "say": "mine"})

    asyncio.run(story())


def test_whoever_stops_waiting_spoils_no_answer_of_others() -> None:
    async def story() -> None:
        async with answerer() as ends:
            channel = Channel(*ends)
            task = asyncio.create_task(channel.ask({"do": "slow"}))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(ChannelClosed):
                await channel.ask({"do": "echo", "say": "mine"})

    asyncio.run(story())


# -- the command line, without an event loop --


@contextmanager
def control(path: Path, said: bytes | None) -> Iterator[list[bytes]]:
    """A control socket at `path` that says `said` to one request, or answers it as it should. Gives what was asked."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                line = b""
                while not line.endswith(b"\n"):
                    line += connection.recv(4096)
                asked.append(line)
                try:
                    connection.sendall(
                        json.dumps({"said": json.loads(line)}).encode() + b"\n" if said is None else said
                    )
                except OSError:
                    pass  # the other side had enough

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            thread.join(5)


def test_asking_once(tmp_path: Path) -> None:
    with control(tmp_path / "s", None) as asked:
        assert ask_once(tmp_path / "s", {"do": "status"}) == {"said": {"do": "status"}}
    assert asked == [b'{"do": "status"}\n']


def test_no_server_is_no_answer(tmp_path: Path) -> None:
    assert ask_once(tmp_path / "none", {}) is None
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
    assert ask_once(tmp_path / "left", {}) is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "hung up before it answered"),
        (b"{", "hung up before it answered"),
        (b"nonsense\n", "no JSON object"),
        (b"x" * 400_000, "the answer is too long"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_bad_answers_to_the_command_line(
    tmp_path: Path, said: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LINE", 100_000)
    path = tmp_path / "s"
    with control(path, said), pytest.raises(ChannelClosed, match=why) as closed:
        ask_once(path, {"do": "status"})
    assert str(closed.value).startswith(f"{path}: ")


def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIME_LIMIT", 0.05)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        with pytest.raises(ChannelClosed, match="timed out"):
            ask_once(tmp_path / "s", {"do": "status"})


def test_paths_that_are_no_sockets(tmp_path: Path) -> None:
    with pytest.raises(ChannelClosed, match="too long"):
        ask_once(tmp_path / ("x" * 200), {})
    (tmp_path / "file").write_text("")
    with pytest.raises(ChannelClosed, match="file/s: "):
        ask_once(tmp_path / "file" / "s", {})
