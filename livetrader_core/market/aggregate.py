"""Klines of a longer timeframe from those of a shorter one, by columns."""

from __future__ import annotations

import numpy as np

from livetrader_core.errors import UnknownTimeframe
from livetrader_core.models import Ints, Klines
from livetrader_core.sessions import Sessions, from_yyyymmdd
from livetrader_core.timeframe import duration_ms


def aggregate(klines: Klines, timeframe: str, sessions: Sessions) -> Klines:
    """``klines`` gathered into ``timeframe``, which must be a multiple of theirs.

    Up to ``4h`` a kline opens at a whole multiple of its length since the epoch (UTC); ``1d`` is
    one trading day of ``sessions`` and opens with it. Its volume is the sum, its open interest
    the last. A bucket without klines gives none. Raises UnknownTimeframe if it is no multiple.
    """
    length, base = duration_ms(timeframe), duration_ms(klines.timeframe)
    if timeframe == klines.timeframe:
        return klines
    if length < base or length % base:
        raise UnknownTimeframe(
            f"{klines.symbol}: {timeframe} cannot be made from {klines.timeframe} klines"
        )
    if not len(klines):
        return Klines.empty(klines.symbol, timeframe)
    daily = timeframe == "1d"
    key = sessions.trading_days(klines.datetime) if daily else klines.datetime // length
    first = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    last = np.r_[first[1:], len(key)] - 1
    return Klines(
        klines.symbol,
        timeframe,
        session_opens(key[first], sessions) if daily else key[first] * length,
        klines.open[first],
        np.maximum.reduceat(klines.high, first),
        np.minimum.reduceat(klines.low, first),
        klines.close[last],
        np.add.reduceat(klines.volume, first),
        klines.open_interest[last],
        trading_day=key[first] if daily else None,
    )


def session_opens(trading_days: Ints, sessions: Sessions) -> Ints:
    """When each of ``trading_days`` (YYYYMMDD) opens, in UTC milliseconds."""
    opens = [sessions.open_of(from_yyyymmdd(int(day))) for day in trading_days]
    return np.array(opens, np.int64)
