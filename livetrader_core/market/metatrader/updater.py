"""Klines for those who watch: read from the terminal's history once their time is over.

What an advisor publishes is a sign that something is over, and no more: what is given is read from
the terminal's history, or from what was heard of it without a hole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from livetrader_core.clock import Clock
from livetrader_core.market.metatrader.bars import base_of, gather, last_closing, opening
from livetrader_core.market.metatrader.lag import FeedLag
from livetrader_core.market.metatrader.zonecheck import ZoneCheck
from livetrader_core.market.streams import Streams
from livetrader_core.models import Klines
from livetrader_core.sessions import Sessions
from livetrader_core.timeframe import MINUTE_MS

Key = tuple[str, str]

#: How often a stream is asked for while its market is closed by its sessions (venue's time).
_IDLE_MS = 15 * MINUTE_MS


class Source(Protocol):
    """A terminal's bars; all times are UTC ms. Its methods raise Unavailable."""

    async def before(
        self, symbol: str, base: str, end: int, start: int | None, count: int | None
    ) -> Klines:
        """Bars that open up to ``end``: back to ``start``, or at least ``count``, or all.

        Bars before ``start`` or beyond ``count`` may be among them.
        """
        ...

    async def since(
        self, symbol: str, base: str, need: int, closing: int, now: int
    ) -> Klines | None:
        """Every bar that opens from ``need`` on, and perhaps some before.

        ``closing``: those up to there are wanted. None if the terminal has none at all.
        """
        ...


class Updater:
    """Brings watched streams up to date.

    ``late_ms``: how long ticks of a minute may come late, beside the ``lag`` of all quotes.
    """

    def __init__(
        self,
        streams: Streams,
        source: Source,
        check: ZoneCheck,
        sessions: Callable[[str], Sessions],
        grain: int,
        late_ms: int,
        lag: FeedLag | None,
        clock: Clock,
    ) -> None:
        self._streams = streams
        self._source = source
        self._check = check
        self._sessions = sessions
        self._grain = grain
        self._least_late_ms = late_ms
        self._lag = lag
        self._clock = clock
        self._asked: dict[Key, int] = {}
        self._barren: dict[str, int] = {}
        self._signs: dict[str, int] = {}

    def sign(self, symbol: str, moment: int, heard: int | None = None) -> bool:
        """Nothing before ``moment`` (UTC ms) of ``symbol`` can change; returns whether that is new.

        ``heard``: when the first quote at or after that moment came, if that is what told it.
        """
        new = moment > self._signs.get(symbol, 0)
        if new:
            self._signs[symbol] = moment
            if self._lag is not None and heard is not None:
                self._lag.saw(moment, heard)
        return new

    def signed(self, symbol: str) -> int:
        """The moment (UTC ms) before which nothing of ``symbol`` can change, as far as was told."""
        return self._signs.get(symbol, 0)

    @property
    def late_ms(self) -> int:
        """How long after a bar's end a tick of it may still come."""
        return self._least_late_ms + (0 if self._lag is None else self._lag.ms)

    def next_due(self, now: int) -> int:
        """The next moment after ``now`` at which something may be over."""
        minute = now - now % MINUTE_MS
        late = minute + self.late_ms
        return late if now < late else minute + MINUTE_MS

    async def update(self, now: int) -> None:
        """Give what closed up to ``now``, in the order of its closing. Raises Unavailable."""
        complete = now - now % MINUTE_MS
        news: list[Klines] = []
        asked: dict[Key, int] = {}
        for key in self._streams.wanted():
            symbol, timeframe = key
            sessions, before = self._sessions(symbol), self._asked.get(key, 0)
            closing = last_closing(sessions, timeframe, now)
            if closing > before and not self._over(symbol, closing, now):
                complete = min(complete, closing - MINUTE_MS)
                closing = last_closing(sessions, timeframe, closing - 1)
            if closing > before and self._worth_asking(key, closing, now):
                klines, over = await self._news(symbol, timeframe, closing, now)
                news.append(klines)
                if over:
                    asked[key] = closing
                else:
                    complete = min(complete, closing - MINUTE_MS)
        self._asked.update(asked)
        await self._give(news, complete)

    def _over(self, symbol: str, closing: int, now: int) -> bool:
        """Whether no tick can come any more for what closes at ``closing``."""
        return now >= closing + self.late_ms or self.signed(symbol) >= closing

    def _worth_asking(self, key: Key, closing: int, now: int) -> bool:
        symbol, before = key[0], self._asked.get(key, 0)
        if self.signed(symbol) >= before:
            return True
        if now < self._barren.get(symbol, 0):
            return False
        return self._sessions(symbol).next_open(before) < closing or closing - before >= _IDLE_MS

    async def _news(
        self, symbol: str, timeframe: str, closing: int, now: int
    ) -> tuple[Klines, bool]:
        """Klines of a stream that are over and were not given yet; whether all to ``closing``."""
        base, sessions = base_of(timeframe, self._grain), self._sessions(symbol)
        need = opening(sessions, timeframe, self._streams.last(symbol, timeframe) + 1)
        signed = self.signed(symbol)  # what is told from here on may not be in the answer yet
        bars = await self._source.since(symbol, base, need, closing, now)
        if bars is None:
            self._barren[symbol] = now + _IDLE_MS
            bars = Klines.empty(symbol, base)
        if len(bars):
            self._check.newest(int(bars.datetime[-1]), self._clock.now())
        newest = max(signed, int(bars.datetime[-1]) if len(bars) else 0)
        bars = bars[int(np.searchsorted(bars.datetime, need)) :]
        klines, closed = gather(bars, timeframe, sessions, now, self.late_ms, signed)
        return klines[:closed], newest >= closing or now >= closing + self.late_ms

    async def _give(self, news: list[Klines], complete: int) -> None:
        ends = [
            self._sessions(klines.symbol).kline_ends(klines.datetime, klines.timeframe)
            for klines in news
        ]
        given = [0] * len(news)
        for moment in np.unique(np.concatenate([np.empty(0, np.int64), *ends])).tolist():
            for index, klines in enumerate(news):
                last = int(np.searchsorted(ends[index], moment, side="right"))
                if last > given[index]:
                    self._streams.offer(klines[given[index] : last])
                    given[index] = last
            if moment <= complete:
                await self._streams.settle(moment)
        await self._streams.settle(complete)
