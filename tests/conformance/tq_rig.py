"""TqMarket against a TqServer."""

from __future__ import annotations

from typing import Any

from livetrader_core.market.tq import TqMarket
from livetrader_core.sim.tq_server import TqServer
from tests.conformance.rig import Rig

USER, PASSWORD = "somebody", "a password"


class TqRig(Rig):
    """Futures: night sessions, and a TqApi in a thread."""

    name = "tq"
    kind = "quotes"

    _venue: TqServer | None = None
    _market: TqMarket | None = None

    @staticmethod
    def symbols() -> list[str]:
        return ["SHFE.cu2605", "DCE.m2605"]

    @property
    def venue(self) -> TqServer:
        assert self._venue is not None
        return self._venue

    @property
    def market(self) -> TqMarket:
        assert self._market is not None
        return self._market

    async def open(self) -> None:
        self._venue = TqServer(list(self.recordings.values()), self.clock, users={USER: PASSWORD})
        await self._venue.start()
        self._market = self.another()

    def another(self, **settings: Any) -> TqMarket:
        """One more adapter for the venue."""
        given: dict[str, Any] = {
            "user": USER,
            "password": PASSWORD,
            "auth_url": self.venue.auth_url,
            "md_url": self.venue.md_url,
            "reconnect_after": 0.05,
            "timeout": 10.0,
            "grace": 0.3,
            "clock": self.clock,
        }
        return TqMarket(**{**given, **settings})

    async def close(self) -> None:
        await self.market.disconnect()
        await self.venue.stop()
