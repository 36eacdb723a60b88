"""A contract's sessions as the trading calendar that backtrader's resampler asks.

With it daily bars follow the trading day: a forex day ends at 17:00 New York, a night session
counts to the day after, whatever date the clock shows.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import backtrader as bt

from livetrader_core.sessions import Sessions


class SessionCalendar(bt.TradingCalendarBase):
    """backtrader's calendar over :class:`livetrader_core.sessions.Sessions`."""

    params = (("sessions", None),)

    def schedule(self, day: datetime, tz: Any = None) -> tuple[datetime, datetime]:
        """Open and close, in naive UTC, of the trading day that the UTC moment ``day`` is in.

        The close belongs to the day it ends.
        """
        sessions: Sessions = self.p.sessions
        ts = round(day.replace(tzinfo=timezone.utc).timestamp() * 1000)
        trading_date = sessions.trading_date(ts - 1)
        return _naive(sessions.open_of(trading_date)), _naive(sessions.close_of(trading_date))

    def _nextday(self, day: Any) -> tuple[Any, tuple[int, int, int]]:
        sessions: Sessions = self.p.sessions
        as_date = day.date() if isinstance(day, datetime) else day
        following = sessions.next_trading_day(as_date)
        year, week, weekday = following.isocalendar()
        return following, (year, week, weekday)


def _naive(ts: int) -> datetime:
    return datetime.fromtimestamp(ts / 1000, timezone.utc).replace(tzinfo=None)
