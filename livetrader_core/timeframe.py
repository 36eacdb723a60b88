"""Timeframes: ``1m`` … ``4h`` and ``1d``."""

from __future__ import annotations

from livetrader_core.errors import UnknownTimeframe

MINUTE_MS = 60_000
DAY_MS = 86_400_000

#: Length of a kline in milliseconds. A daily kline lasts one trading day of its market, which
#: sessions know (:mod:`livetrader_core.sessions`); its entry here is nominal.
DURATIONS_MS: dict[str, int] = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": 60 * MINUTE_MS,
    "2h": 120 * MINUTE_MS,
    "4h": 240 * MINUTE_MS,
    "1d": DAY_MS,
}


def duration_ms(timeframe: str) -> int:
    """Length of a kline of ``timeframe`` in milliseconds (nominal for ``1d``).

    Raises :class:`UnknownTimeframe`.
    """
    try:
        return DURATIONS_MS[timeframe]
    except (KeyError, TypeError):
        known = ", ".join(DURATIONS_MS)
        raise UnknownTimeframe(
            f"timeframe {timeframe!r} does not exist; there are {known}"
        ) from None
