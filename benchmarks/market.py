"""A market in memory that publishes what it is told to, when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import numpy as np

from livetrader_core.errors import UnknownSymbol
from livetrader_core.market.base import MarketBase
from livetrader_core.models import Contract, Kline, Klines
from livetrader_core.sessions import Sessions
from livetrader_core.timeframe import MINUTE_MS

ALWAYS = Sessions(timezone="UTC", day=((0, 1440),), weekdays=(0, 1, 2, 3, 4, 5, 6))
#: A midnight, UTC.
START = 1_735_689_600_000


def kline(symbol: str, minute: int) -> Kline:
    """The kline that opens ``minute`` minutes after :data:`START`."""
    price = 100.0 + minute % 97 / 10
    opened = START + minute * MINUTE_MS
    return Kline(symbol, "1m", opened, price, price + 0.5, price - 0.5, price + 0.1, 1000.0)


def klines(symbol: str, count: int) -> Klines:
    """``count`` klines by columns, a random walk on a tick of 0.01."""
    random = np.random.default_rng(1)
    close = np.round(100 + np.cumsum(random.normal(0, 0.02, count)), 2)
    opened = np.concatenate([[100.0], close[:-1]])
    return Klines(
        symbol,
        "1m",
        START + np.arange(count, dtype=np.int64) * MINUTE_MS,
        opened,
        np.maximum(opened, close) + 0.01,
        np.minimum(opened, close) - 0.01,
        close,
        np.round(random.uniform(1, 1000, count)),
    )


class BenchMarket(MarketBase):
    """``symbols`` of the market US, with ``count`` klines of history each.

    ``clocked``: every push is followed by the clock. ``begin(start, end)`` publishes the klines
    numbered start to end of the first symbol as fast as they are read.
    """

    markets = ("US",)

    def __init__(self, symbols: Iterable[str], count: int = 0, clocked: bool = False) -> None:
        self.symbols = list(symbols)
        self.clocked = clocked
        self._history = {symbol: klines(symbol, count) for symbol in self.symbols}
        self._streams: dict[str, asyncio.Queue[Kline]] = {}
        self._clock: asyncio.Queue[int] = asyncio.Queue()

    async def connect(self) -> None:
        """Nothing to reach."""

    async def disconnect(self) -> None:
        """Nothing to leave."""

    def push(self, *items: Kline) -> None:
        """Publish ``items`` (in the event loop's thread)."""
        for item in items:
            self._stream(item.symbol).put_nowait(item)
        if self.clocked and items:
            self._clock.put_nowait(items[-1].datetime + MINUTE_MS)

    def begin(self, start: int, end: int | None) -> None:
        """Publish the klines numbered ``start`` to ``end``."""
        for minute in range(start, end or start):
            self.push(kline(self.symbols[0], minute))

    async def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        """What is pushed."""
        stream = self._stream(symbol)
        while True:
            yield await stream.get()

    async def watch_clock(self) -> AsyncIterator[int]:
        """The close of what was pushed."""
        while True:
            yield await self._clock.get()

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        """The newest ``limit`` klines of history."""
        history = self._history[symbol]
        return history if limit is None else history[-limit:]

    async def get_contract(self, symbol: str) -> Contract:
        """A stock that always trades."""
        if symbol not in self.symbols:
            raise UnknownSymbol(f"{symbol}: no such symbol")
        return Contract(symbol, 0.01, 1.0, 1.0, 1.0, "USD", ALWAYS)

    async def list_symbols(self) -> list[str]:
        """All of them."""
        return list(self.symbols)

    def _stream(self, symbol: str) -> asyncio.Queue[Kline]:
        return self._streams.setdefault(symbol, asyncio.Queue())
