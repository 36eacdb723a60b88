"""A stream of venue events with several readers, which can be waited for."""

from __future__ import annotations

import asyncio
from collections import deque

from livetrader_core.trade.base import VenueEvent


class EventStream:
    """Gives each event to every reader; :meth:`drained` waits until all are done with theirs."""

    def __init__(self) -> None:
        self._readers: list[EventReader] = []
        self._progress = asyncio.Event()

    def reader(self) -> EventReader:
        """A reader of everything from now on."""
        reader = EventReader(self)
        self._readers.append(reader)
        return reader

    def put(self, event: VenueEvent) -> None:
        """Give ``event`` to every reader."""
        for reader in self._readers:
            reader.push(event)

    async def drained(self) -> None:
        """Return when every reader is done with all it was given."""
        while any(reader.busy for reader in self._readers):
            self._progress.clear()
            await self._progress.wait()

    def close(self) -> None:
        """Let every reader end after what it was given."""
        for reader in self._readers:
            reader.end()
        self._readers = []
        self._progress.set()
        self._progress = asyncio.Event()  # the next run may have another event loop

    def leave(self, reader: EventReader) -> None:
        """``reader`` reads no more."""
        if reader in self._readers:
            self._readers.remove(reader)
        self._progress.set()

    def progressed(self) -> None:
        """A reader is done with something."""
        self._progress.set()


class EventReader:
    """An asynchronous iterator over the events of a stream; one that is dropped must be closed.

    Its user is done with an event when it asks for the next one.
    """

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream
        self._waiting: deque[VenueEvent] = deque()
        self._arrived = asyncio.Event()
        self._in_hand = False
        self._ended = False

    @property
    def busy(self) -> bool:
        """Whether there is something it is not done with."""
        return self._in_hand or bool(self._waiting)

    def push(self, event: VenueEvent) -> None:
        """Give it one more event."""
        self._waiting.append(event)
        self._arrived.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._arrived.set()

    async def aclose(self) -> None:
        """Read no more."""
        self._waiting.clear()
        self._in_hand = False
        self.end()
        self._stream.leave(self)

    def __aiter__(self) -> EventReader:
        return self

    async def __anext__(self) -> VenueEvent:
        self._in_hand = False
        self._stream.progressed()
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        self._in_hand = True
        return self._waiting.popleft()
