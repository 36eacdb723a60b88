"""What a simulated venue has of one symbol: its klines, and how each came about within its minute.

A venue shows a bar while it forms. Recorded bars don't say how they formed, so a plain path is
taken: the open at its start, the extremes after a quarter and a half (first the one farther from
the close), and the close after three quarters, each with a quarter of the volume.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import groupby
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from livetrader_core.models import Contract, Kline, Klines, Tick
from livetrader_core.timeframe import duration_ms

MINUTE_MS = 60_000
_QUARTER_MS = MINUTE_MS // 4


@dataclass(frozen=True)
class Recording:
    """One-minute ``klines`` of ``contract.symbol``, oldest first."""

    contract: Contract
    klines: Klines

    @property
    def symbol(self) -> str:
        """The symbol, ``MARKET.CODE``."""
        return self.contract.symbol

    @cached_property
    def ends(self) -> npt.NDArray[np.int64]:
        """When each kline closes (UTC ms)."""
        return self.klines.datetime + MINUTE_MS

    @cached_property
    def trading_days(self) -> npt.NDArray[np.int64]:
        """The trading day of each kline, YYYYMMDD."""
        return self.contract.sessions.trading_days(self.klines.datetime)

    def closed(self, now: int) -> Klines:
        """The klines that are over at ``now`` (UTC ms)."""
        return self.klines[: self._known(now)]

    def forming(self, now: int) -> Kline | None:
        """What there is at ``now`` of the kline that holds it; None if it has none."""
        index = self._known(now)
        if index == len(self.klines) or self.klines.datetime[index] > now:
            return None
        kline = self.klines[index]
        seen = _path(kline)[: (now - kline.datetime) // _QUARTER_MS + 1]
        return replace(
            kline,
            high=max(price for price, _ in seen),
            low=min(price for price, _ in seen),
            close=seen[-1][0],
            volume=sum(volume for _, volume in seen),
            closed=False,
        )

    def ticks(self, after: int, until: int) -> list[Tick]:
        """The quotes of (``after``, ``until``] (UTC ms); ``volume`` is that of the quote alone."""
        first = int(np.searchsorted(self.klines.datetime, after - MINUTE_MS, side="right"))
        last = int(np.searchsorted(self.klines.datetime, until, side="right"))
        found = []
        for kline in self.klines[first:last]:
            for step, (price, volume) in enumerate(_path(kline)):
                moment = kline.datetime + step * _QUARTER_MS
                if after < moment <= until:
                    found.append(self._tick(moment, price, volume, kline.open_interest))
        return found

    def _tick(self, moment: int, price: float, volume: float, interest: float) -> Tick:
        ask = round(price + self.contract.price_tick, 10)
        return Tick(self.symbol, moment, price, price, ask, 1.0, 1.0, volume, interest)

    def _known(self, now: int) -> int:
        return int(np.searchsorted(self.klines.datetime, now - MINUTE_MS, side="right"))


def _path(kline: Kline) -> list[tuple[float, float]]:
    """The (price, volume) of the four quotes that make ``kline``."""
    extremes = [kline.low, kline.high]
    if kline.close < kline.open:
        extremes.reverse()
    share = float(kline.volume // 4)
    volumes = [share, share, share, kline.volume - 3 * share]
    return list(zip([kline.open, *extremes, kline.close], volumes, strict=True))


def resample(recording: Recording, klines: Klines, timeframe: str) -> Klines:
    """Bars of ``timeframe`` from one-minute ``klines`` of ``recording``, the last maybe unfinished.

    Bars shorter than a day begin at whole multiples of their length after local midnight; a daily
    one holds its trading day and is stamped with its first minute.
    """
    if timeframe == "1m" or not len(klines):
        return klines
    length = duration_ms(timeframe)
    zone = ZoneInfo(recording.contract.timezone)
    days = recording.contract.sessions.trading_days(klines.datetime)

    def bucket(index: int) -> int:
        if timeframe == "1d":
            return int(days[index])
        moment = int(klines.datetime[index])
        offset = datetime.fromtimestamp(moment / 1000, zone).utcoffset()
        shift = 0 if offset is None else round(offset.total_seconds() * 1000)
        return (moment + shift) // length * length - shift

    rows = []
    for key, group in groupby(range(len(klines)), bucket):
        indices = list(group)
        part = klines[indices[0] : indices[-1] + 1]
        rows.append(
            Kline(
                klines.symbol,
                timeframe,
                int(part.datetime[0]) if timeframe == "1d" else key,
                float(part.open[0]),
                float(part.high.max()),
                float(part.low.min()),
                float(part.close[-1]),
                float(part.volume.sum()),
                float(part.open_interest[-1]),
                trading_day=key if timeframe == "1d" else 0,
            )
        )
    return Klines.of(klines.symbol, timeframe, rows)
