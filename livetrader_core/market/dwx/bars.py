"""Which bars a timeframe is made from, where a kline begins, and which klines are over."""

from __future__ import annotations

from livetrader_core.market.aggregate import aggregate
from livetrader_core.models import Klines
from livetrader_core.sessions import Sessions
from livetrader_core.timeframe import duration_ms

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
    bars: Klines, timeframe: str, sessions: Sessions, now: int, late_ms: int
) -> tuple[Klines, int]:
    """``bars`` as klines of ``timeframe``, and how many of these are over at ``now`` (UTC ms).

    One is over when its time is and a later bar is there, or no tick of it can come any more.
    """
    klines = aggregate(bars, timeframe, sessions)
    ends = sessions.kline_ends(klines.datetime, timeframe)
    newest = int(bars.datetime[-1]) if len(bars) else 0
    over = (ends + late_ms <= now) | ((ends <= now) & (ends <= newest))
    return klines, int(over.sum())
