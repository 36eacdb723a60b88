"""Frames of the extended market: requests built and bodies parsed by pytdx, everything checked.

An answer begins with ``b1 cb 74 00 | flag | tag[4] | 00 | u16 command | u16 zipped | u16
unzipped``, little-endian; its body is inflated where the two sizes differ. The venue echoes the
tag, so every request gets one of its own instead of pytdx's constant one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Generic, TypeVar

import numpy as np

from livetrader_core.errors import ConfigError, ProtocolError
from livetrader_core.models import Floats, Ints

T = TypeVar("T")

HEADER_SIZE = 16
#: Most bars and instruments that one answer holds.
MOST_BARS = 700
MOST_INSTRUMENTS = 500
#: Bar categories that are used; the venue's own longer intraday bars begin at other times.
ONE_MINUTE, DAILY = 8, 4

_MAGIC = 0x0074CBB1
_HEADER = struct.Struct("<IBIBHHH")
_BAR_SIZE, _BARS_HEAD = 32, 20
_BEIJING = timezone(timedelta(hours=8))


@dataclass(frozen=True)
class Request(Generic[T]):
    """A frame without its tag, and how the body of its answer is read.

    ``what`` names it in messages. ``parse`` raises ProtocolError.
    """

    what: str
    frame: bytes
    parse: Callable[[bytes], T]

    @property
    def command(self) -> int:
        """The command, which the answer repeats."""
        return int.from_bytes(self.frame[10:12], "little")

    def tagged(self, tag: int) -> bytes:
        """The frame with ``tag`` in place of pytdx's."""
        return self.frame[:1] + tag.to_bytes(4, "little") + self.frame[5:]


@dataclass(frozen=True)
class Header:
    """What comes before the body of an answer."""

    tag: int
    command: int
    zipped: int
    unzipped: int


@dataclass(frozen=True)
class Page:
    """Bars as the venue labels them, oldest first, by columns.

    ``day`` is YYYYMMDD and ``minute`` counts from midnight, both of the venue's label.
    """

    day: Ints
    minute: Ints
    prices: tuple[Floats, Floats, Floats, Floats]
    volume: Floats
    open_interest: Floats

    def __len__(self) -> int:
        return len(self.day)


@dataclass(frozen=True)
class Instrument:
    """One line of the venue's list."""

    market: int
    code: str
    name: str


@dataclass(frozen=True)
class Quote:
    """Last price, best bid and ask, and the day's volume and open interest."""

    last: float
    before: float
    bid: float
    ask: float
    bid_size: float
    ask_size: float
    volume: float
    open_interest: float


# --------------------------------------------------------------------------- frames


def read_header(data: bytes) -> Header:
    """The header in the first 16 bytes of ``data``. Raises ProtocolError."""
    magic, _, tag, _, command, zipped, unzipped = _HEADER.unpack(data[:HEADER_SIZE])
    if magic != _MAGIC:
        raise ProtocolError(f"an answer begins with {data[:4].hex()}, not with b1cb7400")
    if not (zipped and unzipped):
        raise ProtocolError("an answer has no body")
    return Header(tag, command, zipped, unzipped)


def read_body(header: Header, data: bytes) -> bytes:
    """The body, inflated if it was deflated. Raises ProtocolError."""
    if header.zipped == header.unzipped:
        return data
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(data, header.unzipped + 1)
    except zlib.error as error:
        raise ProtocolError(f"an answer cannot be inflated: {error}") from error
    if len(body) != header.unzipped or not inflater.eof:
        raise ProtocolError(
            f"an answer holds {len(body)} bytes where its header says {header.unzipped}"
        )
    return body


# --------------------------------------------------------------------------- requests


def setup() -> Request[int]:
    """The greeting; its answer is the host's clock in UTC milliseconds, 0 if it shows none."""
    from pytdx.parser.ex_setup_commands import ExSetupCmd1

    return Request("the greeting", _built(ExSetupCmd1), _host_clock)


def count() -> Request[int]:
    """How many instruments there are; also what keeps a line alive."""
    from pytdx.parser.ex_get_instrument_count import GetInstrumentCount

    def parse(body: bytes) -> int:
        if len(body) < 23:
            raise ProtocolError(f"a count of {len(body)} bytes")
        return int(GetInstrumentCount(None).parseResponse(body))

    return Request("the count of instruments", _built(GetInstrumentCount), parse)


def instruments(start: int) -> Request[list[Instrument]]:
    """The instruments from number ``start`` on."""
    from pytdx.parser.ex_get_instrument_info import GetInstrumentInfo

    def parse(body: bytes) -> list[Instrument]:
        first, n = struct.unpack_from("<IH", body) if len(body) >= 6 else (-1, 0)
        if first != start or len(body) < 6 + 64 * n:
            raise ProtocolError(f"instruments from {first}, {n} in {len(body)} bytes, not {start}")
        rows = GetInstrumentInfo(None).parseResponse(body)
        return [Instrument(row["market"], row["code"].strip("\0 "), row["name"]) for row in rows]

    what = f"the instruments from {start}"
    return Request(what, _built(GetInstrumentInfo, start, MOST_INSTRUMENTS), parse)


def quote(market: int, code: str) -> Request[Quote | None]:
    """The quote of one instrument; None if the venue has none."""
    from pytdx.parser.ex_get_instrument_quote import GetInstrumentQuote

    def parse(body: bytes) -> Quote | None:
        _check_code(body, market, code)
        if len(body) < 20:
            return None
        if len(body) < 150:
            raise ProtocolError(f"a quote of {code} in {len(body)} bytes")
        return _quote(GetInstrumentQuote(None).parseResponse(body)[0])

    return Request(f"the quote of {code}", _built(GetInstrumentQuote, market, code), parse)


def bars(category: int, market: int, code: str, start: int, count: int) -> Request[Page]:
    """``count`` bars, the newest but ``start``."""
    from pytdx.parser.ex_get_instrument_bars import GetInstrumentBars

    def parse(body: bytes) -> Page:
        _check_code(body, market, code)
        n = int.from_bytes(body[18:20], "little") if len(body) >= _BARS_HEAD else -1
        # An empty page carries one bar of zeros.
        if (
            n < 0
            or n > count
            or len(body) not in (_BARS_HEAD + _BAR_SIZE * max(n, k) for k in (0, not n))
        ):
            raise ProtocolError(f"{n} bars of {code} in {len(body)} bytes, asked for {count}")
        parser = GetInstrumentBars(None)
        parser.category = category
        rows = parser.parseResponse(body)
        if rows is None:
            raise ProtocolError(f"pytdx makes nothing of the bars of {code}")
        return _page(rows)

    what = f"the bars of {code}"
    return Request(what, _built(GetInstrumentBars, category, market, code, start, count), parse)


def _built(parser: type[Any], *arguments: Any) -> bytes:
    built = parser(None)
    if arguments:
        built.setParams(*arguments)
    else:
        built.setup()
    return bytes(built.send_pkg)


def require_pytdx() -> None:
    """Raise ConfigError, saying what to install, if pytdx is not there."""
    try:
        import pytdx.parser  # noqa: F401
    except ImportError as error:
        raise ConfigError("TdxMarket needs pytdx: pip install 'livetrader[tdx]'") from error


# --------------------------------------------------------------------------- bodies


def _check_code(body: bytes, market: int, code: str) -> None:
    """Every answer about an instrument begins with its market and its code."""
    told = body[1:10].rstrip(b"\0")
    if len(body) < 10 or body[0] != market or told != code.encode("gbk"):
        raise ProtocolError(
            f"asked for {code} of market {market}, answered {told!r} of {body[:1].hex() or 'none'}"
        )


def _host_clock(body: bytes) -> int:
    if len(body) < 61:
        return 0
    year, month, day, minute, hour, _, second = struct.unpack_from("<HBBBBBB", body, 53)
    try:
        local = datetime(year, month, day, hour, minute, second, tzinfo=_BEIJING)
    except ValueError:
        return 0
    return round(local.timestamp() * 1000)


def _page(rows: list[dict[str, Any]]) -> Page:
    def column(name: str) -> Floats:
        return np.array([row[name] for row in rows], np.float64)

    day = [row["year"] * 10_000 + row["month"] * 100 + row["day"] for row in rows]
    minute = [row["hour"] * 60 + row["minute"] for row in rows]
    prices = as_written(np.array([column(name) for name in ("open", "high", "low", "close")]))
    return Page(
        np.array(day, np.int64),
        np.array(minute, np.int64),
        (prices[0], prices[1], prices[2], prices[3]),
        column("trade"),
        column("position"),
    )


def as_written(prices: Floats) -> Floats:
    """The decimals that a price had before it became a float32: at most 4, and what it can carry.

    Below 1,024 that is 4 decimals, below 16,384 3, below 131,072 2.
    """
    rounded = np.round(prices, 4)
    highest = float(prices.max(initial=0.0))
    for limit, decimals in ((1024.0, 3), (16_384.0, 2), (131_072.0, 1), (1_048_576.0, 0)):
        if highest < limit:
            break
        rounded = np.where(prices >= limit, np.round(prices, decimals), rounded)
    return rounded


def _quote(row: dict[str, Any]) -> Quote:
    last, before, bid, ask = as_written(
        np.array([row["price"], row["pre_close"], row["bid1"], row["ask1"]], np.float64)
    ).tolist()
    return Quote(
        last,
        before,
        bid,
        ask,
        float(row["bid_vol1"]),
        float(row["ask_vol1"]),
        float(row["zongliang"]),
        float(row["chicang"]),
    )
