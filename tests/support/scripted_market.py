"""A market whose klines a test gives by hand, with a clock if it wants one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from livetrader_core.errors import UnknownSymbol
from livetrader_core.market.base import MarketBase
from livetrader_core.models import Contract, Kline, Klines, market_of
from livetrader_core.sessions import Sessions

#: Trades around the clock, every day: minutes need no calendar.
ALWAYS = Sessions(timezone="UTC", day=((0, 1440),), weekdays=(0, 1, 2, 3, 4, 5, 6))

#: A Monday, 00:00 UTC.
START = 1_735_689_600_000 + 5 * 86_400_000


def contract(symbol: str = "US.A", **changes: object) -> Contract:
    """A contract of whole units at a tick of 0.01, changed at will."""
    fields: dict[str, object] = {
        "symbol": symbol,
        "price_tick": 0.01,
        "quantity_step": 1.0,
        "min_quantity": 1.0,
        "multiplier": 1.0,
        "currency": "USD",
        "sessions": ALWAYS,
    }
    return Contract(**{**fields, **changes})  # type: ignore[arg-type]


def bar(
    minute: int,
    open: float,
    high: float,
    low: float,
    close: float,
    volume: float = 1000.0,
    symbol: str = "US.A",
    timeframe: str = "1m",
) -> Kline:
    """A kline that opens ``minute`` minutes after :data:`START`."""
    return Kline(symbol, timeframe, START + minute * 60_000, open, high, low, close, volume)


class ScriptedMarket(MarketBase):
    """Gives what the test feeds it, and returns when everyone has read it."""

    def __init__(self, contracts: Iterable[Contract], clocked: bool = True) -> None:
        self.contracts = {contract.symbol: contract for contract in contracts}
        self.markets = tuple(sorted({market_of(symbol) for symbol in self.contracts}))
        self.clocked = clocked
        self.time = START
        self._klines: dict[tuple[str, str], asyncio.Queue[object]] = {}
        self._clock: asyncio.Queue[object] = asyncio.Queue()

    async def connect(self) -> None:
        return

    async def disconnect(self) -> None:
        return

    async def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        async for kline in _drain(self._stream(symbol, timeframe)):
            assert isinstance(kline, Kline)
            yield kline

    async def watch_clock(self) -> AsyncIterator[int]:
        async for moment in _drain(self._clock):
            assert isinstance(moment, int)
            yield moment

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
            return self.contracts[symbol]
        except KeyError:
            raise UnknownSymbol(f"{symbol}: no such symbol") from None

    async def list_symbols(self) -> list[str]:
        return sorted(self.contracts)

    def now(self) -> int:
        return self.time

    async def moment(self, *klines: Kline) -> None:
        """Give klines that close at one time, and the clock where there is one."""
        for kline in klines:
            stream = self._stream(kline.symbol, kline.timeframe)
            await stream.put(kline)
            await stream.join()
        ends = [ALWAYS.kline_end(kline.datetime, kline.timeframe) for kline in klines]
        self.time = max([self.time, *ends])
        if self.clocked:
            await self._clock.put(self.time)
            await self._clock.join()

    def _stream(self, symbol: str, timeframe: str) -> asyncio.Queue[object]:
        return self._klines.setdefault((symbol, timeframe), asyncio.Queue())


async def _drain(queue: asyncio.Queue[object]) -> AsyncIterator[object]:
    while True:
        item = await queue.get()
        try:
            yield item  # the reader is done with it when it asks on
        finally:
            queue.task_done()
