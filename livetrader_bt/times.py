"""Between milliseconds (UTC, since 1970) and backtrader's dates (UTC days since 0001, float)."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import backtrader as bt
import numpy as np

from livetrader_core.errors import ConfigError, UnknownTimeframe
from livetrader_core.models import Floats, Ints
from livetrader_core.timeframe import DAY_MS, DURATIONS_MS, MINUTE_MS

#: 1970-01-01 as a proleptic Gregorian ordinal.
_EPOCH_ORDINAL = 719_163
_HOUR_MS = 60 * MINUTE_MS


def to_num(ts: int) -> float:
    """Milliseconds as backtrader's date, to the last bit what its ``date2num`` gives."""
    days, rest = divmod(ts, DAY_MS)
    hours, rest = divmod(rest, _HOUR_MS)
    minutes, rest = divmod(rest, MINUTE_MS)
    seconds, millis = divmod(rest, 1000)
    return math.fsum(
        (
            float(days + _EPOCH_ORDINAL),
            hours / 24.0,
            minutes / 1440.0,
            seconds / 86_400.0,
            millis * 1000 / 86_400e6,
        )
    )


def to_nums(ts: Ints) -> Floats:
    """:func:`to_num` of many moments at once.

    The parts are added with their rounding errors kept (Knuth's TwoSum), so that the sum is
    rounded once, as ``math.fsum`` does.
    """
    days, rest = np.divmod(ts, DAY_MS)
    hours, rest = np.divmod(rest, _HOUR_MS)
    minutes, rest = np.divmod(rest, MINUTE_MS)
    seconds, millis = np.divmod(rest, 1000)
    total = (days + _EPOCH_ORDINAL).astype(np.float64)
    error = np.zeros(len(ts))
    parts = (hours / 24.0, minutes / 1440.0, seconds / 86_400.0, millis * 1000 / 86_400e6)
    for part in parts:
        added = total + part
        taken = added - total
        error += (total - (added - taken)) + (part - taken)
        total = added
    return np.asarray(total + error, np.float64)


def to_ms(num: float) -> int:
    """backtrader's date as milliseconds."""
    return round((num - _EPOCH_ORDINAL) * DAY_MS)


def moment_ms(value: int | str | date | datetime | None, zone: tzinfo | None = None) -> int | None:
    """A moment as a user writes it in milliseconds.

    Takes UTC milliseconds, an ISO string, a date or a datetime; without a time zone of its own it
    is in ``zone`` (UTC if that is None). Raises ConfigError.
    """
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            raise ConfigError(
                f"{value!r} is not a time; write it as 2020-11-03 or 2020-11-03T14:30"
            ) from None
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if value.tzinfo is None:
        localize = getattr(zone, "localize", None)
        value = localize(value) if localize else value.replace(tzinfo=zone or timezone.utc)
    return round(value.timestamp() * 1000)


_MINUTES: dict[int, str] = {
    duration // MINUTE_MS: name for name, duration in DURATIONS_MS.items() if duration < DAY_MS
}


def timeframe_name(timeframe: int, compression: int) -> str:
    """backtrader's timeframe and compression as ours (``5m``). Raises UnknownTimeframe."""
    if timeframe == bt.TimeFrame.Minutes and compression in _MINUTES:
        return _MINUTES[compression]
    if timeframe == bt.TimeFrame.Days and compression == 1:
        return "1d"
    label = bt.TimeFrame.getname(timeframe, compression)
    known = ", ".join(DURATIONS_MS)
    raise UnknownTimeframe(
        f"no klines of {compression} {label}; there are {known}: "
        "take one of these and let cerebro.resampledata() make the rest"
    )


def bt_timeframe(name: str) -> tuple[int, int]:
    """Ours (``5m``) as backtrader's timeframe and compression. Raises UnknownTimeframe."""
    if name == "1d":
        return bt.TimeFrame.Days, 1
    for minutes, known in _MINUTES.items():
        if known == name:
            return bt.TimeFrame.Minutes, minutes
    raise UnknownTimeframe(
        f"timeframe {name!r} does not exist; there are {', '.join(DURATIONS_MS)}"
    )


class Zone(tzinfo):
    """A time zone with the ``localize`` that backtrader asks for, without pytz."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def localize(self, moment: datetime) -> datetime:
        """``moment``, taken as local time of this zone."""
        return moment.replace(tzinfo=self)

    def _inner(self, moment: datetime | None) -> datetime | None:
        return None if moment is None else moment.replace(tzinfo=self._zone)

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """The zone's offset at ``moment``."""
        return self._zone.utcoffset(self._inner(moment))

    def dst(self, moment: datetime | None) -> timedelta | None:
        """The zone's daylight-saving part at ``moment``."""
        return self._zone.dst(self._inner(moment))

    def tzname(self, moment: datetime | None) -> str | None:
        """The zone's name at ``moment``."""
        return self._zone.tzname(self._inner(moment))

    def fromutc(self, moment: datetime) -> datetime:
        """``moment``, given in UTC, in this zone."""
        return self._zone.fromutc(moment.replace(tzinfo=self._zone)).replace(tzinfo=self)


def localizer(zone: Any) -> Any:
    """What a user gives as ``tz`` (a name, a tzinfo, None) as backtrader can use it."""
    if zone is None or hasattr(zone, "localize"):
        return zone
    return Zone(ZoneInfo(zone) if isinstance(zone, str) else zone)
