"""Passes ZeroMQ connections on, and can send what a server says twice.

It knows as much of ZMTP 3 (rfc.zeromq.org/spec/23) as tells where a message ends; without CURVE.
"""

from __future__ import annotations

import asyncio
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
            asyncio.ensure_future(_copy(reader, back)),
            asyncio.ensure_future(self._repeat(there, writer)),
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

    async def _repeat(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            for _ in range(_GREETING):  # each side waits for a part of the other's
                writer.write(await reader.readexactly(1))
            while True:
                command, message = await _message(reader)
                writer.write(message)
                if self.twice and not command:
                    self.twice -= 1
                    writer.write(message)
                await writer.drain()


async def _message(reader: asyncio.StreamReader) -> tuple[bool, bytes]:
    """Whether it is a command, and all its frames."""
    parts = b""
    while True:
        flags = (await reader.readexactly(1))[0]
        size = await reader.readexactly(8 if flags & _LONG else 1)
        body = await reader.readexactly(int.from_bytes(size, "big"))
        parts += bytes([flags]) + size + body
        if not flags & _MORE:
            return bool(flags & _COMMAND), parts


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
