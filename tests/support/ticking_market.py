"""A market that closes a synthetic one-minute kline every few milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import numpy as np

from livetrader_core.errors import UnknownSymbol
from livetrader_core.market.base import MarketBase
from livetrader_core.models import Contract, Kline, Klines, market_of
from tests.support.scripted_market import START, contract

MINUTE = 60_000


def tick_kline(symbol: str, number: int) -> Kline:
    """The kline that opens ``number`` minutes after START; every field tells which it is."""
    price = 100.0 + number / 8 + len(symbol)
    ts = START + number * MINUTE
    return Kline(symbol, "1m", ts, price, price + 0.5, price - 0.25, price + 0.125, float(number))


class TickingMarket(MarketBase):
    """Closes a kline of every symbol each ``interval`` seconds, or when a test says so.

    ``history`` klines have closed before it starts. ``lag``: how many klines its history is behind
    what it publishes; negative: ahead.
    """

    def __init__(
        self,
        symbols: Iterable[str] = ("US.A",),
        interval: float = 0.0,
        history: int = 20,
        lag: int = 0,
        clocked: bool = True,
    ) -> None:
        self.symbols = list(symbols)
        self.interval = interval
        self.lag = lag
        self.clocked = clocked
        self.markets = tuple(sorted({market_of(symbol) for symbol in self.symbols}))
        #: Klines closed so far, of each symbol.
        self.count = history
        self._queues: list[tuple[str, asyncio.Queue[Kline]]] = []
        self._clock: asyncio.Queue[int] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        if self.interval:
            self._task = asyncio.get_running_loop().create_task(self._tick())

    async def disconnect(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self.interval)
            await self.close_one()

    def pause(self) -> None:
        """Close no more klines by itself."""
        if self._task is not None:
            self._task.cancel()

    async def close_one(self, count: int = 1) -> None:
        """Close ``count`` klines of every symbol; returns when they were published."""
        for _ in range(count):
            number = self.count
            self.count += 1
            for symbol, queue in self._queues:
                queue.put_nowait(tick_kline(symbol, number))
            for _, queue in self._queues:
                await queue.join()
            if self.clocked:
                self._clock.put_nowait(START + (number + 1) * MINUTE)
                await self._clock.join()

    async def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        queue: asyncio.Queue[Kline] = asyncio.Queue()
        self._queues.append((symbol, queue))
        try:
            while True:
                yield await queue.get()
                queue.task_done()
        finally:
            self._queues.remove((symbol, queue))

    async def watch_clock(self) -> AsyncIterator[int]:
        while True:
            yield await self._clock.get()
            self._clock.task_done()

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        await self.get_contract(symbol)
        numbers = np.arange(max(0, self.count - self.lag))
        times = START + numbers * MINUTE
        wanted = (times >= (from_ts or 0)) & (times < (to_ts or 2**62))
        chosen = numbers[wanted][-limit if limit else None :]
        return Klines.of(symbol, timeframe, (tick_kline(symbol, int(n)) for n in chosen))

    async def get_contract(self, symbol: str) -> Contract:
        if symbol not in self.symbols:
            raise UnknownSymbol(f"{symbol}: no such symbol")
        return contract(symbol)

    async def list_symbols(self) -> list[str]:
        return sorted(self.symbols)
