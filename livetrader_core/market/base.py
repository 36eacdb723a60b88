"""What a market adapter is: one venue's klines, ticks and contracts.

| method                 | required | what it gives                                              |
|------------------------|----------|------------------------------------------------------------|
| ``connect``            | yes      | a working connection, or an error                          |
| ``disconnect``         | yes      | nothing left behind: no task, thread or socket             |
| ``watch_klines``       | yes      | each closed kline once, in order                           |
| ``get_kline_histories``| yes      | closed klines by time or by count                          |
| ``get_contract``       | yes      | what one unit of the symbol is                             |
| ``list_symbols``       | yes      | the symbols it has                                         |
| ``watch_ticks``        | no       | quotes as they come                                        |
| ``watch_clock``        | no       | up to which moment every kline was given (``clocked``)     |
| ``now``                | no       | the venue's time, if it is not the computer's              |
| ``diagnose``           | no       | what only it can tell `livetrader doctor`                  |
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable

from livetrader_core.errors import InvalidRequest
from livetrader_core.market.finding import Finding
from livetrader_core.models import Contract, FeedState, Kline, Klines, Tick


class MarketBase(ABC):
    """Market data of one venue.

    A consumer of an iterator is done with an item when it asks for the next one; a market that
    can wait (``paced``) does so, and thus never outruns whoever reads it.
    """

    #: MARKET codes it serves, such as ``("US",)``.
    markets: tuple[str, ...] = ()
    #: Whether :meth:`watch_clock` says up to which moment everything was given.
    clocked: bool = False
    #: Whether the stream waits for its consumers (a replay as fast as it is read).
    paced: bool = False
    #: Whether its time runs; False for a recording that waits to be begun.
    begun: bool = True
    #: How late the venue's klines come by design, in milliseconds.
    delay_ms: int = 0
    #: Called with every change of the line to the venue, and why; MarketService sets it.
    on_state: Callable[[FeedState, str], None] | None = None

    def _tell(self, state: FeedState, reason: str = "") -> None:
        if self.on_state is not None:
            self.on_state(state, reason)

    @abstractmethod
    async def connect(self) -> None:
        """Reach the venue. Raises :class:`~livetrader_core.errors.Unavailable` if it can't."""

    @abstractmethod
    async def disconnect(self) -> None:
        """Leave the venue; may be called more than once."""

    @abstractmethod
    def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        """Closed klines from now on, each once and in order; it ends when nothing more can come."""

    @abstractmethod
    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        """Closed klines that open in [``from_ts``, ``to_ts``), the newest ``limit`` of them.

        ``forming`` adds the unfinished one, if there is one, as the last row. Raises
        UnknownSymbol, UnknownTimeframe, InvalidRequest, Unavailable.
        """

    @abstractmethod
    async def get_contract(self, symbol: str) -> Contract:
        """The contract of ``symbol``. Raises UnknownSymbol."""

    @abstractmethod
    async def list_symbols(self) -> list[str]:
        """The symbols it has, sorted."""

    def watch_ticks(self, symbol: str) -> AsyncIterator[Tick]:
        """Quotes from now on. Raises InvalidRequest where the venue gives none."""
        raise InvalidRequest(f"{type(self).__name__} has no ticks ({symbol})")

    async def watch_clock(self) -> AsyncIterator[int]:
        """Moments (UTC ms), ascending: all klines closing at or before each were given *and read*.

        Only for a ``clocked`` market; it ends when the venue's stream is over.
        """
        return
        yield 0  # makes this an asynchronous generator

    async def diagnose(self) -> list[Finding]:
        """What it can tell of its venue besides what every market is asked.

        Called when everything else was asked, or after :meth:`connect` failed.
        """
        return []

    def now(self) -> int:
        """The venue's time in UTC milliseconds."""
        return time.time_ns() // 1_000_000
