"""Klines moved by whole weeks, by the clock on the market's wall."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np

from livetrader_core.market.aggregate import session_opens
from livetrader_core.market.recorded import Ticks
from livetrader_core.models import Contract, Ints, Klines
from livetrader_core.sessions import Sessions, as_yyyymmdd, from_yyyymmdd
from livetrader_core.timeframe import DAY_MS, MINUTE_MS

_WEEK_MS = 7 * DAY_MS
# Every time zone changes its offset at a whole quarter of an hour.
_QUARTER_MS = 15 * MINUTE_MS


def shift_klines(klines: Klines, weeks: int, sessions: Sessions) -> Klines:
    """``klines`` ``weeks`` later (earlier if negative), at the same local times of day."""
    if not weeks or not len(klines):
        return klines
    if klines.trading_day is not None:
        move = timedelta(weeks=weeks)
        days = [as_yyyymmdd(from_yyyymmdd(day) + move) for day in klines.trading_day.tolist()]
        moved = np.array(days, np.int64)
        return Klines.from_columns(
            klines.symbol,
            klines.timeframe,
            session_opens(moved, sessions),
            klines.columns(),
            trading_day=moved,
        )
    times, kept = _shift(klines.datetime, weeks, sessions.timezone, strict=True)
    columns = [column[kept] for column in klines.columns()]
    return Klines.from_columns(klines.symbol, klines.timeframe, times, columns)


def shift_ticks(ticks: Ticks, weeks: int, sessions: Sessions) -> Ticks:
    """As :func:`shift_klines`; several ticks may share a millisecond."""
    if not weeks or not len(ticks):
        return ticks
    times, kept = _shift(ticks.datetime, weeks, sessions.timezone, strict=False)
    return Ticks(ticks.symbol, times, {name: column[kept] for name, column in ticks.fields.items()})


def shift_contract(contract: Contract, weeks: int) -> Contract:
    """``contract`` with its expiry moved."""
    if not weeks or not contract.expires_at:
        return contract
    expiry = np.array([contract.expires_at], np.int64)
    local = expiry + _offsets(expiry, contract.timezone) + weeks * _WEEK_MS
    return replace(contract, expires_at=int(_to_utc(local, contract.timezone)[0]))


def _shift(times: Ints, weeks: int, zone: str, strict: bool) -> tuple[Ints, Ints]:
    """The moved times that still ascend and exist, and the rows they come from."""
    local = times + _offsets(times, zone) + weeks * _WEEK_MS
    moved = _to_utc(local, zone)
    existing = np.flatnonzero(moved + _offsets(moved, zone) == local)
    moved = moved[existing]
    before = np.r_[np.int64(-1), np.maximum.accumulate(moved)[:-1]]
    kept = np.flatnonzero((moved > before) if strict else (moved >= before))
    return moved[kept], existing[kept]


def _offsets(times: Ints, zone: str) -> Ints:
    """What the local clock shows beyond UTC, in milliseconds, at each of ``times`` (UTC)."""
    tz = ZoneInfo(zone)
    quarters, where = np.unique(times // _QUARTER_MS, return_inverse=True)
    moments = (datetime.fromtimestamp(q * _QUARTER_MS / 1000, tz) for q in quarters.tolist())
    return _offset_column(moments)[where]


def _to_utc(local: Ints, zone: str) -> Ints:
    """UTC of local times; of a local time that occurs twice, the first."""
    tz = ZoneInfo(zone)
    quarters, where = np.unique(local // _QUARTER_MS, return_inverse=True)
    naive = (
        datetime.fromtimestamp(q * _QUARTER_MS / 1000, timezone.utc) for q in quarters.tolist()
    )
    offsets = _offset_column(moment.replace(tzinfo=tz) for moment in naive)
    return np.asarray(local - offsets[where], np.int64)


def _offset_column(moments: Iterable[datetime]) -> Ints:
    offsets = (moment.utcoffset() or timedelta(0) for moment in moments)
    return np.array([offset // timedelta(milliseconds=1) for offset in offsets], np.int64)
