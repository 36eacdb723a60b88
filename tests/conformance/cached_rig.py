"""CachedMarket over the plain venue, with a store of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path

from livetrader_core.market.base import MarketBase
from livetrader_core.market.cached import CachedMarket
from livetrader_core.sim.venue import SimulatedVenue
from tests.conformance.rig import Rig
from tests.conformance.table import QUOTES
from tests.support.plain_market import PlainMarket
from tests.support.plain_venue import PlainVenue


class CachedRig(Rig):
    """What passes the cards without a cache passes them with one."""

    name = "cached"
    kind = QUOTES

    @staticmethod
    def symbols() -> list[str]:
        return ["US.AAPL", "US.BABA"]

    @property
    def venue(self) -> SimulatedVenue:
        return self._venue

    @property
    def market(self) -> MarketBase:
        return self._market

    async def open(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._venue = PlainVenue(list(self.recordings.values()), self.clock)
        await self._venue.start()
        store = Path(self._folder.name) / "klines.duckdb"
        self._market = CachedMarket(PlainMarket(self._venue.port, self.clock), store)

    async def close(self) -> None:
        try:
            await self._market.disconnect()
        finally:
            await self._venue.stop()
            self._folder.cleanup()
