"""A TdxMarket connected to its simulated venue, and what tests do with the two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from livetrader_core.clock import SteppedClock
from livetrader_core.market.specs import default_contract
from livetrader_core.market.tdx import TdxMarket
from livetrader_core.models import Kline, Klines
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.tdx_server import TdxServer
from tests.market.samples import at, rising

#: Time-outs and pauses short enough for tests.
SHORT: dict[str, Any] = {
    "delay_ms": 0,
    "timeout": 0.3,
    "connect_timeout": 0.3,
    "backoff": 0.02,
    "backoff_most": 0.1,
}
OPEN = at("2020-11-02 09:30", "America/New_York")


def record(*klines: Klines) -> list[Recording]:
    """Recordings with the usual contracts."""
    return [Recording(default_contract(k.symbol), k) for k in klines]


def stocks(count: int = 390, start: int = OPEN) -> list[Recording]:
    """Two stocks whose prices tell them apart."""
    return record(
        rising("US.AAPL", start, count, price=100.0), rising("US.BABA", start, count, price=300.0)
    )


@asynccontextmanager
async def tdx(
    recordings: Sequence[Recording], now: int, **settings: Any
) -> AsyncIterator[tuple[TdxMarket, TdxServer, SteppedClock]]:
    """A connected adapter, its venue and the clock of both."""
    clock = SteppedClock(now)
    served = {
        name: settings.pop(name)
        for name in ("daily", "implausible_oldest", "keeps")
        if name in settings
    }
    server = TdxServer(recordings, clock, delay_ms=settings.get("delay_ms", 0), **served)
    await server.start()
    try:
        market = TdxMarket(server.endpoint, clock=clock, **{**SHORT, **settings})
        try:
            await market.connect()
            yield market, server, clock
        finally:
            await market.disconnect()
    finally:
        await server.stop()


class Reading:
    """What a stream gave so far."""

    def __init__(self, market: TdxMarket, symbol: str, timeframe: str = "1m") -> None:
        self.klines: list[Kline] = []
        self.task = asyncio.ensure_future(self._read(market.watch_klines(symbol, timeframe)))

    async def _read(self, stream: AsyncIterator[Kline]) -> None:
        async for kline in stream:
            self.klines.append(kline)

    @property
    def times(self) -> list[int]:
        return [kline.datetime for kline in self.klines]


@asynccontextmanager
async def reading(market: TdxMarket, *keys: tuple[str, str]) -> AsyncIterator[list[Reading]]:
    """Streams of (symbol, timeframe) that are being read."""
    streams = [Reading(market, *key) for key in keys]
    await asyncio.sleep(0)
    try:
        yield streams
    finally:
        for stream in streams:
            stream.task.cancel()
        await asyncio.gather(*(stream.task for stream in streams), return_exceptions=True)


class Stepper:
    """Moves the clock and waits until the market has given everything up to it."""

    def __init__(
        self,
        market: TdxMarket,
        clock: SteppedClock,
        on_moment: Callable[[int], None] = lambda moment: None,
    ) -> None:
        self._clock = clock
        self._on_moment = on_moment
        self.reached = 0
        self._changed = asyncio.Event()
        self._task = asyncio.ensure_future(self._follow(market))

    async def _follow(self, market: TdxMarket) -> None:
        try:
            async for moment in market.watch_clock():
                self._on_moment(moment)
                self.reached = moment
                self._changed.set()
        finally:
            self._changed.set()

    async def to(self, moment: int) -> None:
        """Set the clock to ``moment`` and wait until the market has reached it."""
        await asyncio.sleep(0)
        self._clock.advance(moment)
        while self.reached < moment and not self._task.done():
            self._changed.clear()
            await self._changed.wait()
        if self._task.done():
            self._task.result()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def stepping(
    market: TdxMarket,
    clock: SteppedClock,
    on_moment: Callable[[int], None] = lambda moment: None,
) -> AsyncIterator[Stepper]:
    """A Stepper that is closed in the end; ``on_moment`` hears of every moment reached."""
    stepper = Stepper(market, clock, on_moment)
    try:
        yield stepper
    finally:
        await stepper.close()


async def until(condition: Callable[[], object]) -> None:
    """Wait until ``condition`` holds, for 10 seconds at most."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen within 10 s")
