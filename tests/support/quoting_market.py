"""A scripted market that also quotes, on a line that a test can cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from livetrader_core.errors import InvalidRequest, NotConnected
from livetrader_core.models import Contract, FeedState, Kline, Tick
from tests.support.scripted_market import START, ScriptedMarket


class QuotingMarket(ScriptedMarket):
    """Gives ticks (unless ``ticks`` is False), and knows who reads what."""

    def __init__(self, contracts: Iterable[Contract], ticks: bool = True) -> None:
        super().__init__(contracts, clocked=False)
        self.ticks = ticks
        self.readers: dict[str, asyncio.Queue[Tick | None]] = {}
        self.kline_readers: set[str] = set()

    def watch_ticks(self, symbol: str) -> AsyncIterator[Tick]:
        if not self.ticks:
            raise InvalidRequest(f"no ticks of {symbol}")
        return self._quotes(symbol)

    async def _quotes(self, symbol: str) -> AsyncIterator[Tick]:
        assert symbol not in self.readers, f"{symbol} is followed twice"
        queue = self.readers[symbol] = asyncio.Queue()
        try:
            while True:
                tick = await queue.get()
                try:
                    if tick is None:
                        raise NotConnected(f"the quotes of {symbol} broke off")
                    yield tick
                finally:
                    queue.task_done()
        finally:
            del self.readers[symbol]
            while not queue.empty():  # nobody will read it any more
                queue.get_nowait()
                queue.task_done()

    async def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        self.kline_readers.add(symbol)
        try:
            async for kline in super().watch_klines(symbol, timeframe):
                yield kline
        finally:
            self.kline_readers.discard(symbol)

    async def quote(
        self,
        last: float = 0.0,
        bid: float = 0.0,
        ask: float = 0.0,
        symbol: str = "US.A",
        at: int | None = None,
    ) -> None:
        """Give a tick, ``at`` a moment other than now; returns when it was read."""
        queue = self.readers[symbol]
        queue.put_nowait(Tick(symbol, self.time if at is None else at, last, bid, ask))
        await queue.join()

    async def break_off(self, symbol: str = "US.A") -> None:
        """End the stream of quotes with an error."""
        self.readers[symbol].put_nowait(None)
        await self.readers[symbol].join()

    def cut(self) -> None:
        """The line to the venue is down."""
        self._tell(FeedState.DISCONNECTED, "cut")

    def mend(self) -> None:
        """It is up again."""
        self._tell(FeedState.CONNECTED)

    def at(self, minute: float) -> int:
        """A moment so many minutes after the start (UTC ms)."""
        return START + int(minute * 60_000)
