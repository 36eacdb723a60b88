"""Mt4Market against the compiled expert advisor on the simulated terminal."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

import pytest

from livetrader_core.market.base import MarketBase
from livetrader_core.market.mt4 import Mt4Market
from livetrader_core.sim.venue import Fault, FaultKind, SimulatedVenue
from tests.conformance.rig import Rig
from tests.ea.build import compiler
from tests.ea.terminal import EaTerminal
from tests.support.zmtp_relay import ZmtpRelay


class Mt4Rig(Rig):
    """Our own expert advisor, at a broker whose New York close is midnight."""

    name: ClassVar[str] = "mt4"
    kind: ClassVar[str] = "broker"
    decimals: ClassVar[int] = 8

    _venue: EaTerminal | None = None
    _market: Mt4Market | None = None
    _relays: tuple[ZmtpRelay, ...] = ()
    _files: tempfile.TemporaryDirectory[str] | None = None

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
        if compiler() is None:
            pytest.skip("g++ is needed to compile the expert advisor; install it (package g++)")
        self._files = tempfile.TemporaryDirectory(prefix="lt-ea")
        self._venue = EaTerminal(list(self.recordings.values()), self.clock, Path(self._files.name))
        await self._venue.start()
        ports = (self._venue.inputs["RequestPort"], self._venue.inputs["PublicationPort"])
        self._relays = tuple(ZmtpRelay(port) for port in ports)
        for relay in self._relays:
            await relay.start()
        requests, publications = (f"tcp://127.0.0.1:{relay.port}" for relay in self._relays)
        self._market = Mt4Market(
            requests,
            publications,
            timeout=1.0,
            connect_timeout=1.0,
            retry=0.02,
            longest_retry=0.1,
            clock=self.clock,
        )

    async def close(self) -> None:
        if self._market is not None:
            await self._market.disconnect()
        for relay in self._relays:
            await relay.stop()
        if self._venue is not None:
            await self._venue.stop()
        if self._files is not None:
            self._files.cleanup()

    def inject(self, fault: Fault) -> None:
        """Let ``fault`` happen; the advisor never repeats itself, but its line can."""
        if fault.kind is FaultKind.DUPLICATE:
            for relay in self._relays:
                relay.twice += fault.count
        else:
            super().inject(fault)
