"""One line to an expert advisor for all that use it in an event loop.

The advisor deals its replies out to whoever is connected, so that two lines of quotes and orders
would get each other's answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import zmq

from livetrader_core.market.dwx.line import Address, Line


@dataclass(frozen=True)
class User:
    """What one user of a line is told: publications, and that the line was lost."""

    on_publication: Callable[[bytes], None]
    on_lost: Callable[[], None]


class Hub:
    """The line to ``address``; made anew after it was lost, when somebody asks for it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._users: list[User] = []
        self._context: zmq.Context[Any] = zmq.Context()
        self._line: Line | None = None
        self._opening = asyncio.Lock()

    async def line(self, timeout: float, hello: float) -> Line:
        """A working line. Raises Unavailable.

        ``timeout`` and ``hello`` (seconds) count if it is to be made.
        """
        async with self._opening:
            if self._line is not None and self._line.lost is None:
                return self._line
            if self._line is not None:
                await self._line.close()
            line = self._line = Line(
                self._context, self.address, timeout, hello, self._on_publication, self._on_lost
            )
            try:
                await line.open()
            except BaseException:
                await line.close()
                raise
            return line

    def join(self, user: User) -> None:
        """Tell ``user`` from now on."""
        self._users.append(user)

    async def leave(self, user: User) -> None:
        """Tell ``user`` no more; the last one closes the line."""
        if user not in self._users:
            return
        self._users.remove(user)
        if self._users:
            return
        _hubs().pop(self.address, None)
        if self._line is not None:
            await self._line.close()
        self._context.destroy(linger=0)

    def _on_publication(self, frame: bytes) -> None:
        for user in list(self._users):
            user.on_publication(frame)

    def _on_lost(self) -> None:
        for user in list(self._users):
            user.on_lost()


_HUBS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Address, Hub]] = WeakKeyDictionary()


def _hubs() -> dict[Address, Hub]:
    return _HUBS.setdefault(asyncio.get_running_loop(), {})


def hub_of(address: Address) -> Hub:
    """The hub to ``address`` in the running event loop."""
    hubs = _hubs()
    if address not in hubs:
        hubs[address] = Hub(address)
    return hubs[address]
