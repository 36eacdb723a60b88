"""DwxMarket against the simulated MetaTrader 4 terminal."""

from __future__ import annotations

from typing import ClassVar

from livetrader_core.market.base import MarketBase
from livetrader_core.market.dwx import DwxMarket
from livetrader_core.sim.mt4_terminal import Mt4Terminal
from livetrader_core.sim.venue import SimulatedVenue
from tests.conformance.rig import Rig


class DwxRig(Rig):
    """The current build of the expert advisor, at a broker whose New York close is midnight."""

    name: ClassVar[str] = "dwx"
    kind: ClassVar[str] = "broker"
    decimals: ClassVar[int] = 8
    build: ClassVar[str] = "current"

    _venue: Mt4Terminal | None = None
    _market: DwxMarket | None = None

    @staticmethod
    def symbols() -> list[str]:
        return ["FOREX.EURUSD", "FOREX.USDJPY"]

    @property
    def venue(self) -> SimulatedVenue:
        assert self._venue is not None
        return self._venue

    @property
    def market(self) -> MarketBase:
        assert self._market is not None
        return self._market

    async def open(self) -> None:
        self._venue = Mt4Terminal(
            list(self.recordings.values()), self.clock, build=self.build, freeze=0.0
        )
        await self._venue.start()
        self._market = DwxMarket(
            push_port=self._venue.push_port,
            pull_port=self._venue.pull_port,
            sub_port=self._venue.sub_port,
            symbols=list(self.recordings),
            timeout=1.0,
            connect_timeout=1.0,
            retry=0.02,
            longest_retry=0.1,
            heartbeat=0.2,
            clock=self.clock,
        )

    async def close(self) -> None:
        if self._market is not None:
            await self._market.disconnect()
        if self._venue is not None:
            await self._venue.stop()


class PatchedDwxRig(DwxRig):
    """An older, patched build: another separator, the forming bar at every tick."""

    name: ClassVar[str] = "dwx-patched"
    build: ClassVar[str] = "patched"
