"""What the tests of the wire share."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from livetrader_core.rpc import RemoteSession, Server

#: Where processes start, so that they find the tests.
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def ipc_endpoint() -> Iterator[str]:
    """An endpoint in a folder of its own; nothing may be left in it."""
    folder = tempfile.mkdtemp(prefix="lt")
    try:
        yield f"ipc://{folder}/s"
    finally:
        shutil.rmtree(folder)


@asynccontextmanager
async def served(
    *services: Any, endpoint: str = "inproc://test", **settings: Any
) -> AsyncIterator[tuple[Server, str]]:
    """A server in this loop; gives the server and its endpoint."""
    server = Server(*services, **settings)
    bound = server.bind(endpoint)
    try:
        await server.start()
        yield server, bound
    finally:
        await server.stop()


@asynccontextmanager
async def opened(
    endpoint: str, trade_from: int | None = None, **settings: Any
) -> AsyncIterator[tuple[RemoteSession, list[Any]]]:
    """An open session and the events it delivered."""
    session = RemoteSession(endpoint, **settings)
    events: list[Any] = []
    await session.open(events.append, trade_from)
    try:
        yield session, events
    finally:
        await session.close()


@asynccontextmanager
async def joined(
    *services: Any, trade_from: int | None = None, hwm: int = 20_000, **settings: Any
) -> AsyncIterator[tuple[Server, RemoteSession, list[Any]]]:
    """A server and a session with it, in one loop, and the events the session delivered."""
    async with (
        served(*services, hwm=hwm, **settings) as (server, endpoint),
        opened(endpoint, trade_from, hwm=hwm) as (session, events),
    ):
        yield server, session, events


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for ``condition``; fails when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


def until_sync(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """:func:`until`, outside a loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Run ``work`` in a loop of its own; no task may be left."""

    async def main() -> None:
        await work()
        await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left

    asyncio.run(main())
