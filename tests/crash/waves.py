"""Prices of the venues that the servers trade at."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np

from livetrader_core.models import Contract, Klines
from livetrader_core.sim.recording import Recording
from tests.crash.script import METATRADER, MINUTES, MONDAY, PRICES, TICKS, venue_of


def wave(contract: Contract) -> Recording:
    """Prices that go up and down a few ticks, so that orders near them fill now and then."""
    symbol = contract.symbol
    height = 30 if venue_of(symbol) in METATRADER else 4
    minutes = np.arange(MINUTES)
    # Not faster than the three points that a terminal lets a close slip.
    waves = np.round(height * np.sin(minutes / 11 + len(symbol) + ord(symbol[-1])))
    column = np.round(PRICES[symbol] + waves * TICKS[symbol], 5)
    times = (MONDAY + minutes * 60_000).astype(np.int64)
    klines = Klines(symbol, "1m", times, column, column, column, column, column * 0 + 400.0)
    return Recording(contract, klines)


def net(sizes: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The sum of signed sizes by symbol, where it is not flat."""
    total: Counter[str] = Counter()
    for symbol, size in sizes:
        total[symbol] += size  # type: ignore[assignment]
    return {
        symbol: round(size, 8)
        for symbol, size in total.items()
        if not math.isclose(size, 0.0, abs_tol=1e-8)
    }
