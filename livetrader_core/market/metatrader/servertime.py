"""The broker's server time, which MetaTrader 4 writes without saying its zone, and UTC."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from livetrader_core.errors import ConfigError
from livetrader_core.models import Ints
from livetrader_core.timeframe import MINUTE_MS

#: EET with the daylight saving of New York: the New York close, 17:00, is midnight all year.
EET_US = "EET-US"
#: EET with the daylight saving of Europe: an hour off the former for some weeks of the year.
EET_EU = "EET-EU"

_HOUR_MS = 60 * MINUTE_MS
_WEEK_MS = 7 * 24 * _HOUR_MS
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FIRST_MS, _LAST_MS = 0, 4_102_444_800_000  # the years 1970 to 2099
_FIXED = re.compile(r"(?:UTC|GMT)([+-])(\d{1,2})(?::(\d{2}))?")

Offset = Callable[[int], int]


class ServerTime:
    """Conversion between server time and UTC, both in milliseconds since their own 1970-01-01.

    ``name``: ``EET-US``, ``EET-EU``, a fixed ``UTC+2``, or a zone of the IANA database. When the
    server's clock is set back, an hour of its time is passed twice: what is written in it is taken
    for the first pass, for nothing tells them apart. When it is set forward, an hour of its time
    does not exist. In both ``EET`` zones that is on a Sunday morning, when forex is closed.
    Raises ConfigError naming the setting ``time_zone``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        offset = _offset(name)
        starts, offsets = [_FIRST_MS - _WEEK_MS], [offset(_FIRST_MS)]
        for moment in range(_FIRST_MS, _LAST_MS, _WEEK_MS):
            if (new := offset(moment + _WEEK_MS)) != offsets[-1]:
                starts.append(_change(offset, moment, moment + _WEEK_MS))
                offsets.append(new)
        self._starts = np.array(starts, np.int64)
        self._offsets = np.array(offsets, np.int64)
        # The server time at which each offset ends.
        self._ends = self._starts[1:] + self._offsets[:-1]

    def to_server(self, moment: int) -> int:
        """The server time at ``moment`` (UTC ms)."""
        index = int(np.searchsorted(self._starts, moment, side="right")) - 1
        return moment + int(self._offsets[max(index, 0)])

    def to_utc(self, server: Ints) -> Ints:
        """UTC milliseconds of server times."""
        return server - self._offsets[np.searchsorted(self._ends, server, side="right")]

    def exists(self, server: Ints) -> npt.NDArray[np.bool_]:
        """Whether the server's clock ever shows these times."""
        starts = self._starts[np.searchsorted(self._ends, server, side="right")]
        return np.asarray(self.to_utc(server) >= starts, np.bool_)

    def moment(self, server: int) -> int:
        """UTC milliseconds of one server time."""
        return int(self.to_utc(np.array([server], np.int64))[0])

    @property
    def grain(self) -> int:
        """The longest time (ms, an hour at most) of which all offsets are whole multiples."""
        return math.gcd(_HOUR_MS, *self._offsets.tolist())


@lru_cache(maxsize=16)
def server_time(name: str) -> ServerTime:
    """The :class:`ServerTime` called ``name``."""
    return ServerTime(name)


def _offset(name: str) -> Offset:
    if not isinstance(name, str):
        raise ConfigError(f"time_zone: must be the name of a zone, not {name!r}")
    if name == EET_US:
        # Seven hours ahead of New York, summer and winter.
        return _zone_offset("America/New_York", 7 * _HOUR_MS)
    if name == EET_EU:
        return _zone_offset("Europe/Helsinki")
    if match := _FIXED.fullmatch(name):
        sign = -1 if match[1] == "-" else 1
        fixed = sign * (int(match[2]) * _HOUR_MS + int(match[3] or 0) * MINUTE_MS)
        if abs(fixed) <= 14 * _HOUR_MS:
            return lambda moment: fixed
    return _zone_offset(name)


def _zone_offset(name: str, ahead: int = 0) -> Offset:
    try:
        zone = ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ConfigError(
            f"time_zone: there is no {name!r}; write {EET_US} (the New York close is midnight), "
            f"{EET_EU}, a fixed one such as UTC+2, or an IANA name such as Europe/London"
        ) from None

    def offset(moment: int) -> int:
        there = (_EPOCH + timedelta(milliseconds=moment)).astimezone(zone)
        shift = there.utcoffset()
        assert shift is not None
        return round(shift.total_seconds() * 1000) + ahead

    return offset


def _change(offset: Offset, before: int, after: int) -> int:
    """The moment between ``before`` and ``after`` from which on their offsets differ."""
    old = offset(before)
    while after - before > MINUTE_MS:
        middle = (before + after) // 2 // MINUTE_MS * MINUTE_MS
        if offset(middle) == old:
            before = middle
        else:
            after = middle
    return after
