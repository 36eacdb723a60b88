"""Which bars a timeframe is made from, where a kline begins, and which klines are over."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from livetrader_core.market.aggregate import aggregate
from livetrader_core.market.metatrader.servertime import ServerTime
from livetrader_core.models import Floats, Ints, Klines
from livetrader_core.sessions import Sessions
from livetrader_core.timeframe import MINUTE_MS, duration_ms

log = logging.getLogger(__name__)

#: MetaTrader's timeframes that are asked for, in minutes; longer ones are made from these.
#: H4 and D1 are left out: they begin at the server's midnight, not at whole hours of UTC.
ASKED = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60}


def base_of(timeframe: str, grain: int) -> str:
    """What ``timeframe`` is made from, where server time is a multiple of ``grain`` ms off UTC."""
    length = duration_ms(timeframe)
    lengths = {name: duration_ms(name) for name in ASKED}
    return [name for name, part in lengths.items() if length % part == 0 and grain % part == 0][-1]


def opening(sessions: Sessions, timeframe: str, moment: int) -> int:
    """When the kline that holds ``moment`` (UTC ms) opens."""
    if timeframe == "1d":
        return sessions.open_of(sessions.trading_date(moment))
    return moment - moment % duration_ms(timeframe)


def last_closing(sessions: Sessions, timeframe: str, now: int) -> int:
    """The last moment up to ``now`` (UTC ms) at which klines close."""
    if timeframe == "1d":
        return sessions.close_of(sessions.previous_trading_day(sessions.trading_date(now)))
    return now - now % duration_ms(timeframe)


def gather(
    bars: Klines, timeframe: str, sessions: Sessions, now: int, late_ms: int, signed: int = 0
) -> tuple[Klines, int]:
    """``bars`` as klines of ``timeframe``, and how many of these are over at ``now`` (UTC ms).

    One is over when its time is and a later bar is there, or no tick of it can come any more:
    nothing before ``signed`` changes, and ``late_ms`` after its end nothing does.
    """
    klines = aggregate(bars, timeframe, sessions)
    ends = sessions.kline_ends(klines.datetime, timeframe)
    newest = max(signed, int(bars.datetime[-1]) if len(bars) else 0)
    over = (ends + late_ms <= now) | ((ends <= now) & (ends <= newest))
    return klines, int(over.sum())


def to_klines(
    symbol: str, base: str, server: Ints, columns: Sequence[Floats], zone: ServerTime
) -> Klines:
    """Bars that open at the server times ``server`` (ms), by UTC.

    ``columns``: open, high, low, close, tick volume. Bars in an hour that ``zone`` does not have
    are left out with a warning.
    """
    moments = zone.to_utc(server)
    columns = [*columns, np.zeros(len(server))]
    known = zone.exists(server)
    if not known.all():
        log.warning(
            "%s: %d bars lie in an hour that does not exist with time_zone=%r and are left "
            "out; if the broker's server is in another zone, name that",
            symbol,
            int((~known).sum()),
            zone.name,
        )
        moments, columns = moments[known], [column[known] for column in columns]
    return Klines.from_columns(symbol, base, moments, columns)


def open_start(sessions: Sessions, end: int, needed: int) -> int:
    """A moment before ``end`` such that the market was open for ``needed`` ms between them."""
    day = sessions.trading_date(end)
    found = 0
    needed += needed // 10 + 10 * MINUTE_MS  # minutes without a tick have no bar
    while True:
        for start, close in reversed(sessions.bounds(day)):
            found += max(0, min(close, end) - start)
            if found >= needed:
                return start + found - needed
        day = sessions.previous_trading_day(day)
