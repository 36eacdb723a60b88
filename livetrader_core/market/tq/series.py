"""Which bars are closed: the rule, and the bars of one stream that wait for it.

A bar counts as closed as soon as one of these is so:

1. The venue sent a later bar of the same series.
2. The venue's own quotes of the symbol have reached the bar's end. Outside its sessions a symbol
   has no quotes; a quote at or after the end of a session therefore speaks for the whole break.
   This closes the last bar before a break and bars of symbols that nobody trades.
3. ``grace`` after the bar's end (venue time) no quote has come, and a question asked then was
   answered: what was sent before the answer has arrived. This closes bars on days on which the
   exchange is shut, and where the closing quote is missing.

The clock alone never closes a bar: a line that has stalled would give half a bar as a whole one.
"""

from __future__ import annotations

from collections.abc import Iterable

from livetrader_core.models import Kline
from livetrader_core.sessions import Sessions


def known_until(heard: int, now: int, sessions: Sessions) -> int:
    """Up to which moment (UTC ms) everything of a symbol has come, if it was heard at ``heard``."""
    if not heard:
        return 0
    if heard < now and not sessions.is_open(heard):
        heard = sessions.next_open(heard)
    return min(heard, now)


class Series:
    """Bars of one stream that were not given yet, oldest first; the last may still form."""

    def __init__(self, symbol: str, timeframe: str, sessions: Sessions, after: int) -> None:
        self.symbol = symbol
        self.timeframe = timeframe
        self.sessions = sessions
        #: The open (UTC ms) of the last bar that was given.
        self.given = after
        #: Whether its bars came over the line that is now in use.
        self.synced = False
        self._bars: list[Kline] = []

    def merge(self, bars: Iterable[Kline]) -> None:
        """Take bars in order, new ones and ones that have changed."""
        for bar in bars:
            if bar.datetime <= self.given:
                continue
            while self._bars and self._bars[-1].datetime >= bar.datetime:
                self._bars.pop()
            self._bars.append(bar)

    def end(self, bar: Kline) -> int:
        """When ``bar`` closes (UTC ms)."""
        return self.sessions.kline_end(bar.datetime, self.timeframe)

    def take(self, known: int) -> list[Kline]:
        """The bars that are closed, everything up to ``known`` (UTC ms) having come."""
        closed = len(self._bars) - 1 if self._bars else 0
        if self._bars and self.end(self._bars[-1]) <= known:
            closed += 1
        taken, self._bars = self._bars[:closed], self._bars[closed:]
        if taken:
            self.given = taken[-1].datetime
        return taken
