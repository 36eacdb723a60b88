"""What the venue writes beside a bar, and when that bar opened.

US minutes carry the New York trading date with the Beijing clock, so an hour before noon is that of
the next day; futures carry the trading day, whose night began on the evening of the trading day
before. A minute is labelled with its end. This is what users of the service report: it is a
setting, and bars that it puts where they cannot be are told of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Literal, get_args
from zoneinfo import ZoneInfo

import numpy as np

from livetrader_core.errors import ConfigError, ProtocolError
from livetrader_core.market.tdx.calendar import TradingDays
from livetrader_core.models import Ints
from livetrader_core.sessions import Sessions, from_yyyymmdd
from livetrader_core.timeframe import DAY_MS, MINUTE_MS

#: What the date and clock of a US minute are.
UsLabels = Literal["trading-date", "beijing", "new-york"]
#: What the date of a futures minute is; its clock is Beijing's.
FuturesLabels = Literal["trading-day", "calendar-day"]
#: Which end of the minute a label is.
Stamp = Literal["end", "start"]

_BEIJING_MS = 8 * 60 * MINUTE_MS
_NOON, _EVENING, _MORNING = 12 * 60, 18 * 60, 6 * 60
_EPOCH = date(1970, 1, 1)
_NEW_YORK = ZoneInfo("America/New_York")
#: A host may be so far ahead of this computer.
_TOLERANCE_MS = 5 * MINUTE_MS

#: The days (since 1970) and minutes of labels → UTC milliseconds of what they name.
_Reading = Callable[[Ints, Ints], Ints]


@dataclass(frozen=True)
class LabelSettings:
    """How labels are read. Raises ConfigError naming the setting at fault."""

    us_labels: UsLabels = "trading-date"
    futures_labels: FuturesLabels = "trading-day"
    stamp: Stamp = "end"

    def __post_init__(self) -> None:
        known = (("us_labels", UsLabels), ("futures_labels", FuturesLabels), ("stamp", Stamp))
        for name, choices in known:
            value, allowed = getattr(self, name), get_args(choices)
            if value not in allowed:
                raise ConfigError(f"{name}: must be one of {', '.join(allowed)}, not {value!r}")


class Labels:
    """Reads the labels of one MARKET's minutes."""

    def __init__(self, market: str, settings: LabelSettings, days: TradingDays) -> None:
        self.market = market
        self._settings = settings
        self._days = days

    @property
    def setting(self) -> str:
        """The setting that says how this market's labels are read, and its value."""
        if self.market == "US":
            return f"us_labels = {self._settings.us_labels!r}"
        if self.market == "HK":
            return f"stamp = {self._settings.stamp!r}"
        return f"futures_labels = {self._settings.futures_labels!r}"

    def opens(self, day: Ints, minute: Ints) -> Ints:
        """When minutes labelled ``day`` (YYYYMMDD) and ``minute`` opened (UTC ms).

        Raises ProtocolError for a label that is no date.
        """
        return self._read(self._reading(), day, minute)

    def _read(self, reading: _Reading, day: Ints, minute: Ints) -> Ints:
        named = reading(_epoch_days(day), minute)
        return named - MINUTE_MS if self._settings.stamp == "end" else named

    def _reading(self) -> _Reading:
        if self.market == "US":
            return _US_READINGS[self._settings.us_labels]
        if self.market == "HK" or self._settings.futures_labels == "calendar-day":
            return _beijing
        return self._trading_day

    def _trading_day(self, days: Ints, minute: Ints) -> Ints:
        before = {
            int(d): self._before(int(d))
            for d in np.unique(days[(minute < _MORNING) | (minute >= _EVENING)])
        }
        evening = np.array([before.get(int(d), 0) for d in days], np.int64)
        based = np.where(
            minute >= _EVENING, evening, np.where(minute < _MORNING, evening + 1, days)
        )
        return _beijing(based, minute)

    def _before(self, day: int) -> int:
        return (self._days.before(_EPOCH + timedelta(days=day)) - _EPOCH).days

    # ---- doubts

    def doubt(self, opens: Ints, day: Ints, minute: Ints, sessions: Sessions, now: int) -> str:
        """Why these bars, read so, cannot be what the setting says; empty if they can."""
        if np.any(opens[1:] <= opens[:-1]):
            wrong = "whose bars would not follow one another"
        elif len(opens) and opens[-1] > now + _TOLERANCE_MS:
            wrong = f"with a bar of {_utc(int(opens[-1]))}, which has not come yet"
        elif (outside := self._outside(opens, sessions)) is not None:
            wrong = f"with a bar of {_utc(outside)}, when it does not trade"
        else:
            return ""
        others = self._fitting(day, minute, sessions, now)
        hint = f"; us_labels = {' or '.join(map(repr, others))} would explain it" if others else ""
        return f"{wrong}: {self.setting} does not describe this host{hint}"

    def _outside(self, opens: Ints, sessions: Sessions) -> int | None:
        """One of the bars that lies outside the session, if there is one; few are tried."""
        if self.market != "US":
            return None
        tried = opens[:: max(1, len(opens) // 16)].tolist() + opens[-1:].tolist()
        return next((ts for ts in tried if not _trades(sessions, ts)), None)

    def _fitting(self, day: Ints, minute: Ints, sessions: Sessions, now: int) -> Iterable[str]:
        if self.market != "US":
            return []
        fits = []
        for name, reading in _US_READINGS.items():
            opens = self._read(reading, day, minute)
            ascending = not np.any(opens[1:] <= opens[:-1])
            if ascending and opens[-1] <= now and self._outside(opens, sessions) is None:
                fits.append(name)
        return fits


def _trades(sessions: Sessions, ts: int) -> bool:
    return sessions.is_open(ts) or sessions.is_open(ts - MINUTE_MS)


def _epoch_days(day: Ints) -> Ints:
    try:
        days = {int(d): (from_yyyymmdd(int(d)) - _EPOCH).days for d in np.unique(day)}
    except ValueError as error:
        raise ProtocolError(f"a bar is labelled with a day that does not exist: {error}") from None
    return np.array([days[d] for d in day.tolist()], np.int64)


def _beijing(days: Ints, minute: Ints) -> Ints:
    return days * DAY_MS + minute * MINUTE_MS - _BEIJING_MS


def _us_trading_date(days: Ints, minute: Ints) -> Ints:
    return _beijing(days + (minute < _NOON), minute)


def _new_york(days: Ints, minute: Ints) -> Ints:
    moments = []
    for d, m in zip(days.tolist(), minute.tolist(), strict=True):
        local = datetime(1970, 1, 1) + timedelta(days=d, minutes=m)
        moments.append(round(local.replace(tzinfo=_NEW_YORK).timestamp() * 1000))
    return np.array(moments, np.int64)


_US_READINGS: dict[str, _Reading] = {
    "trading-date": _us_trading_date,
    "beijing": _beijing,
    "new-york": _new_york,
}


def _utc(ts: int) -> str:
    return datetime.fromtimestamp(ts / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
