"""Passes ZeroMQ connections on, and can repeat or lose what is said on them.

It knows as much of ZMTP 3 (rfc.zeromq.org/spec/23) as tells where a message ends; without CURVE.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

_GREETING = 64
_MORE, _LONG, _COMMAND = 1, 2, 4


class ZmtpRelay:
    """Listens on a free ``port`` of loopback for connections to ``target``, another port there.

    The next ``twice`` messages of the server are sent twice.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.twice = 0
        self._losing_requests: list[tuple[bytes, ...]] = []
        self._losing_answers: list[tuple[bytes, ...]] = []
        self._unanswered: set[bytes] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def lose_request(self, *methods: bytes) -> None:
        """Let the next request of one of ``methods`` never arrive."""
        self._losing_requests.append(methods)

    def lose_answer(self, *methods: bytes) -> None:
        """Let the answer to the next request of one of ``methods`` never arrive."""
        self._losing_answers.append(methods)

    def cut(self) -> None:
        """Break every connection; they can be made anew at once."""
        for task in list(self._tasks):
            task.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._pass(reader, writer)
        finally:
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            return  # the client sees its connection closed
        ways = [
            asyncio.ensure_future(_relay(reader, back, self._on_request)),
            asyncio.ensure_future(_relay(there, writer, self._on_answer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            back.close()
            with suppress(OSError, asyncio.CancelledError):
                await back.wait_closed()

    def _on_request(self, frames: list[bytes]) -> int:
        name, method = frames[2:4] if len(frames) >= 4 else (b"", b"")
        if _taken(self._losing_requests, method):
            return 0
        if _taken(self._losing_answers, method):
            self._unanswered.add(name)
        return 1

    def _on_answer(self, frames: list[bytes]) -> int:
        if frames[0] in self._unanswered:
            self._unanswered.remove(frames[0])
            return 0
        if self.twice:
            self.twice -= 1
            return 2
        return 1


def _taken(losing: list[tuple[bytes, ...]], method: bytes) -> bool:
    """Whether the next of ``method`` is to be lost; it is not to be any more then."""
    for methods in losing:
        if method in methods:
            losing.remove(methods)
            return True
    return False


async def _relay(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    times: Callable[[list[bytes]], int],
) -> None:
    """Pass messages on, each as often as ``times`` of its frames says."""
    with suppress(OSError, asyncio.IncompleteReadError):
        for _ in range(_GREETING):  # each side waits for a part of the other's
            writer.write(await reader.readexactly(1))
        while True:
            command, message, frames = await _message(reader)
            writer.write(message * (1 if command else times(frames)))
            await writer.drain()


async def _message(reader: asyncio.StreamReader) -> tuple[bool, bytes, list[bytes]]:
    """Whether it is a command, all of it, and the contents of its frames."""
    parts, frames = b"", []
    while True:
        flags = (await reader.readexactly(1))[0]
        size = await reader.readexactly(8 if flags & _LONG else 1)
        body = await reader.readexactly(int.from_bytes(size, "big"))
        parts += bytes([flags]) + size + body
        frames.append(body)
        if not flags & _MORE:
            return bool(flags & _COMMAND), parts, frames
