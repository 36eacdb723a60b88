"""One instrument as a DIFF server knows it: numbered bars and ticks, and the quote of the moment.

Times of the wire: bars and ticks are stamped in nanoseconds since the epoch, a bar with its start,
a daily one with 00:00 Beijing time of its trading day; a quote's ``datetime`` is Beijing time.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from livetrader_core.models import Contract, Kline, Klines, Tick
from livetrader_core.sim.recording import Recording, resample

#: A row of the wire: a bar or a tick.
Row = dict[str, int | float]

BEIJING = timezone(timedelta(hours=8))
MINUTE_MS = 60_000
DAY_SECONDS = 86_400
#: A venue's bars of so many seconds, under the names that recordings are resampled by.
TIMEFRAMES = {
    60: "1m",
    180: "3m",
    300: "5m",
    900: "15m",
    1800: "30m",
    3600: "1h",
    7200: "2h",
    14400: "4h",
    DAY_SECONDS: "1d",
}
#: A minute has this many quotes, so far apart.
TICKS_PER_MINUTE = 4
TICK_MS = MINUTE_MS // TICKS_PER_MINUTE
_SNAPSHOT_MS = 500
#: How far from the last price of the day before an order may be.
_BAND = 0.1


class Bars:
    """The bars of one recording and length, numbered from 0."""

    def __init__(self, recording: Recording, seconds: int) -> None:
        self._recording = recording
        self._seconds = seconds
        self._minutes = recording.klines
        self._all = resample(recording, recording.klines, TIMEFRAMES[seconds])
        #: Index of the first minute of each bar.
        self._first = np.searchsorted(self._minutes.datetime, self._all.datetime)

    def last_id(self, now: int) -> int:
        """Number of the newest bar at ``now`` (UTC ms); -1 before the first."""
        begun = int(np.searchsorted(self._minutes.datetime, now, side="right"))
        return int(np.searchsorted(self._first, begun - 1, side="right")) - 1 if begun else -1

    def rows(self, first: int, last: int, now: int) -> dict[str, Row]:
        """Bars ``first`` … ``last`` by their numbers, as they are at ``now``."""
        found = {}
        newest = self.last_id(now)
        for index in range(max(first, 0), last + 1):
            bar = self._all[index] if index < newest else self._unfinished(index, now)
            found[str(index)] = self._row(index, bar)
        return found

    def _unfinished(self, index: int, now: int) -> Kline:
        """The newest bar: its minutes that are over, and what there is of the one that forms."""
        start = int(self._first[index])
        closed = len(self._recording.closed(now))
        forming = self._recording.forming(now)
        minutes = list(self._minutes[start:closed])
        if forming is not None:
            minutes.append(forming)
        return Kline(
            self._all.symbol,
            self._all.timeframe,
            int(self._all.datetime[index]),
            minutes[0].open,
            max(bar.high for bar in minutes),
            min(bar.low for bar in minutes),
            minutes[-1].close,
            sum(bar.volume for bar in minutes),
            minutes[-1].open_interest,
            trading_day=0 if self._all.trading_day is None else int(self._all.trading_day[index]),
        )

    def _row(self, index: int, bar: Kline) -> Row:
        before = self._all.open_interest[index - 1] if index else bar.open_interest
        return {
            "datetime": self._stamp(bar),
            "open": bar.open,
            "high": bar.high,
            "low": bar.low,
            "close": bar.close,
            "volume": round(bar.volume),
            "open_oi": round(float(before)),
            "close_oi": round(bar.open_interest),
        }

    def _stamp(self, bar: Kline) -> int:
        if self._seconds < DAY_SECONDS:
            return bar.datetime * 1_000_000
        year, month, day = bar.trading_day // 10_000, bar.trading_day // 100 % 100, bar.trading_day
        return round(datetime(year, month, day % 100, tzinfo=BEIJING).timestamp()) * 10**9


class Instrument:
    """What the venue shows of one recording, under ``name``: its symbol, or a main contract."""

    def __init__(self, name: str, recording: Recording) -> None:
        self.name = name
        self.recording = recording
        self._bars: dict[int, Bars] = {}

    @property
    def contract(self) -> Contract:
        """The contract behind it."""
        return self.recording.contract

    def price(self, now: int) -> float:
        """The close of the last bar that is over at ``now`` (UTC ms), else the first open."""
        closed = self.recording.closed(now)
        if len(closed):
            return float(closed.close[-1])
        return float(self._klines.open[0]) if len(self._klines) else 0.0

    def bars(self, seconds: int) -> Bars:
        """Its bars of ``seconds``, one of :data:`TIMEFRAMES`."""
        if seconds not in self._bars:
            self._bars[seconds] = Bars(self.recording, seconds)
        return self._bars[seconds]

    # ---- ticks

    def last_tick_id(self, now: int) -> int:
        """Number of the newest tick at ``now`` (UTC ms); -1 before the first."""
        begun = int(np.searchsorted(self._klines.datetime, now, side="right"))
        if not begun:
            return -1
        step = min((now - int(self._klines.datetime[begun - 1])) // TICK_MS, TICKS_PER_MINUTE - 1)
        return (begun - 1) * TICKS_PER_MINUTE + step

    def ticks(self, first: int, last: int) -> dict[str, Row]:
        """Ticks ``first`` … ``last`` by their numbers."""
        return {str(index): self._tick_row(index) for index in range(max(first, 0), last + 1)}

    def _tick(self, index: int) -> Tick:
        minute, step = divmod(index, TICKS_PER_MINUTE)
        moment = int(self._klines.datetime[minute]) + step * TICK_MS
        return self.recording.ticks(moment - 1, moment)[-1]

    def _tick_row(self, index: int) -> Row:
        tick, day = self._tick(index), self._day(index)
        return {
            "datetime": tick.datetime * 1_000_000,
            "last_price": tick.last,
            "highest": day.high,
            "lowest": day.low,
            "bid_price1": tick.bid,
            "bid_volume1": round(tick.bid_size),
            "ask_price1": tick.ask,
            "ask_volume1": round(tick.ask_size),
            "volume": round(day.volume),
            "open_interest": round(tick.open_interest),
        }

    def _day(self, index: int) -> Kline:
        """The trading day up to tick ``index``."""
        minute = index // TICKS_PER_MINUTE
        first = int(self._day_starts[minute])
        now = int(self._klines.datetime[minute]) + index % TICKS_PER_MINUTE * TICK_MS
        forming = self.recording.forming(now)
        assert forming is not None
        before = self._klines[first:minute]
        return Kline(
            self.name,
            "1d",
            int(self._klines.datetime[first]),
            float(self._klines.open[first]),
            max([forming.high, *before.high.tolist()]),
            min([forming.low, *before.low.tolist()]),
            forming.close,
            float(self._volumes[minute] - self._volumes[first]) + forming.volume,
            forming.open_interest,
        )

    # ---- quotes

    def quote(self, now: int) -> dict[str, Any]:
        """The quote at ``now`` (UTC ms); without prices before the first bar."""
        index = self.last_tick_id(now)
        if index < 0:
            return {"instrument_id": self.name, "datetime": ""}
        tick, day = self._tick(index), self._day(index)
        return {
            "instrument_id": self.name,
            "datetime": beijing_text(max(self._snapshot(now), tick.datetime)),
            "pre_settlement": self._reference(now),
            "lower_limit": self.band(now)[0],
            "upper_limit": self.band(now)[1],
            "last_price": tick.last,
            "bid_price1": tick.bid,
            "bid_volume1": round(tick.bid_size),
            "ask_price1": tick.ask,
            "ask_volume1": round(tick.ask_size),
            "open": day.open,
            "highest": day.high,
            "lowest": day.low,
            "volume": round(day.volume),
            "open_interest": round(tick.open_interest),
        }

    def band(self, now: int) -> tuple[float, float]:
        """Lowest and highest price of an order at ``now`` (UTC ms): so far from the day before."""
        reference, contract = self._reference(now), self.contract
        return (
            contract.round_price(reference * (1 - _BAND)),
            contract.round_price(reference * (1 + _BAND)),
        )

    def _reference(self, now: int) -> float:
        """The last price of the trading day before that of ``now``; the first there is."""
        day = self.contract.sessions.trading_day(now)
        first = int(np.searchsorted(self.recording.trading_days, day))
        return float(self._klines.close[first - 1] if first else self._klines.open[0])

    def _snapshot(self, now: int) -> int:
        """When the exchange last sent a quote: twice a second while it trades, and at its close."""
        sessions = self.contract.sessions
        if sessions.is_open(now):
            return now // _SNAPSHOT_MS * _SNAPSHOT_MS
        day = sessions.trading_date(now)
        past = [end for _, end in sessions.bounds(day) if end <= now]
        return past[-1] if past else sessions.close_of(sessions.previous_trading_day(day))

    # ---- of the recording

    @property
    def _klines(self) -> Klines:
        return self.recording.klines

    @cached_property
    def _volumes(self) -> npt.NDArray[np.float64]:
        """The volume of all minutes before each."""
        return np.concatenate([[0.0], np.cumsum(self._klines.volume)])

    @cached_property
    def _day_starts(self) -> npt.NDArray[np.int64]:
        """Index of the first minute of the trading day of each minute."""
        days = self.recording.trading_days
        return np.searchsorted(days, days).astype(np.int64)


def beijing_text(ts: int) -> str:
    """A moment (UTC ms) as quotes write it, such as ``2019-11-04 09:00:00.500000``."""
    moment = datetime(1970, 1, 1, tzinfo=BEIJING) + timedelta(hours=8, milliseconds=ts)
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
