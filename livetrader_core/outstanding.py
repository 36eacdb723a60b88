"""Requests that are on their way, for whoever must wait until they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Outstanding:
    """The open order requests of one session: an acknowledgement waits for them."""

    def __init__(self) -> None:
        self._open: set[asyncio.Future[None]] = set()

    @contextmanager
    def one(self) -> Iterator[None]:
        """A request is open meanwhile."""
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open.add(answered)
        try:
            yield
        finally:
            self._open.discard(answered)
            answered.cancel()

    async def answered(self) -> None:
        """Return when every request that is open now has ended."""
        if self._open:
            await asyncio.wait(set(self._open))
