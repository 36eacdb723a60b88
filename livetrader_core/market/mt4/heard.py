"""One-minute bars as they were published, as far as no minute lacks among them."""

from __future__ import annotations

from collections import deque

import numpy as np

from livetrader_core.models import Klines
from livetrader_core.timeframe import MINUTE_MS

#: open, high, low, close, volume
Row = tuple[float, ...]

_KEPT = 64


class HeardBars:
    """The newest published bars of each symbol, each minute's after the other.

    A minute that lacks may be one without a tick, or one whose bar was not published to us: only
    the terminal's history tells which. So a run of bars ends where one lacks.
    """

    def __init__(self) -> None:
        self._rows: dict[str, deque[Row]] = {}
        self._last: dict[str, int] = {}

    def add(self, symbol: str, opened: int, row: Row) -> None:
        """The bar that opened at ``opened`` (UTC ms) is over."""
        last = self._last.get(symbol, 0)
        if opened <= last:
            return
        if opened != last + MINUTE_MS or symbol not in self._rows:
            self._rows[symbol] = deque(maxlen=_KEPT)
        self._rows[symbol].append(row)
        self._last[symbol] = opened

    def forget(self) -> None:
        """The advisor began anew."""
        self._rows.clear()
        self._last.clear()

    def between(self, symbol: str, start: int, end: int) -> Klines | None:
        """The bars of every minute in [``start``, ``end``) (UTC ms); None if one lacks."""
        rows = self._rows.get(symbol)
        if rows is None or start >= end:
            return None
        first = self._last[symbol] - (len(rows) - 1) * MINUTE_MS
        begin, beyond = (start - first) // MINUTE_MS, (end - first) // MINUTE_MS
        if begin < 0 or beyond > len(rows):
            return None
        columns = np.array(list(rows)[begin:beyond], np.float64).T
        opens = np.arange(start, end, MINUTE_MS, dtype=np.int64)
        return Klines.from_columns(symbol, "1m", opens, [*columns, np.zeros(len(opens))])
