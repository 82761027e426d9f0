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
    """The other side is gone."""


class Channel:
    """Requests to the other side, one at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()

    async def ask(self, request: Request) -> Request:
        """Send, and wait for the answer. Raises ChannelClosed."""
        async with self._turn:
            try:
                self._writer.write(json.dumps(request).encode() + b"\n")
                await self._writer.drain()
                line = await asyncio.wait_for(self._reader.readline(), TIME_LIMIT)
            except (OSError, ValueError, TimeoutError) as error:
                raise ChannelClosed(str(error)) from None
        if not line:
            raise ChannelClosed("the other side hung up")
        answer: Request = json.loads(line)
        return answer

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def answer_requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answerer: Answerer) -> None:
    """Answer until the other side hangs up."""
    try:
        while line := await reader.readline():
            try:
                answer = await answerer(json.loads(line))
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
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError:
            raise ChannelClosed(f"{path}: you may not talk to the server; run this as its user or as root") from None
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            received = b""
            while not received.endswith(b"\n"):
                piece = connection.recv(65536)
                if not piece:
                    raise ChannelClosed(f"{path}: the server hung up before it answered")
                received += piece
        except OSError as error:
            raise ChannelClosed(f"{path}: {error}") from None
    answer: Request = json.loads(received)
    return answer
