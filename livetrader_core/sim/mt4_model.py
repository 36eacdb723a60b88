"""A MetaTrader 4 terminal without sockets: its symbols, quotes and bars, in broker server time.

Whatever talks to the outside (an expert advisor) is a layer over this; what orders do is to be
another part beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from livetrader_core.clock import Clock
from livetrader_core.errors import ConfigError
from livetrader_core.sim.recording import MINUTE_MS, Recording

_HOUR_MS = 60 * MINUTE_MS
_DAY_MS = 24 * _HOUR_MS
_SUNDAY = 6
#: Minutes of the timeframes that the terminal has.
PERIODS = (1, 5, 15, 30, 60, 240, 1440)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def _sunday(year: int, month: int, which: int, hour: int) -> int:
    """UTC ms of ``hour`` on the first (1), second (2) or last (-1) Sunday of a month."""
    if which > 0:
        first = datetime(year, month, 1, tzinfo=timezone.utc)
        day = first + timedelta(days=(_SUNDAY - first.weekday()) % 7 + 7 * (which - 1))
    else:
        end = datetime(year, month, 31, tzinfo=timezone.utc)
        day = end - timedelta(days=(end.weekday() - _SUNDAY) % 7)
    return round((day + timedelta(hours=hour)).timestamp() * 1000)


def _us_summer(year: int) -> tuple[int, int]:
    """From the second Sunday of March, 2:00 EST, to the first of November, 2:00 EDT."""
    return _sunday(year, 3, 2, 7), _sunday(year, 11, 1, 6)


def _eu_summer(year: int) -> tuple[int, int]:
    """From the last Sunday of March to that of October, 1:00 UTC."""
    return _sunday(year, 3, -1, 1), _sunday(year, 10, -1, 1)


def server_offset(zone: str) -> Callable[[int], int]:
    """Milliseconds that a broker's server in ``zone`` is ahead of UTC, by UTC ms (2007 and later).

    ``EET-US``, ``EET-EU`` or an IANA name. Raises ConfigError.
    """
    summers = {"EET-US": _us_summer, "EET-EU": _eu_summer}
    if zone in summers:
        summer = summers[zone]

        def eet(moment: int) -> int:
            begin, end = summer(datetime.fromtimestamp(moment / 1000, timezone.utc).year)
            return (3 if begin <= moment < end else 2) * _HOUR_MS

        return eet
    try:
        there = ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise ConfigError(f"time_zone: {zone!r} is neither EET-US, EET-EU nor a zone") from None

    def listed(moment: int) -> int:
        shift = datetime.fromtimestamp(moment / 1000, there).utcoffset()
        return 0 if shift is None else round(shift.total_seconds() * 1000)

    return listed


@dataclass(frozen=True)
class Rate:
    """A bar as the terminal keeps it: ``time`` in seconds of server time, at its open."""

    time: int
    open: float
    high: float
    low: float
    close: float
    tick_volume: int
    spread: int
    real_volume: int = 0


@dataclass(frozen=True)
class Instrument:
    """A symbol by the broker's name for it, and its bars with their server times."""

    name: str
    recording: Recording
    offset: Callable[[int], int]

    @cached_property
    def kept(self) -> Ints:
        """Which recorded bars the terminal keeps: one for each minute of the server's clock.

        Where that is set back, the bars of the hour's second pass have no place.
        """
        server = self._server
        latest = np.maximum.accumulate(server)
        return np.flatnonzero(np.r_[True, server[1:] > latest[:-1]][: len(server)])

    @cached_property
    def times(self) -> Ints:
        """The open of each kept bar in server time (ms), ascending."""
        return self._server[self.kept]

    @cached_property
    def _server(self) -> Ints:
        moments = self.recording.klines.datetime
        # Offsets change at whole hours of UTC.
        hours, where = np.unique(moments // _HOUR_MS, return_inverse=True)
        shifts = np.array([self.offset(hour * _HOUR_MS) for hour in hours.tolist()], np.int64)
        return moments + shifts[where]

    @property
    def digits(self) -> int:
        """Decimals of its price."""
        text = f"{self.recording.contract.price_tick:.10f}".rstrip("0")
        return len(text.partition(".")[2])


class Mt4Model:
    """What a terminal knows at the clock's time. ``suffix`` stands behind every code.

    ``lag`` (ms) is how late it hears of quotes, ``clock_error`` (ms) how far its clock is off.
    """

    def __init__(
        self, recordings: Mapping[str, Recording], clock: Clock, time_zone: str, suffix: str = ""
    ) -> None:
        self.clock = clock
        self.offset = server_offset(time_zone)
        self.lag = 0
        self.clock_error = 0
        self.selected: set[str] = set()
        self.instruments = {
            name: Instrument(name, recording, self.offset)
            for recording in recordings.values()
            for name in (recording.symbol.partition(".")[2] + suffix,)
        }

    def now(self) -> int:
        """The time (UTC ms) up to which the terminal has heard of quotes."""
        return self.clock.now() - self.lag

    def server_time(self) -> int:
        """The server's clock, in ms since its own 1970-01-01."""
        return self.now() + self.offset(self.now())

    def time_current(self) -> int:
        """Server time (ms) of the last quote of any symbol, as TimeCurrent gives it."""
        return max(map(self.quoted_at, self.instruments), default=0) + self.clock_error

    def quoted_at(self, name: str) -> int:
        """Server time (ms) of the last quote of ``name``; 0 if there was none."""
        now = self.now()
        opens = self.instruments[name].recording.klines.datetime
        index = int(np.searchsorted(opens, now, side="right")) - 1
        if index < 0:
            return 0
        quarter = MINUTE_MS // 4
        within = min(now - int(opens[index]), 3 * quarter)
        last = int(opens[index]) + within // quarter * quarter
        return last + self.offset(last)

    def select(self, name: str) -> bool:
        """Show ``name`` in Market Watch; False if the broker has no such symbol."""
        if name not in self.instruments:
            return False
        self.selected.add(name)
        return True

    def quote(self, name: str) -> tuple[float, float] | None:
        """The last bid and ask."""
        instrument = self.instruments.get(name)
        if instrument is None:
            return None
        recording, now = instrument.recording, self.now()
        known = recording.forming(now)
        if known is None:
            closed = recording.closed(now)
            if not len(closed):
                return None
            known = closed[-1]
        tick = recording.contract.price_tick
        return known.close, round(known.close + tick, instrument.digits)

    def forming(self, name: str) -> Rate | None:
        """The one-minute bar that forms now."""
        instrument = self.instruments[name]
        now = self.now()
        kline = instrument.recording.forming(now)
        if kline is None:
            return None
        time = self._time_of(instrument, kline.datetime)
        if time is None:
            return None
        first = now - kline.datetime < MINUTE_MS // 4
        volume = 1 if first else max(1, int(kline.volume))
        return Rate(time // 1000, kline.open, kline.high, kline.low, kline.close, volume, spread=1)

    @staticmethod
    def _time_of(instrument: Instrument, opened: int) -> int | None:
        """The server time of the bar that opened at ``opened`` (UTC ms), if there is a place."""
        index = int(np.searchsorted(instrument.recording.klines.datetime, opened))
        place = int(np.searchsorted(instrument.kept, index))
        if place < len(instrument.kept) and instrument.kept[place] == index:
            return int(instrument.times[place])
        return None

    def rates(self, name: str, period: int, start: int, end: int) -> list[Rate]:
        """Bars of ``period`` minutes that open from ``start`` to ``end`` (server ms), as CopyRates.

        Bars begin at whole multiples of their length after the server's midnight; the last one
        may still form.
        """
        instrument = self.instruments.get(name)
        if instrument is None or period not in PERIODS:
            return []
        length = period * MINUTE_MS
        now = self.now()
        recording = instrument.recording
        closed = recording.closed(now)
        beyond = end // length * length + length
        first = int(np.searchsorted(instrument.times, start))
        last = min(
            int(np.searchsorted(instrument.times, beyond)),
            int(np.searchsorted(instrument.kept, len(closed))),
        )
        part = instrument.kept[first : max(first, last)]
        columns = (closed.open, closed.high, closed.low, closed.close, closed.volume.astype(int))
        rows = list(
            zip(
                instrument.times[first : first + len(part)].tolist(),
                *(column[part].tolist() for column in columns),
                strict=True,
            )
        )
        kline = recording.forming(now)
        time = None if kline is None else self._time_of(instrument, kline.datetime)
        if kline is not None and time is not None and start <= time < beyond:
            rows.append((time, kline.open, kline.high, kline.low, kline.close, int(kline.volume)))
        return [rate for rate in _gather(rows, length) if start <= rate.time * 1000 <= end]


def _gather(rows: list[tuple[int, float, float, float, float, int]], length: int) -> list[Rate]:
    """Bars of ``length`` ms of one-minute ones."""
    if length == MINUTE_MS:
        return [
            Rate(time // 1000, open_, high, low, close, volume, 1)
            for time, open_, high, low, close, volume in rows
        ]
    found: list[Rate] = []
    for time, open_, high, low, close, volume in rows:
        opened = time // length * length // 1000
        if found and found[-1].time == opened:
            last = found[-1]
            found[-1] = Rate(
                opened,
                last.open,
                max(last.high, high),
                min(last.low, low),
                close,
                last.tick_volume + volume,
                1,
            )
        else:
            found.append(Rate(opened, open_, high, low, close, volume, 1))
    return found
