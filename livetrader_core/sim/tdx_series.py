"""What the simulated TDX server has of one symbol: bars as records of its wire, and quotes.

A bar is 32 bytes: its date, four prices as float32, open interest or turnover, volume, and a field
that is 0 here. A minute is labelled with the trading day and the Beijing clock at its end.
"""

from __future__ import annotations

import struct
from datetime import datetime, timezone
from functools import cached_property

import numpy as np
import numpy.typing as npt

from livetrader_core.errors import InvalidRequest
from livetrader_core.models import Kline, Klines
from livetrader_core.sim.recording import MINUTE_MS, Recording

_BEIJING_MINUTES = 8 * 60

#: MARKET: number, category, name, short name.
NUMBERS: dict[str, tuple[int, int, str, str]] = {
    "US": (74, 13, "美国股票", "US"),
    "HK": (31, 2, "香港主板", "KH"),
    "CFFEX": (47, 3, "中金所期货", "CZ"),
    "SHFE": (30, 3, "上海期货", "QS"),
    "INE": (30, 3, "上海期货", "QS"),
    "DCE": (29, 3, "大连商品", "QD"),
    "CZCE": (28, 3, "郑州商品", "QZ"),
    "GFEX": (66, 3, "广州期货", "QG"),
}
_HK_GROWTH = 48
_IN_MONEY = ("US", "HK")  # the field that holds open interest elsewhere is turnover there
_INTRADAY = {0: 5, 1: 15, 2: 30, 3: 60, 7: 1, 8: 1}
_DAILY = (4, 9)

_VALUES = [("open", "<f4"), ("high", "<f4"), ("low", "<f4"), ("close", "<f4")]
_INTEREST_BAR = np.dtype([("date", "<u4"), *_VALUES, ("held", "<u4"), ("vol", "<u4"), ("x", "<f4")])
_TURNOVER_BAR = np.dtype([("date", "<u4"), *_VALUES, ("held", "<f4"), ("vol", "<u4"), ("x", "<f4")])


class Series:
    """One symbol as the service knows it."""

    def __init__(
        self,
        recording: Recording,
        daily: Klines | None,
        us_daily_lot: int,
        implausible_oldest: bool,
        keeps: int | None,
    ) -> None:
        place = recording.symbol.partition(".")[0]
        if place not in NUMBERS:
            served = ", ".join(NUMBERS)
            raise InvalidRequest(f"{recording.symbol}: TDX has no market {place}; it has {served}")
        self.market, self.category = NUMBERS[place][:2]
        self.code = _code(recording)
        if place == "HK" and self.code.startswith(b"08"):
            self.market = _HK_GROWTH
        self.name = (recording.contract.name or self.code.decode()).encode("gbk", "replace")[:17]
        self._recording = recording
        self._given_days = daily
        self._in_money = place in _IN_MONEY
        self._lot = us_daily_lot if place == "US" else 1
        self._implausible = implausible_oldest and place == "US"
        self._keeps = keeps

    @property
    def _bar(self) -> np.dtype[np.void]:
        return _TURNOVER_BAR if self._in_money else _INTEREST_BAR

    @cached_property
    def _minutes(self) -> npt.NDArray[np.void]:
        """Every one-minute bar as it looks once it is over."""
        klines = self._recording.klines
        return self._pack(self._labels(klines.datetime, self._recording.trading_days, 1), klines)

    def page(self, now: int, category: int, start: int, count: int) -> bytes:
        """The bars ``start`` … of ``category`` counted from the newest, as they are at ``now``."""
        if category in (7, 8):
            return self._one_minute(now, start, count).tobytes()
        if category in _DAILY:
            rows = self._days(now)
        elif category in _INTRADAY:
            rows = self._longer(now, _INTRADAY[category])
        else:
            return b""
        page = rows[slice(*_span(len(rows), start, count))]
        if category in _DAILY and self._implausible and len(page):
            page = page.copy()
            page["vol"][0] = 0xFFFFFF00
        return page.tobytes()

    def _one_minute(self, now: int, start: int, count: int) -> npt.NDArray[np.void]:
        known = len(self._recording.closed(now))
        oldest = 0 if self._keeps is None else max(0, known - self._keeps)
        forming = self._recording.forming(now)
        total = known - oldest + (forming is not None)
        first, last = _span(total, start, count)
        rows = self._minutes[oldest + first : oldest + last]
        if forming is not None and last == total and first < last:
            rows = rows.copy()
            self._fill(rows[-1:], Klines.of(forming.symbol, "1m", [forming]))
        return rows

    def _seen(self, now: int) -> tuple[Klines, npt.NDArray[np.int64]]:
        """All klines up to ``now``, the forming one included, and their trading days."""
        closed, forming = self._recording.closed(now), self._recording.forming(now)
        if forming is not None:
            tail = Klines.of(forming.symbol, "1m", [forming])
            closed = Klines.concat([closed, tail]) if len(closed) else tail
        return closed, self._recording.trading_days[: len(closed)]

    def _longer(self, now: int, minutes: int) -> npt.NDArray[np.void]:
        klines, days = self._seen(now)
        buckets = klines.datetime // (minutes * MINUTE_MS)
        first = _firsts(buckets)
        labels = self._labels(buckets[first] * minutes * MINUTE_MS, days[first], minutes)
        return self._pack(labels, _gather(klines, first))

    def _days(self, now: int) -> npt.NDArray[np.void]:
        if self._given_days is not None:
            klines = self._given_days
            assert klines.trading_day is not None
            known = int(np.searchsorted(klines.datetime, now, side="right"))
            return self._in_lots(self._pack(klines.trading_day, klines)[:known])
        klines, days = self._seen(now)
        first = _firsts(days)
        return self._in_lots(self._pack(days[first], _gather(klines, first)))

    def _in_lots(self, rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        rows["vol"] //= self._lot
        return rows

    def _labels(
        self, opens: npt.NDArray[np.int64], days: npt.NDArray[np.int64], minutes: int
    ) -> npt.NDArray[np.int64]:
        """The trading day with the Beijing clock at the end of the bar, in 32 bits."""
        year, month, day = days // 10_000, days // 100 % 100, days % 100
        packed = (year - 2004 << 11) + month * 100 + day
        clock = (opens // MINUTE_MS + minutes + _BEIJING_MINUTES) % 1440
        return np.asarray(packed + (clock << 16), np.int64)

    def _pack(self, labels: npt.NDArray[np.int64], klines: Klines) -> npt.NDArray[np.void]:
        rows = np.zeros(len(klines), self._bar)
        rows["date"] = labels
        self._fill(rows, klines)
        return rows

    def _fill(self, rows: npt.NDArray[np.void], klines: Klines) -> None:
        for name in ("open", "high", "low", "close"):
            rows[name] = getattr(klines, name)
        rows["vol"] = klines.volume
        in_money = klines.volume * klines.close
        rows["held"] = in_money if self._in_money else klines.open_interest

    def quote(self, now: int) -> bytes | None:
        """The body of a quote after its first 14 bytes; None while there was no trade."""
        klines, days = self._seen(now)
        if not len(klines):
            return None
        today = int(np.searchsorted(days, days[-1]))
        day = _gather(klines, _firsts(days))[-1]
        before = float(klines.close[today - 1]) if today else day.open
        return self._quote_of(day, before, klines[len(klines) - 1])

    def _quote_of(self, day: Kline, before: float, last: Kline) -> bytes:
        tick = self._recording.contract.price_tick
        volume, held = int(day.volume), 0 if self._in_money else int(day.open_interest)
        return struct.pack(
            "<5f9I5f5I5f5I",
            *(before, day.open, day.high, day.low, day.close),
            *(0, 0, volume, int(last.volume), 0, volume // 2, volume - volume // 2, 0, held),
            *(day.close, 0.0, 0.0, 0.0, 0.0),
            *(1, 0, 0, 0, 0),
            *(day.close + tick, 0.0, 0.0, 0.0, 0.0),
            *(1, 0, 0, 0, 0),
        )


def _code(recording: Recording) -> bytes:
    """The service's code: capitals, and four digits of the month where Zhengzhou writes three."""
    place, _, code = recording.symbol.partition(".")
    code = code.upper()
    digits = code.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    if place == "CZCE" and len(digits) == 3 and len(recording.klines):
        started = datetime.fromtimestamp(int(recording.klines.datetime[0]) / 1000, timezone.utc)
        year = started.year + (int(digits[0]) - started.year) % 10
        code = f"{code[:-3]}{year // 10 % 10}{digits}"
    return code.encode("gbk")


def _span(total: int, start: int, count: int) -> tuple[int, int]:
    """Which of ``total`` bars are the ``count`` newest but ``start``."""
    last = max(0, total - start)
    return max(0, last - count), last


def _firsts(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else keys


def _gather(klines: Klines, first: npt.NDArray[np.int64]) -> Klines:
    """One kline for each group of rows that begins at ``first``."""
    if not len(klines):
        return klines
    last = np.r_[first[1:], len(klines)] - 1
    columns = [
        klines.open[first],
        np.maximum.reduceat(klines.high, first),
        np.minimum.reduceat(klines.low, first),
        klines.close[last],
        np.add.reduceat(klines.volume, first),
        klines.open_interest[last],
    ]
    return Klines.from_columns(klines.symbol, klines.timeframe, klines.datetime[first], columns)
