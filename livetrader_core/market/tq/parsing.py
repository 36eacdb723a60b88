"""What tqsdk gives, turned into the words of livetrader; nothing here talks to anybody.

Bars carry their start in nanoseconds since the epoch, a daily one 00:00 Beijing time of its trading
day; a quote's ``datetime`` is Beijing time as text; the last row of a series is the bar that still
forms; a row that is not filled yet has the time 0. Margin and commission are yuan per lot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import numpy as np

from livetrader_core.errors import ProtocolError
from livetrader_core.models import Commission, Contract, Floats, Ints, Klines, Margin, Tick
from livetrader_core.sessions import Minutes, Sessions, as_yyyymmdd, from_yyyymmdd
from livetrader_core.timeframe import DAY_MS

#: Columns of a kline series that are read, in this order.
KLINE_COLUMNS = ("datetime", "id", "open", "high", "low", "close", "volume", "close_oi")
#: The same of a tick series.
TICK_COLUMNS = (
    "datetime",
    "id",
    "last_price",
    "bid_price1",
    "ask_price1",
    "bid_volume1",
    "ask_volume1",
    "volume",
    "open_interest",
)

_BEIJING = timezone(timedelta(hours=8))
_ZONE = "Asia/Shanghai"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def quote_time(text: object) -> int:
    """The time of a quote (UTC ms) such as ``2019-11-04 09:00:00.500000``; 0 if it has none."""
    if not isinstance(text, str) or not text:
        return 0
    try:
        moment = datetime.fromisoformat(text).replace(tzinfo=_BEIJING)
    except ValueError:
        raise ProtocolError(f"a quote's datetime is {text!r}, not a date and time") from None
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def filled(rows: Floats) -> Floats:
    """The rows that hold something: a time, and prices."""
    return rows[(rows[:, 0] > 0) & ~np.isnan(rows[:, 5])]


def klines_of(symbol: str, timeframe: str, rows: Floats, sessions: Sessions) -> Klines:
    """Klines from ``rows`` by :data:`KLINE_COLUMNS`; whether the last one forms is not known."""
    stamps: Ints = np.rint(rows[:, 0] / 1e6).astype(np.int64)
    columns = [np.ascontiguousarray(rows[:, index]) for index in range(2, 8)]
    if timeframe != "1d":
        return Klines.from_columns(symbol, timeframe, stamps, columns)
    days = [_trading_day(int(stamp)) for stamp in stamps]
    opens = [sessions.open_of(from_yyyymmdd(day)) for day in days]
    return Klines.from_columns(
        symbol,
        timeframe,
        np.array(opens, np.int64),
        columns,
        trading_day=np.array(days, np.int64),
    )


def _trading_day(stamp: int) -> int:
    return as_yyyymmdd(datetime.fromtimestamp(stamp / 1000, _BEIJING).date())


def ticks_of(symbol: str, rows: Floats, sessions: Sessions) -> list[Tick]:
    """Ticks from ``rows`` by :data:`TICK_COLUMNS`, without the first: volumes are differences.

    A tick carries the volume of its whole trading day; ours that of the tick alone.
    """
    ticks = []
    for before, row in pairwise(rows):
        moment, earlier = round(row[0] / 1e6), round(before[0] / 1e6)
        same_day = sessions.trading_day(moment) == sessions.trading_day(earlier)
        traded = row[7] - before[7] if same_day else row[7]
        last, bid, ask, bid_size, ask_size = (_number(value) for value in row[2:7])
        ticks.append(
            Tick(
                symbol, moment, last, bid, ask, bid_size, ask_size, _number(traded), _number(row[8])
            )
        )
    return ticks


def _number(value: float) -> float:
    """``value``, 0 where the venue gives none."""
    return 0.0 if np.isnan(value) else float(value)


def contract_of(symbol: str, entry: Mapping[str, Any]) -> Contract:
    """The contract behind an entry of the contract service. Raises ProtocolError."""
    future = underlying_of(entry) or entry
    try:
        times = entry.get("trading_time") or future["trading_time"]
        return Contract(
            symbol=symbol,
            price_tick=_positive(future, "price_tick"),
            quantity_step=1.0,
            min_quantity=1.0,
            multiplier=_positive(future, "volume_multiple"),
            currency="CNY",
            sessions=Sessions(_ZONE, _spans(times["day"]), _spans(times.get("night") or ())),
            margin=Margin(per_unit=float(future.get("margin") or 0.0)),
            commission=Commission(per_unit=float(future.get("commission") or 0.0)),
            name=str(entry.get("instrument_name") or ""),
            expires_at=round(float(future.get("expire_datetime") or 0) / 1e6),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(
            f"{symbol}: the contract service's answer lacks something: "
            f"{type(error).__name__}: {error}"
        ) from error


def underlying_of(entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The contract that a main contract stands for at present; None for any other entry."""
    edges = (entry.get("underlying") or {}).get("edges") or ()
    return next((edge["node"] for edge in edges if edge.get("node")), None)


def _positive(entry: Mapping[str, Any], key: str) -> float:
    value = float(entry[key])
    if not value > 0:
        raise ValueError(f"{key} must be positive, not {value:g}")
    return value


def _spans(times: Sequence[Sequence[str]]) -> tuple[Minutes, ...]:
    return tuple((_minutes(start), _minutes(end)) for start, end in times)


def _minutes(text: str) -> int:
    hours, minutes, _ = text.split(":")
    return int(hours) * 60 + int(minutes)


def bars_between(start: int, end: int, length: int, sessions: Sessions) -> int:
    """At most so many bars of ``length`` ms open in [``start``, ``end``) (UTC ms)."""
    if end <= start:
        return 0
    days = (end - start) // DAY_MS + 2
    if length >= DAY_MS:
        return days
    in_a_day = sum(
        (close - open_) * 60_000 // length + 2 for open_, close in (*sessions.day, *sessions.night)
    )
    return min((end - start) // length + 1, days * in_a_day)
