"""Recorded items given moment by moment: the clock and the streams of a replay."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from enum import Enum
from typing import Any, Generic, TypeVar

import numpy as np

from livetrader_core.errors import InvalidRequest
from livetrader_core.models import Ints

Item = TypeVar("Item")

_NEVER = 2**63 - 1
_CHUNK = 2048


class _Phase(Enum):
    ARCHIVE = "not begun"
    RUNNING = "running"
    ENDED = "over"


class Stream(AsyncIterator[Item], Generic[Item]):
    """What one consumer reads. It is done with an item when it asks for the next.

    Dropping it, :meth:`aclose`, or the end of the reading task by cancellation or an error takes
    it out of the replay.
    """

    def __init__(self, playback: Playback) -> None:
        self.channel: _Channel[Item] = _Channel(playback)

    def __aiter__(self) -> Stream[Item]:
        return self

    async def __anext__(self) -> Item:
        return await self.channel.get()

    async def aclose(self) -> None:
        """No more items are wanted."""
        self.channel.close()

    def __del__(self) -> None:
        self.channel.abandon()


class _Channel(Generic[Item]):
    """The replay's end of a stream: items given and not yet done with.

    ``owes`` is the moment of the oldest item that its reader is not done with.
    """

    def __init__(self, playback: Playback) -> None:
        self.playback = playback
        self.owes: int | None = None
        self.closed = False
        self._queue: deque[tuple[int, Item]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._reader: asyncio.Task[object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def put(self, moment: int, item: Item) -> None:
        if self.closed:
            return
        if self.owes is None:
            self.owes = moment
        self._queue.append((moment, item))
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> Item:
        if self._waiter is not None:
            raise InvalidRequest("this stream is already being read by another task")
        self._know_reader()
        while True:
            if self._queue:
                done, (self.owes, item) = self.owes, self._queue.popleft()
                if done != self.owes:
                    self.playback.progress()
                return item
            if self.owes is not None:
                self.owes = None
                self.playback.progress()
                continue
            if self.closed:
                raise StopAsyncIteration
            await self._wait()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._waiter = None

    def _know_reader(self) -> None:
        task = asyncio.current_task()
        if task is not self._reader and task is not None:
            self._reader = task
            self._loop = task.get_loop()
            task.add_done_callback(self._reader_done)
            self.playback.progress()  # a replay may have begun before there was a loop

    def _reader_done(self, task: asyncio.Task[object]) -> None:
        # A task that returned may have handed the stream on, as asyncio.wait_for does; the stack
        # of a done task is that of its error.
        if task is self._reader and (task.cancelled() or task.get_stack(limit=1)):
            self.close()

    def end(self) -> None:
        """Nothing more comes; what was given can still be read."""
        self.closed = True
        self.wake()

    def close(self) -> None:
        """Nothing more is wanted."""
        self._queue.clear()
        self.owes = None
        self.end()
        self.playback.remove(self)

    def abandon(self) -> None:
        """:meth:`close`, from wherever the garbage is collected."""
        if self.closed and self.owes is None:
            return
        if self._loop is None:
            self.close()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.close)


class Feed(Generic[Item]):
    """Recorded items in order. ``next`` is the moment at which the next one is given.

    ``moments`` says when each is given; ``rows(start, stop)`` makes the items of these rows.
    """

    def __init__(self, moments: Ints, rows: Callable[[int, int], Iterator[Item]]) -> None:
        self.next = _NEVER
        self._moments = moments
        self._rows = rows
        self._position = 0
        self._ends: Iterator[int] = iter(())
        self._items: Iterator[Item] = iter(())

    def seek(self, ts: int) -> None:
        """Go to the first item that is given after ``ts``."""
        self._fill(int(np.searchsorted(self._moments, ts, side="right")))

    def take(self) -> Item:
        """The next item."""
        item = next(self._items)
        self._position += 1
        following = next(self._ends, None)
        if following is None:
            self._fill(self._position)
        else:
            self.next = following
        return item

    def _fill(self, position: int) -> None:
        # Objects are made a piece at a time: by columns a year of klines is 25 MB, by objects 100.
        self._position = position
        self._ends = iter(self._moments[position : position + _CHUNK].tolist())
        self._items = self._rows(position, position + _CHUNK)
        self.next = next(self._ends, _NEVER)


class Playback:
    """The clock of a replay and whoever reads it.

    ``speed`` None: as fast as it is read. Each moment's items are given to the feeds' streams;
    when their readers are done, its time is given to the clock streams; when these are done too,
    the next moment comes. Otherwise moments come at ``speed`` times the pace of the recording,
    whether their readers are done or not.
    """

    def __init__(self, speed: float | None) -> None:
        self.speed = speed
        self._phase = _Phase.ARCHIVE
        self._clock = 0
        self._end = _NEVER
        self._began_at = 0.0
        self._start = 0
        self._feeds: dict[_Channel[Any], Feed[Any]] = {}
        self._clocks: list[_Channel[int]] = []
        #: Moments whose items were given, and whose time was not yet.
        self._untold: deque[int] = deque()
        self._told: int | None = None
        self._handle: asyncio.Handle | None = None

    # ---- for the market

    @property
    def begun(self) -> bool:
        """Whether there is a clock."""
        return self._phase is not _Phase.ARCHIVE

    def now(self) -> int:
        """The clock (UTC ms); at a finite speed it runs on between moments."""
        if self.speed is None or self._phase is not _Phase.RUNNING:
            return self._clock
        running = self._start + int((time.monotonic() - self._began_at) * 1000 * self.speed)
        return max(self._clock, min(running, self._end, self._next() - 1))

    def begin(self, start: int, end: int | None = None) -> None:
        """Set the clock to ``start``. Raises InvalidRequest if it was set before."""
        if self._phase is not _Phase.ARCHIVE:
            raise InvalidRequest(
                f"the replay is {self._phase.value} already; restart its server, or reconnect its "
                "market, to begin anew"
            )
        if end is not None and end < start:
            raise InvalidRequest(f"the replay would end at {end}, before its start at {start}")
        self._phase = _Phase.RUNNING
        self._clock = self._start = start
        self._end = _NEVER if end is None else end
        self._began_at = time.monotonic()
        for feed in self._feeds.values():
            feed.seek(start)
        self._untold.append(start)
        self.progress()

    def stop(self) -> None:
        """End every stream; there is no clock any more."""
        self._cancel()
        channels = [*self._feeds, *self._clocks]
        self._phase = _Phase.ARCHIVE
        self._feeds, self._clocks = {}, []
        self._untold.clear()
        self._told = None
        for channel in channels:
            channel.end()

    def watch(self, feed: Feed[Item]) -> Stream[Item]:
        """A stream of ``feed``'s items from now on."""
        stream: Stream[Item] = Stream(self)
        if self._phase is _Phase.ENDED:
            stream.channel.end()
            return stream
        self._feeds[stream.channel] = feed
        if self._phase is _Phase.RUNNING:
            feed.seek(self.now())
            self._cancel()
        self.progress()
        return stream

    def watch_clock(self) -> Stream[int]:
        """A stream of the clock, beginning with what it shows now."""
        stream: Stream[int] = Stream(self)
        if self._phase is _Phase.ENDED and not self._untold:
            stream.channel.end()
            return stream
        self._clocks.append(stream.channel)
        if self._told is not None:
            stream.channel.put(self._told, self._told)
        self.progress()
        return stream

    # ---- for the streams

    def remove(self, channel: _Channel[Any]) -> None:
        """``channel`` is read no more."""
        self._feeds.pop(channel, None)
        if channel in self._clocks:
            self._clocks.remove(channel)
        self._cancel()  # what is due next may have been its
        self.progress()

    def progress(self) -> None:
        """Go on if nobody has to be waited for."""
        if self._untold:
            self._tell()
        if self._phase is _Phase.RUNNING and self._handle is None:
            self._schedule()

    # ---- moments

    def _tell(self) -> None:
        """Give the time of each moment whose items have all been read."""
        owed = (channel.owes for channel in self._feeds if channel.owes is not None)
        oldest = min(owed, default=_NEVER)
        while self._untold and self._untold[0] < oldest:
            self._told = moment = self._untold.popleft()
            for channel in self._clocks:
                channel.put(moment, moment)
        if self._phase is _Phase.ENDED and not self._untold:
            self._end_clocks()

    def _schedule(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # the first reader brings a loop
        if self.speed is None:
            if self._all_idle():
                self._handle = loop.call_soon(self._step)
            return
        due = min(self._next(), self._end)
        if due == _NEVER and not self._feeds:
            return
        elapsed = time.monotonic() - self._began_at
        wait = 0.0 if due == _NEVER else (due - self._start) / 1000 / self.speed - elapsed
        self._handle = loop.call_later(max(wait, 0.0), self._step)

    def _all_idle(self) -> bool:
        """Whether something is watched and every reader is done with what it was given."""
        if self._untold or not self._feeds:
            return False
        for channel in self._feeds:
            if channel.owes is not None:
                return False
        return all(channel.owes is None for channel in self._clocks)

    def _step(self) -> None:
        """Give the next moment's items, or end."""
        self._handle = None
        if self.speed is None and not self._all_idle():
            return
        moment = self._next()
        if moment > self._end or moment == _NEVER:
            self._finish()
            return
        self._clock = moment
        for channel, feed in self._feeds.items():
            while feed.next == moment:
                channel.put(moment, feed.take())
        self._untold.append(moment)
        self.progress()

    def _next(self) -> int:
        return min((feed.next for feed in self._feeds.values()), default=_NEVER)

    def _finish(self) -> None:
        self._phase = _Phase.ENDED
        for channel in self._feeds:
            channel.end()
        self._tell()

    def _end_clocks(self) -> None:
        for channel in self._clocks:
            channel.end()

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
