"""The plain venue and its adapter as a rig: what cards are proved with."""

from __future__ import annotations

from typing import ClassVar

from livetrader_core.market.base import MarketBase
from livetrader_core.sim.venue import SimulatedVenue
from tests.conformance.rig import Rig
from tests.conformance.table import QUOTES
from tests.support.plain_market import PlainMarket
from tests.support.plain_venue import PlainVenue


class PlainRig(Rig):
    """``adapter`` may be a mutant of :class:`PlainMarket`."""

    name = "plain"
    kind = QUOTES
    adapter: ClassVar[type[PlainMarket]] = PlainMarket

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
        self._venue = PlainVenue(list(self.recordings.values()), self.clock)
        await self._venue.start()
        self._market = self.adapter(self._venue.port, self.clock)

    async def close(self) -> None:
        try:
            await self._market.disconnect()
        finally:
            await self._venue.stop()
