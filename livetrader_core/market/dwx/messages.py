"""Frames of the DWX protocol v2.0.1: commands, bars of history, and what is published.

Facts from the expert advisor's published source and from running it: fields are separated by
``;``, times are broker server time, `HIST` gives every bar that opens in a range with both its
ends. Published topics are separated by ``:|:`` in the current build and by a space in earlier ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np

from livetrader_core.errors import ProtocolError, Unavailable
from livetrader_core.market.dwx.replies import Reply
from livetrader_core.models import Floats, Ints
from livetrader_core.timeframe import DAY_MS

HEARTBEAT = "HEARTBEAT;"
#: Eleven fields: the advisor ends on a TRADE command that has fewer.
ACCOUNT_INFO = "TRADE;GET_ACCOUNT_INFO;0;EURUSD;0.0;0;0;;0.01;0;0"

#: Minutes of MetaTrader's timeframes by the name it writes behind a symbol.
PERIODS = {"M1": 1, "M5": 5, "M15": 15, "M30": 30, "H1": 60, "H4": 240, "D1": 1440}
PERIOD_NAMES = {minutes: name for name, minutes in PERIODS.items()}

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_EPOCH = datetime(1970, 1, 1)
_TIME = re.compile(r"(\d{4}\.\d{2}\.\d{2}) (\d{2}):(\d{2})(?::(\d{2}))?")
_SEPARATOR = ":|:"

#: What is behind a reply that the terminal gives instead of any answer, and what to do.
_BLOCKS = {
    "TRADING_IS_NOT_ALLOWED": "switch on AutoTrading, and 'Allow live trading' in its settings",
    "EA_IS_DISABLED": "switch on AutoTrading in the terminal",
    "TRADE_CONTEXT_BUSY": "another expert advisor holds the terminal's trade context; it passes",
    "DLLS_DISABLED": "allow DLL imports in the expert advisor's settings",
    "LIBS_DISABLED": "allow imports of external experts in the expert advisor's settings",
    "NO_BROKER_CONNECTION": "the terminal has no connection to its broker: check its login",
    "EA_IS_STOPPED": "the expert advisor was stopped: attach it to a chart again",
}


# --------------------------------------------------------------------------- commands


def history(symbol: str, period: int, start: int, end: int) -> str:
    """Ask for bars that open from ``start`` to ``end`` (server time, ms), both included."""
    return f"HIST;{symbol};{period};{write_time(start)};{write_time(end)}"


def track_prices(symbols: Sequence[str]) -> str:
    """Publish ticks of these symbols and of no others."""
    return ";".join(("TRACK_PRICES", *symbols))


def track_rates(symbols: Sequence[str]) -> str:
    """Publish one-minute bars of these symbols and of no others."""
    return ";".join(("TRACK_RATES", *(f"{symbol};1" for symbol in symbols)))


# --------------------------------------------------------------------------- times


def write_time(server: int) -> str:
    """A server time (ms) as the advisor reads it."""
    moment = _EPOCH + timedelta(milliseconds=server)
    return moment.strftime("%Y.%m.%d %H:%M:%S")


def read_time(text: object) -> int:
    """The server time (ms) in ``text``. Raises ProtocolError."""
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ProtocolError(f"{text!r} is not a time such as 2020.11.02 14:30")
    day, hours, minutes, seconds = match.groups()
    return _day(day) + (int(hours) * 3600 + int(minutes) * 60 + int(seconds or 0)) * 1000


@lru_cache(maxsize=64)
def _day(text: str) -> int:
    try:
        year, month, day = map(int, text.split("."))
        return (date(year, month, day).toordinal() - _EPOCH_ORDINAL) * DAY_MS
    except ValueError:
        raise ProtocolError(f"{text!r} is not a date") from None


# --------------------------------------------------------------------------- replies


def answers(action: str) -> Callable[[Reply], bool]:
    """Tells the replies with this ``_action``."""
    return lambda reply: reply.get("_action") == action


def check_blocked(reply: Reply) -> None:
    """Raise Unavailable if the terminal refused to run the command at all."""
    response = reply.get("_response")
    if "_action" in reply or not isinstance(response, str):
        return
    reason = response.removesuffix("__ABORTED_COMMAND")
    advice = _BLOCKS.get(reason)
    if advice is None and reason == response:
        return
    raise Unavailable(f"the terminal answers {reason}: {advice or 'look into its journal'}")


@dataclass(frozen=True)
class Bars:
    """Bars of one symbol as MetaTrader stamps them: ``server`` is the open, in server time (ms)."""

    server: Ints
    #: open, high, low, close, tick volume
    columns: tuple[Floats, ...]

    def __len__(self) -> int:
        return len(self.server)


def read_bars(reply: Reply) -> Bars | None:
    """The bars in a HIST reply; None if it says that there are none. Raises ProtocolError."""
    rows = reply.get("_data")
    if rows is None and reply.get("_response") == "NOT_AVAILABLE":
        return None
    if not isinstance(rows, list) or not rows:
        raise ProtocolError(f"a HIST reply holds neither bars nor NOT_AVAILABLE: {reply!r:.200}")
    try:
        server = np.array([read_time(row["time"]) for row in rows], np.int64)
        names = ("open", "high", "low", "close", "tick_volume")
        values = np.array([[row[name] for name in names] for row in rows], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"a bar of a HIST reply cannot be read: {error!r}") from error
    open_, high, low, close, volume = values.T
    if not np.isfinite(values).all() or (values[:, :4] <= 0).any() or (volume < 0).any():
        raise ProtocolError("a bar of a HIST reply has a price or volume that cannot be")
    if (np.diff(server) <= 0).any():
        raise ProtocolError("the bars of a HIST reply are not in order")
    return Bars(server, (open_, high, low, close, volume))


def is_history(reply: Reply, symbol: str, period: int, start: int, end: int) -> bool:
    """Whether ``reply`` can be the answer to :func:`history` with these arguments."""
    if reply.get("_action") != "HIST":
        return False
    # The earliest builds don't name the symbol.
    if reply.get("_symbol", f"{symbol}_{PERIOD_NAMES[period]}") != (
        f"{symbol}_{PERIOD_NAMES[period]}"
    ):
        return False
    rows = reply.get("_data")
    if not isinstance(rows, list) or not rows:
        return True
    first, last = (
        row.get("time") if isinstance(row, dict) else None for row in (rows[0], rows[-1])
    )
    return start <= read_time(first) and read_time(last) <= end


def error_symbols(reply: Reply) -> list[str] | None:
    """The symbols that a TRACK reply says do not exist; None in builds that don't say."""
    data = reply.get("_data")
    listed = data.get("error_symbols") if isinstance(data, dict) else None
    return [str(symbol) for symbol in listed] if isinstance(listed, list) else None


def account_time(reply: Reply) -> int:
    """The server time (ms) of the last quote, from GET_ACCOUNT_INFO. Raises ProtocolError."""
    data: Any = reply.get("_data")
    row = data[0] if isinstance(data, list) and data else None
    if not isinstance(row, dict):
        raise ProtocolError(f"GET_ACCOUNT_INFO gave no account: {reply!r:.200}")
    return read_time(row.get("currenttime"))


# --------------------------------------------------------------------------- publications


@dataclass(frozen=True)
class Quote:
    """A published tick; the advisor gives no time with it."""

    symbol: str
    bid: float
    ask: float


@dataclass(frozen=True)
class BarSign:
    """A published bar, which may still form: ``server`` (ms) is its open in server time."""

    symbol: str
    period: int
    server: int


def read_publication(frame: bytes) -> Quote | BarSign:
    """A tick or a bar, of any build. Raises ProtocolError."""
    text = frame.decode("utf-8", errors="replace")
    mark = _SEPARATOR if _SEPARATOR in text else " "
    topic, _, payload = text.partition(mark)
    fields = payload.split(";")
    try:
        if len(fields) == 2:
            bid, ask = _price(fields[0]), _price(fields[1])
            return Quote(topic, bid, ask)
        if len(fields) == 8:
            symbol, _, period = topic.rpartition("_")
            return BarSign(symbol, PERIODS[period], int(fields[0]) * 1000)
    except (ValueError, KeyError):
        pass
    raise ProtocolError(f"a publication of the expert advisor cannot be read: {text!r:.100}")


def _price(text: str) -> float:
    price = float(text)
    if not (math.isfinite(price) and price > 0):
        raise ValueError(f"{text} is no price")
    return price
