"""A line between two tcp addresses that can be cut and stalled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

#: Where the near end listens, so that both ends can have the same ports.
NEAR = "127.0.0.2"


class Line:
    """Forwards ``ports`` of 127.0.0.2 to the same ports of 127.0.0.1."""

    def __init__(self, ports: Iterable[int]) -> None:
        self._ports = list(ports)
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._up = True
        #: Whether anything gets through to the far end, and back.
        self._flowing = {"there": asyncio.Event(), "back": asyncio.Event()}
        self.restore()

    async def __aenter__(self) -> Line:
        for port in self._ports:
            serve = self._server(port)
            self._servers.append(await asyncio.start_server(serve, NEAR, port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Break all connections and take no new ones."""
        self._up = False
        for writer in self._writers:
            writer.transport.abort()

    def stall(self, *ways: str) -> None:
        """Let nothing through ``there``, ``back``, or both ways; the connections stay."""
        for way in ways or self._flowing:
            self._flowing[way].clear()

    def restore(self) -> None:
        """Be a working line again."""
        self._up = True
        for flowing in self._flowing.values():
            flowing.set()

    def _server(self, port: int):  # type: ignore[no-untyped-def]
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not self._up:
                writer.transport.abort()
                return
            try:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                writer.transport.abort()
                return
            there, back = self._flowing.values()
            pumps = [
                self._pump(reader, far_writer, there),
                self._pump(far_reader, writer, back),
            ]
            task = asyncio.ensure_future(_first_of(pumps))
            self._tasks.add(task)
            self._writers |= {writer, far_writer}
            try:
                await asyncio.wait([task])
            finally:
                for each in (writer, far_writer):
                    each.transport.abort()
                    self._writers.discard(each)
                self._tasks.discard(task)

        return serve

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        flowing: asyncio.Event,
    ) -> None:
        while data := await reader.read(65_536):
            await flowing.wait()
            writer.write(data)
            await writer.drain()


async def _first_of(works) -> None:  # type: ignore[no-untyped-def]
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
