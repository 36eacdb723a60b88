"""ReplayMarket as its own venue: recorded klines, and a clock that a card moves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from livetrader_core.market.base import MarketBase
from livetrader_core.market.replay import ReplayMarket
from livetrader_core.market.sources import Source
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Contract, Klines
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.venue import SimulatedVenue
from livetrader_core.timeframe import MINUTE_MS
from tests.conformance.rig import Rig
from tests.conformance.table import REPLAY

#: Has a kline every minute: whoever reads it takes a replay from minute to minute.
_BEAT = "BINANCE.BEATUSDT"


class _Recorded(Source):
    """The rig's recordings and the beat."""

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self._recordings = {recording.symbol: recording for recording in recordings}

    def symbols(self) -> list[str]:
        return sorted([*self._recordings, _BEAT])

    def timeframes(self, symbol: str) -> set[str]:
        return {"1m"}

    def klines(self, symbol: str, timeframe: str, contract: Contract) -> Klines:
        if symbol != _BEAT:
            return self._recordings[symbol].klines
        first = min(int(r.klines.datetime[0]) for r in self._recordings.values())
        last = max(int(r.klines.datetime[-1]) for r in self._recordings.values())
        times = np.arange(first, last + MINUTE_MS, MINUTE_MS)
        ones = [np.ones(len(times))] * 6
        return Klines.from_columns(_BEAT, "1m", times, ones)

    def contract(self, symbol: str) -> Contract:
        if symbol in self._recordings:
            return self._recordings[symbol].contract
        return default_contract(symbol)


class SteppedReplay(ReplayMarket):
    """A replay as fast as it is read that stays at the moment it was last let go to."""

    def __init__(self, recordings: Sequence[Recording], start: int) -> None:
        super().__init__(_Recorded(recordings))
        self.target = start
        self._released = asyncio.Event()
        self._reached = asyncio.Event()
        self._readers: list[asyncio.Task[None]] = []

    async def connect(self) -> None:
        await super().connect()
        if self._readers:
            return
        self.begin(self.target // MINUTE_MS * MINUTE_MS)
        loop = asyncio.get_running_loop()
        self._readers = [loop.create_task(self._hold()), loop.create_task(self._beat())]
        await self._reached.wait()

    async def disconnect(self) -> None:
        readers, self._readers = self._readers, []
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        await super().disconnect()

    async def release(self, target: int) -> None:
        """Go on to the last whole minute up to ``target`` (UTC ms)."""
        self.target = max(target, self.target)
        if self._readers and self.now() + MINUTE_MS <= self.target:
            self._reached.clear()
            self._released.set()
            await self._reached.wait()

    async def _beat(self) -> None:
        async for _ in self.watch_klines(_BEAT):
            pass

    async def _hold(self) -> None:
        async for moment in self.watch_clock():
            while moment + MINUTE_MS > self.target:  # not done with it: the replay waits
                self._released.clear()
                self._reached.set()
                await self._released.wait()


class ReplayRig(Rig):
    """A replay is its own venue: there is no line, and no other side."""

    name = "replay"
    kind = REPLAY

    @staticmethod
    def symbols() -> list[str]:
        return ["FOREX.EURUSD", "SHFE.cu2605", "US.BABA"]

    @property
    def venue(self) -> SimulatedVenue:
        raise AssertionError("a replay has no venue beside it")

    @property
    def market(self) -> MarketBase:
        return self._market

    async def open(self) -> None:
        recordings = list(self.recordings.values())
        self._market = SteppedReplay(recordings, self.clock.now())

    async def close(self) -> None:
        await self._market.disconnect()

    async def advance(self, moment: int) -> None:
        await super().advance(moment)
        await self._market.release(moment)
