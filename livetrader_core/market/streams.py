"""From an adapter to whoever watches it: each closed kline once, in order, and the clock behind it.

An adapter may learn of the same kline many times and in any order (polling, history after a
reconnect, a venue that repeats itself); what leaves here ascends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial

from livetrader_core.models import Kline, Klines, Tick

Key = tuple[str, str]


class _Watcher:
    """One reader's items that it has not asked for yet."""

    def __init__(self, after: int, leave: Callable[[_Watcher], None]) -> None:
        self.after = after
        self.waiting: deque[Kline | Tick] = deque()
        self.arrived = asyncio.Event()
        self.idle = asyncio.Event()  # it asked for the next one while there was none
        self._leave = leave
        self._reader: asyncio.Task[object] | None = None

    def put(self, item: Kline | Tick) -> None:
        self.waiting.append(item)
        self.idle.clear()
        self.arrived.set()

    async def get(self) -> Kline | Tick:
        self._know_reader()
        while not self.waiting:
            self.idle.set()
            self.arrived.clear()
            await self.arrived.wait()
        return self.waiting.popleft()

    def _know_reader(self) -> None:
        task = asyncio.current_task()
        if task is not self._reader and task is not None:
            self._reader = task
            task.add_done_callback(self._reader_done)

    def _reader_done(self, task: asyncio.Task[object]) -> None:
        # Its generator lives on in the traceback of its error, and would hold up every moment. A
        # task that returned may have handed the stream on; the stack of a done task is that of
        # its error.
        if task is self._reader and (task.cancelled() or task.get_stack(limit=1)):
            self.close()

    def close(self) -> None:
        """Nothing more is wanted."""
        self.waiting.clear()
        self.idle.set()
        self._leave(self)


class Streams:
    """The klines, ticks and clock of one adapter. Belongs to one event loop."""

    def __init__(self) -> None:
        self._watchers: dict[Key, list[_Watcher]] = {}
        self._last: dict[Key, int] = {}
        self._clocks: list[asyncio.Queue[int]] = []
        self._settled = 0

    # ---- readers

    async def klines(self, symbol: str, timeframe: str, after: int) -> AsyncIterator[Kline]:
        """Klines that open after ``after`` (UTC ms), offered from the first reading on."""
        key = (symbol, timeframe)
        self._last.setdefault(key, after)
        async for item in self._read(key, after):
            assert isinstance(item, Kline)
            yield item

    async def ticks(self, symbol: str) -> AsyncIterator[Tick]:
        """Ticks from now on."""
        async for item in self._read((symbol, "tick")):
            assert isinstance(item, Tick)
            yield item

    async def _read(self, key: Key, after: int = 0) -> AsyncIterator[Kline | Tick]:
        watcher = _Watcher(after, partial(self._leave, key))
        self._watchers.setdefault(key, []).append(watcher)
        try:
            while True:
                yield await watcher.get()
        finally:
            watcher.close()

    def _leave(self, key: Key, watcher: _Watcher) -> None:
        others = self._watchers.get(key, [])
        if watcher in others:
            others.remove(watcher)
            if not others:
                del self._watchers[key]
                self._last.pop(key, None)

    async def clock(self) -> AsyncIterator[int]:
        """The moments given to :meth:`settle`."""
        queue: asyncio.Queue[int] = asyncio.Queue()
        self._clocks.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._clocks.remove(queue)

    # ---- the adapter's side

    def wanted(self) -> list[Key]:
        """(symbol, timeframe) of every kline stream that is watched."""
        return [key for key in self._watchers if key[1] != "tick"]

    def wanted_ticks(self) -> list[str]:
        """Symbols whose ticks are watched."""
        return [symbol for symbol, kind in self._watchers if kind == "tick"]

    def last(self, symbol: str, timeframe: str) -> int:
        """The open (UTC ms) of the last kline given, or the moment after which they are wanted."""
        return self._last.get((symbol, timeframe), 0)

    def offer(self, klines: Klines) -> int:
        """Give the closed ones of ``klines`` that are new; returns how many."""
        key = (klines.symbol, klines.timeframe)
        watchers = self._watchers.get(key)
        if not watchers:
            return 0
        given = 0
        for kline in klines:
            if not kline.closed or kline.datetime <= self._last[key]:
                continue
            self._last[key] = kline.datetime
            given += 1
            for watcher in watchers:
                if kline.datetime > watcher.after:
                    watcher.put(kline)
        return given

    def offer_tick(self, tick: Tick) -> None:
        """Give ``tick`` to whoever watches its symbol."""
        for watcher in self._watchers.get((tick.symbol, "tick"), []):
            watcher.put(tick)

    async def settle(self, moment: int) -> None:
        """Say, once all is read, that klines closing at or before ``moment`` (UTC ms) were offered.

        A moment that is not later than the last one is not said again.
        """
        if moment <= self._settled:
            return
        for watchers in list(self._watchers.values()):
            for watcher in list(watchers):
                if watcher.waiting or not watcher.idle.is_set():
                    await watcher.idle.wait()
        if moment > self._settled:  # a later one may have been said while this one waited
            self._settled = moment
            for queue in self._clocks:
                queue.put_nowait(moment)
