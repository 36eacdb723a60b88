"""Ranges of time: sorted, apart from one another, each from inclusive to exclusive (UTC ms)."""

from __future__ import annotations

from collections.abc import Iterable

from livetrader_core.sessions import Sessions
from livetrader_core.timeframe import duration_ms

Range = tuple[int, int]


def union(ranges: Iterable[Range]) -> list[Range]:
    """``ranges`` in order, those that overlap or touch made one; empty ones are left out."""
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def subtract(ranges: Iterable[Range], start: int, end: int) -> list[Range]:
    """``ranges`` without [``start``, ``end``)."""
    rest = []
    for first, last in ranges:
        rest += [(first, min(last, start)), (max(first, end), last)]
    return union(rest)


def holding(ranges: Iterable[Range], moment: int) -> Range | None:
    """The one of ``ranges`` that holds the millisecond before ``moment``."""
    return next((r for r in ranges if r[0] < moment <= r[1]), None)


def last_end_before(ranges: Iterable[Range], moment: int) -> int | None:
    """The last end of ``ranges`` that lies before ``moment``."""
    return max((end for _, end in ranges if end < moment), default=None)


def trades_within(sessions: Sessions, timeframe: str, start: int, end: int) -> bool:
    """Whether a kline of ``timeframe`` that opens in [``start``, ``end``) could hold a trade."""
    reach = end if timeframe == "1m" else end + duration_ms(timeframe)
    return sessions.next_open(start) < reach


def closed_until(sessions: Sessions, now: int, timeframe: str) -> int:
    """Klines that open before this moment are over at ``now``; those that open later are not."""
    if timeframe == "1d":
        return sessions.open_of(sessions.trading_date(now))
    return now - duration_ms(timeframe) + 1
