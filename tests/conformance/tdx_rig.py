"""TdxMarket against the simulated TDX server."""

from __future__ import annotations

from collections.abc import Sequence

from livetrader_core.market.tdx import TdxMarket
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.tdx_server import TdxServer
from tests.conformance.rig import Rig


class TdxRig(Rig):
    """Volumes of days are in single shares here, so that they can be compared exactly."""

    name = "tdx"
    kind = "quotes"
    decimals = 4

    def __init__(self, recordings: Sequence[Recording], start: int) -> None:
        super().__init__(recordings, start)
        self._venue = TdxServer(recordings, self.clock, us_daily_lot=1)
        self._market: TdxMarket | None = None

    @staticmethod
    def symbols() -> list[str]:
        return ["US.BABA", "US.AAPL"]

    @property
    def venue(self) -> TdxServer:
        return self._venue

    @property
    def market(self) -> TdxMarket:
        assert self._market is not None, "open() first"
        return self._market

    async def open(self) -> None:
        await self._venue.start()
        self._market = TdxMarket(
            self._venue.endpoint,
            markets=sorted({symbol.partition(".")[0] for symbol in self.recordings}),
            delay_ms=0,
            us_daily_lot=1,
            holidays=False,
            timeout=0.3,
            connect_timeout=0.3,
            backoff=0.02,
            backoff_most=0.1,
            heartbeat=0.3,
            clock=self.clock,
        )

    async def close(self) -> None:
        if self._market is not None:
            await self._market.disconnect()
        await self._venue.stop()
