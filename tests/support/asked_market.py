"""A market that only has history, and notes what it is asked for."""

from __future__ import annotations

import numpy as np

from livetrader_core.errors import Unavailable
from livetrader_core.models import Contract, Klines
from tests.support.archive_market import ArchiveMarket


class AskedMarket(ArchiveMarket):
    """``time`` is the venue's; ``asked`` are the answered questions as (from, to) of minutes.

    ``down``: nothing is answered. ``fails_after``: how many questions are answered.
    """

    def __init__(self, contracts: list[Contract], klines: list[Klines], time: int) -> None:
        super().__init__(contracts, klines)
        self.time = time
        self.down = False
        self.fails_after: int | None = None
        self.asked: list[tuple[str, int, int]] = []

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        if self.down or self.fails_after == 0:
            raise Unavailable("the venue is away")
        if self.fails_after is not None:
            self.fails_after -= 1
        known = self._klines[symbol, timeframe]
        closed = known[: int(np.searchsorted(known.datetime, self.time - 60_000, side="right"))]
        self._klines[symbol, timeframe] = closed
        try:
            answer = await super().get_kline_histories(symbol, from_ts, limit, to_ts, timeframe)
        finally:
            self._klines[symbol, timeframe] = known
        start = -(2**62) if from_ts is None else from_ts
        if limit is not None and len(answer) == limit:
            start = int(answer.datetime[0])
        self.asked.append((symbol, start, 2**62 if to_ts is None else to_ts))
        return answer

    def now(self) -> int:
        return self.time

    def twice(self) -> list[tuple[str, int, int]]:
        """What was asked for more than once, as ranges of time."""
        found = []
        for i, (symbol, start, end) in enumerate(self.asked):
            for other, first, last in self.asked[:i]:
                if other == symbol and max(start, first) < min(end, last):
                    found.append((symbol, max(start, first), min(end, last)))
        return found
