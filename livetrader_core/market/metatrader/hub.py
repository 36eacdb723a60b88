"""One line to an expert advisor for all that use it in an event loop: quotes and orders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

import zmq

from livetrader_core.errors import Unavailable

Heard = TypeVar("Heard")


class AnyLine(Protocol):
    """A connection that works until it is lost; then a new one is made."""

    lost: Unavailable | None

    async def open(self) -> None:
        """Reach the advisor. Raises Unavailable."""
        ...

    async def close(self) -> None:
        """Close the sockets."""
        ...


LineT = TypeVar("LineT", bound=AnyLine)


@dataclass(frozen=True)
class User(Generic[Heard]):
    """What one user of a line is told: publications, and that the line was lost."""

    on_publication: Callable[[Heard], None]
    on_lost: Callable[[], None]


#: Makes a line of: context, seconds an answer may take and connecting may, and who is told.
MakeLine = Callable[
    ["zmq.Context[Any]", float, float, Callable[[Heard], None], Callable[[], None]], LineT
]


class Hub(Generic[LineT, Heard]):
    """The line to an address; made anew after it was lost, when somebody asks for it."""

    def __init__(self, address: Hashable, make: MakeLine[Heard, LineT]) -> None:
        self.address = address
        self._make = make
        self._users: list[User[Heard]] = []
        self._context: zmq.Context[Any] = zmq.Context()
        self._line: LineT | None = None
        self._opening = asyncio.Lock()

    async def line(self, timeout: float, hello: float) -> LineT:
        """A working line. Raises Unavailable.

        ``timeout`` and ``hello`` (seconds) count if it is to be made.
        """
        async with self._opening:
            if self._line is not None and self._line.lost is None:
                return self._line
            if self._line is not None:
                await self._line.close()
            line = self._line = self._make(
                self._context, timeout, hello, self._on_publication, self._on_lost
            )
            try:
                await line.open()
            except BaseException:
                await line.close()
                raise
            return line

    def join(self, user: User[Heard]) -> None:
        """Tell ``user`` from now on."""
        self._users.append(user)

    async def leave(self, user: User[Heard]) -> None:
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

    def _on_publication(self, heard: Heard) -> None:
        for user in list(self._users):
            user.on_publication(heard)

    def _on_lost(self) -> None:
        for user in list(self._users):
            user.on_lost()


_HUBS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Hub[Any, Any]]] = (
    WeakKeyDictionary()
)


def _hubs() -> dict[Hashable, Hub[Any, Any]]:
    return _HUBS.setdefault(asyncio.get_running_loop(), {})


def shared_hub(address: Hashable, make: MakeLine[Heard, LineT]) -> Hub[LineT, Heard]:
    """The hub to ``address`` in the running event loop."""
    hubs = _hubs()
    if address not in hubs:
        hubs[address] = Hub(address, make)
    return hubs[address]
