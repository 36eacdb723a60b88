"""The trading days of the Chinese exchanges, which a future's night session is reckoned by."""

from __future__ import annotations

import logging
from bisect import bisect_left
from datetime import date, timedelta
from functools import lru_cache

from livetrader_core.errors import ConfigError

log = logging.getLogger(__name__)

_CALENDAR = "XSHG"  # Shanghai's stocks; the futures exchanges keep the same holidays
_FIRST = "2004-01-01"  # the year the venue's labels count from


class TradingDays:
    """Which day trading was before a given one.

    Until it learns the days of a calendar, beyond them, and for a day that is none of them, only
    weekends are closed.
    """

    def __init__(self) -> None:
        self._days: list[date] = []
        self._warned = False

    def learn(self, days: list[date]) -> None:
        """``days`` are the trading days there are, ascending."""
        self._days = days

    def before(self, day: date) -> date:
        """The trading day before ``day``."""
        place = bisect_left(self._days, day)
        if 0 < place < len(self._days) and self._days[place] == day:
            return self._days[place - 1]
        if self._days and not self._warned:
            self._warned = True
            log.warning(
                "futures have bars of %s, which the calendar %s (%s to %s) does not have as a "
                "trading day: only weekends are taken for closed there. Update the package "
                "exchange_calendars, or set holidays = false for made-up data",
                *(day, _CALENDAR, self._days[0], self._days[-1]),
            )
        day -= timedelta(days=1)
        while day.weekday() >= 5:
            day -= timedelta(days=1)
        return day


@lru_cache(maxsize=1)
def exchange_days() -> list[date]:
    """The trading days from 2004 to as far as they are known. Takes seconds the first time.

    Raises ConfigError if the package is missing.
    """
    try:
        from exchange_calendars import get_calendar
    except ImportError as error:
        raise ConfigError(
            "TdxMarket needs exchange_calendars for futures: pip install 'livetrader[tdx]'"
        ) from error
    return [stamp.date() for stamp in get_calendar(_CALENDAR, start=_FIRST).sessions]
