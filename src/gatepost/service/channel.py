"""JSON lines over a socket: master <-> worker, and command line <-> master. A request is an object with `do`; each gets one
answer, in order. A line is at most MAX_LINE bytes; whoever sends more is hung up on."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

MAX_LINE = 4 * 1024 * 1024
TIME_LIMIT = 30.0  # seconds a request may take

Request: TypeAlias = dict[str, Any]
Answerer: TypeAlias = Callable[[Request], Awaitable[Request]]


class ChannelClosed(Exception):
    """The other side is gone, or does not speak as agreed. The text says how."""


class _Lines:
    """Lines out of a stream, whatever limit the stream itself was given."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._rest = bytearray()

    async def next(self) -> bytes:
        """A line with its end; what stands before the end of the stream, perhaps b"". Raises OSError, ValueError if too long."""
        searched = 0
        while (end := self._rest.find(b"\n", searched)) < 0:
            searched = len(self._rest)
            if searched >= MAX_LINE:
                raise ValueError(f"a line of more than {MAX_LINE} bytes")
            piece = await self._reader.read(65536)
            if not piece:
                end = searched
                break
            self._rest += piece
        line = bytes(self._rest[: end + 1])
        del self._rest[: end + 1]
        return line


class Channel:
    """Requests to the other side, one at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._lines = _Lines(reader)
        self._writer = writer
        self._turn = asyncio.Lock()
        self._broken = False

    async def ask(self, request: Request) -> Request:
        """Send, and wait for the answer. Raises ChannelClosed; so does every request after one that was not answered."""
        async with self._turn:
            if self._broken:
                raise ChannelClosed("an earlier request was not answered")
            # Until there is an answer: one that comes too late must not be taken for the next one's.
            self._broken = True
            try:
                self._writer.write(json.dumps(request).encode() + b"\n")
                await self._writer.drain()
                line = await asyncio.wait_for(self._lines.next(), TIME_LIMIT)
            except TimeoutError:
                raise ChannelClosed(f"no answer for {TIME_LIMIT:.0f} seconds") from None
            except (OSError, ValueError) as error:
                raise ChannelClosed(str(error)) from None
            answer = _parse_answer(line)
            self._broken = False
            return answer

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def answer_requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answerer: Answerer) -> None:
    """Answer until the other side hangs up."""
    lines = _Lines(reader)
    try:
        while line := await lines.next():
            try:
                answer = await answerer(_object(line))
            except (ValueError, KeyError, TypeError) as error:
                answer = {"error": f"bad request: {error!r}"}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
    except (OSError, ValueError):
        pass  # hung up on, or a line without end
    finally:
        writer.close()


def ask_once(path: Path, request: Request) -> Request | None:
    """One request from a program without an event loop; None where no server listens. Raises ChannelClosed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIME_LIMIT)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            received = bytearray()
            while not received.endswith(b"\n") and len(received) <= MAX_LINE:
                piece = connection.recv(65536)
                if not piece:
                    break
                received += piece
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError:
            raise ChannelClosed(f"{path}: you may not talk to the server; run this as its user or as root") from None
        except OSError as error:
            raise ChannelClosed(f"{path}: {error}") from None
    try:
        return _parse_answer(bytes(received))
    except ChannelClosed as closed:
        raise ChannelClosed(f"{path}: {closed}") from None


def _parse_answer(line: bytes) -> Request:
    if not line.endswith(b"\n"):
        hung_up = len(line) <= MAX_LINE
        raise ChannelClosed("the other side hung up before it answered" if hung_up else "the answer is too long")
    try:
        return _object(line)
    except ValueError:
        raise ChannelClosed("the other side gave no JSON object for an answer") from None


def _object(line: bytes) -> Request:
    try:
        value = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value
