"""Three markets for tests: recorded where recordings are at hand, generated elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from livetrader_core.market.recorded import write_klines
from livetrader_core.models import Klines
from livetrader_core.timeframe import MINUTE_MS
from tests.support.data import recorded_data


def at(text: str, zone: str = "UTC") -> int:
    """UTC milliseconds of a local time such as ``2020-11-02 09:30``."""
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    return round(moment.timestamp() * 1000)


@dataclass(frozen=True)
class Sample:
    """Arguments of a ReplayMarket, symbols that it has, and a moment when all of them trade."""

    symbols: tuple[str, ...]
    start: int
    arguments: dict[str, Any] = field(default_factory=dict)


def sample() -> Sample:
    """A stock, a currency pair and a future that share a fortnight around a clock change."""
    folder = recorded_data()
    if folder is None:
        symbols = ("US.BABA", "FOREX.EURUSD", "SHFE.cu2605")
        return Sample(symbols, at("2025-10-30 14:00"), {"source": "generated"})
    symbols = ("US.BABA", "FOREX.EURUSD", "SHFE.cu2002")
    arguments = {"source": str(folder), "shift_weeks": {"SHFE": 52}}
    return Sample(symbols, at("2020-11-03 14:00"), arguments)


def local(ts: int, zone: str) -> datetime:
    """The local time of ``ts``."""
    return datetime.fromtimestamp(ts / 1000, ZoneInfo(zone))


def rising(symbol: str, start: int, count: int, price: float = 100.0, step: int = 1) -> Klines:
    """``count`` one-minute klines from ``start``, ``step`` minutes apart, each a bit higher."""
    close = price + np.arange(count) * 0.25
    return Klines(
        symbol,
        "1m",
        start + np.arange(count, dtype=np.int64) * step * MINUTE_MS,
        close - 0.25,
        close + 0.5,
        close - 0.5,
        close,
        np.full(count, 10.0),
    )


def folder_of(path: Path, *series: Klines) -> Path:
    """``path``, filled with a file for each of ``series``."""
    for klines in series:
        write_klines(path / f"{klines.symbol}-{klines.timeframe}.csv.gz", klines)
    return path
