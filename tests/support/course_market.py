"""A market whose prices take a course that is known beforehand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from livetrader_core.clock import Clock
from livetrader_core.errors import UnknownSymbol
from livetrader_core.market.base import MarketBase
from livetrader_core.models import Contract, Kline, Klines, market_of


class CourseMarket(MarketBase):
    """Gives the klines it is told to, and returns when all readers are done with them."""

    clocked = True

    def __init__(self, contracts: Iterable[Contract], clock: Clock) -> None:
        self._contracts = {contract.symbol: contract for contract in contracts}
        self._clock = clock
        self.markets = tuple(sorted({market_of(symbol) for symbol in self._contracts}))
        self._klines: list[tuple[str, asyncio.Queue[Kline]]] = []
        self._moments: list[asyncio.Queue[int]] = []

    async def connect(self) -> None:
        return

    async def disconnect(self) -> None:
        return

    def now(self) -> int:
        return self._clock.now()

    def watched(self, symbol: str) -> bool:
        """Whether anybody reads the klines of ``symbol``."""
        return any(read == symbol for read, _ in self._klines)

    async def give(self, klines: Iterable[Kline], moment: int) -> None:
        """Give klines that closed at ``moment`` (UTC ms), and the moment."""
        for kline in klines:
            for symbol, queue in list(self._klines):
                if symbol == kline.symbol:
                    queue.put_nowait(kline)
                    await _done(queue, lambda key=(symbol, queue): key in self._klines)
        for moments in list(self._moments):
            moments.put_nowait(moment)
            await _done(moments, lambda queue=moments: queue in self._moments)

    async def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        queue: asyncio.Queue[Kline] = asyncio.Queue()
        self._klines.append((symbol, queue))
        try:
            while True:
                yield await queue.get()
                queue.task_done()
        finally:
            self._klines.remove((symbol, queue))

    async def watch_clock(self) -> AsyncIterator[int]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        self._moments.append(queue)
        try:
            while True:
                yield await queue.get()
                queue.task_done()
        finally:
            self._moments.remove(queue)

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        return Klines.empty(symbol, timeframe)

    async def get_contract(self, symbol: str) -> Contract:
        try:
            return self._contracts[symbol]
        except KeyError:
            raise UnknownSymbol(f"{symbol}: no such symbol") from None

    async def list_symbols(self) -> list[str]:
        return sorted(self._contracts)


async def _done(queue: asyncio.Queue[Any], reads: Callable[[], bool]) -> None:
    """Return when the reader of ``queue`` is done with all of it, or has gone away."""
    joined = asyncio.ensure_future(queue.join())
    while not joined.done() and reads():
        await asyncio.wait([joined], timeout=0.01)
    joined.cancel()
    await asyncio.gather(joined, return_exceptions=True)
