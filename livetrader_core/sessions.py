"""When a market trades, and which trading day a moment belongs to.

A trading day is written as an integer YYYYMMDD in the market's own calendar. Sessions are given
in minutes after local midnight of the trading day; a negative start lies on the calendar day
before (forex opens at 17:00 New York of the day before). A night session opens on the evening of
the *previous trading day* and may run past its midnight (Chinese futures: Friday's night session
belongs to Monday).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from livetrader_core.timeframe import duration_ms

Minutes = tuple[int, int]
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MONDAY_TO_FRIDAY = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Sessions:
    """Trading hours of one market.

    ``day`` and ``night`` hold (start, end) pairs in minutes after local midnight in ``timezone``.
    Public holidays are not known here: a holiday simply has no klines.
    """

    timezone: str
    day: tuple[Minutes, ...]
    night: tuple[Minutes, ...] = ()
    weekdays: tuple[int, ...] = _MONDAY_TO_FRIDAY

    def is_trading_day(self, day: date) -> bool:
        """Whether ``day`` is a trading day by its weekday."""
        return day.weekday() in self.weekdays

    def previous_trading_day(self, day: date) -> date:
        """The trading day before ``day``."""
        day -= timedelta(days=1)
        while not self.is_trading_day(day):
            day -= timedelta(days=1)
        return day

    def next_trading_day(self, day: date) -> date:
        """The trading day after ``day``."""
        day += timedelta(days=1)
        while not self.is_trading_day(day):
            day += timedelta(days=1)
        return day

    def bounds(self, day: date) -> tuple[Minutes, ...]:
        """The sessions of trading day ``day`` as (open, close) in UTC milliseconds, in order."""
        return _bounds(self, day)

    def open_of(self, day: date) -> int:
        """When trading day ``day`` opens, its night session included (UTC milliseconds)."""
        return self.bounds(day)[0][0]

    def close_of(self, day: date) -> int:
        """When trading day ``day`` is over (UTC milliseconds)."""
        return self.bounds(day)[-1][1]

    def trading_date(self, ts: int) -> date:
        """The trading day of a kline that opens at ``ts``: the first that is not yet over."""
        local = datetime.fromtimestamp(ts / 1000, ZoneInfo(self.timezone)).date()
        day = local - timedelta(days=1)
        while not self.is_trading_day(day) or self.close_of(day) <= ts:
            day += timedelta(days=1)
        return day

    def trading_day(self, ts: int) -> int:
        """The trading day of a kline that opens at ``ts``, as YYYYMMDD."""
        return as_yyyymmdd(self.trading_date(ts))

    def trading_days(self, ts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """:meth:`trading_day` of many ascending moments at once."""
        if not len(ts):
            return np.empty(0, np.int64)
        days, closes = [], []
        day = self.trading_date(int(ts[0]))
        while True:
            days.append(as_yyyymmdd(day))
            closes.append(self.close_of(day))
            if closes[-1] > int(ts[-1]):
                break
            day = self.next_trading_day(day)
        where = np.searchsorted(np.array(closes, np.int64), ts, side="right")
        return np.array(days, np.int64)[where]

    def is_open(self, ts: int) -> bool:
        """Whether the market trades at ``ts``."""
        return any(start <= ts < end for start, end in self.bounds(self.trading_date(ts)))

    def next_open(self, ts: int) -> int:
        """The moment at or after ``ts`` at which the market next trades (``ts`` if it is open)."""
        day = self.trading_date(ts)
        for start, end in self.bounds(day):
            if ts < end:
                return max(ts, start)
        return self.open_of(self.next_trading_day(day))

    def kline_end(self, ts: int, timeframe: str) -> int:
        """When the kline that opens at ``ts`` closes: a daily one with its trading day."""
        if timeframe == "1d":
            return self.close_of(self.trading_date(ts))
        return ts + duration_ms(timeframe)

    def kline_ends(self, ts: npt.NDArray[np.int64], timeframe: str) -> npt.NDArray[np.int64]:
        """:meth:`kline_end` of many ascending moments at once."""
        if timeframe == "1d":
            return np.array([self.kline_end(int(t), timeframe) for t in ts], np.int64)
        return ts + duration_ms(timeframe)


@lru_cache(maxsize=8192)
def _bounds(sessions: Sessions, day: date) -> tuple[Minutes, ...]:
    zone = ZoneInfo(sessions.timezone)
    evening = sessions.previous_trading_day(day) if sessions.night else day
    spans = [(evening, span) for span in sessions.night] + [(day, span) for span in sessions.day]
    return tuple(
        (_local_ms(zone, base, start), _local_ms(zone, base, end)) for base, (start, end) in spans
    )


def _local_ms(zone: ZoneInfo, day: date, minutes: int) -> int:
    # Wall-clock arithmetic on the naive local time, so that a session keeps its local hours
    # across a daylight-saving change.
    naive = datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)
    return round((naive.replace(tzinfo=zone) - _EPOCH).total_seconds() * 1000)


def as_yyyymmdd(day: date) -> int:
    """A date as the integer YYYYMMDD."""
    return day.year * 10_000 + day.month * 100 + day.day


def from_yyyymmdd(value: int) -> date:
    """The date behind the integer YYYYMMDD."""
    return date(value // 10_000, value // 100 % 100, value % 100)
