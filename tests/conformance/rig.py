"""What a conformance card has in hand: one adapter, its simulated venue, and the venue's clock."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from livetrader_core.clock import SteppedClock
from livetrader_core.market.base import MarketBase
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.venue import Fault, SimulatedVenue


class Rig(ABC):
    """An adapter against its simulated venue, whose time stands until a card moves it.

    ``recordings`` hold klines before and after ``start``; a card only uses symbols from
    :meth:`symbols`, which the adapter's venue can have.
    """

    #: Name of the adapter as it is registered.
    name: ClassVar[str]
    #: The kind of venue, which decides which cards are mandatory: quotes, broker or replay.
    kind: ClassVar[str]
    #: Decimals to which prices survive the venue's wire.
    decimals: ClassVar[int] = 9

    def __init__(self, recordings: Sequence[Recording], start: int) -> None:
        self.recordings = {recording.symbol: recording for recording in recordings}
        self.clock = SteppedClock(start)

    @staticmethod
    @abstractmethod
    def symbols() -> list[str]:
        """Symbols to record klines of, at least two, such as ``["US.BABA", "US.AAPL"]``."""

    @property
    @abstractmethod
    def venue(self) -> SimulatedVenue:
        """The simulated venue, started by :meth:`open`."""

    @property
    @abstractmethod
    def market(self) -> MarketBase:
        """The adapter, with short back-off times, not connected by :meth:`open`."""

    @abstractmethod
    async def open(self) -> None:
        """Start the venue on free ports and make the adapter for it."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect the adapter and stop the venue."""

    def inject(self, fault: Fault) -> None:
        """Let ``fault`` happen at the venue."""
        self.venue.inject(fault)

    async def advance(self, moment: int) -> None:
        """Set the venue's time to ``moment`` (UTC ms)."""
        self.clock.advance(moment)
