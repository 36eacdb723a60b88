"""Messages of the expert advisor's protocol, version 1 (extra/mql4/PROTOCOL.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from livetrader_core.errors import InvalidRequest, ProtocolError, VersionMismatch
from livetrader_core.market.mt4 import fields
from livetrader_core.market.mt4.fields import Object
from livetrader_core.market.mt4.refusal import Refusal
from livetrader_core.models import Floats, Ints

VERSION = b"LT1"
PROTOCOL = 1
MOST_ARGUMENTS, LONGEST_ARGUMENT = 64, 128

#: Topics that every user of a line hears.
COMMON_TOPICS = ("beat|", "event|", "account|")

Frame = bytes | memoryview
Argument = str | int | float


# --------------------------------------------------------------------------- requests


def request_frames(token: str, number: int, method: str, args: Sequence[Argument]) -> list[Frame]:
    """A request. Raises InvalidRequest if an argument cannot be sent."""
    if len(args) > MOST_ARGUMENTS:
        raise InvalidRequest(f"{method}: {len(args)} arguments are more than {MOST_ARGUMENTS}")
    head = [VERSION, token.encode(), str(number).encode(), method.encode()]
    return [*head, *(_argument(method, arg) for arg in args)]


def _argument(method: str, value: Argument) -> bytes:
    text = f"{Decimal(repr(value)):f}" if isinstance(value, float) else str(value)
    if not text.isascii() or not text.isprintable() or len(text) > LONGEST_ARGUMENT:
        raise InvalidRequest(f"{method}: {text!r:.80} cannot be sent to the expert advisor")
    return text.encode()


def read_reply(frames: Sequence[Frame]) -> tuple[int, Object | Refusal]:
    """The number of the request, and its answer. Raises ProtocolError.

    An answer that can't be read is a Refusal too, for its request is known.
    """
    if len(frames) != 3:
        raise ProtocolError(f"a reply has three frames, not {len(frames)}")
    name, state = bytes(frames[0][:64]), bytes(frames[1][:16])
    if not name.isdigit():
        raise ProtocolError(f"a reply to {name!r}, which was not asked")
    body = fields.parse(frames[2], "a reply")
    if state == b"ok":
        return int(name), body
    if state != b"error":
        raise ProtocolError(f"a reply is ok or error, not {state!r}")
    code, number = fields.text(body, "code"), fields.integer(body, "number", -1)
    return int(name), Refusal(code, number, fields.text(body, "message", 1000))


# --------------------------------------------------------------------------- publications


@dataclass(frozen=True)
class Publication:
    """What was published under ``topic``; ``symbol`` is empty where the topic has none.

    ``missed``: how many before it were not heard, since the first one that was.
    """

    topic: str
    symbol: str
    start: str
    number: int
    body: Object
    missed: int = 0


def read_publication(frames: Sequence[Frame]) -> Publication:
    """A publication, its ``missed`` not known yet. Raises ProtocolError."""
    if len(frames) != 4:
        raise ProtocolError(f"a publication has four frames, not {len(frames)}")
    topic, start, number = (bytes(frame[:80]) for frame in frames[:3])
    if not number.isdigit():
        raise ProtocolError(f"{topic!r}: its number is {number!r}")
    name, _, symbol = topic.decode("ascii", errors="replace").partition("|")
    body = fields.parse(frames[3], f"topic {name}")
    start_text = start.decode("ascii", errors="replace")
    return Publication(name, symbol.removesuffix("|"), start_text, int(number), body)


@dataclass(frozen=True)
class Beat:
    """The advisor's sign of life.

    ``time`` is the server time of the newest quote (seconds), ``offset`` how far the server's
    clock is ahead of UTC (seconds; None while no quote is fresh), ``event`` the number of the
    last order event.
    """

    time: int
    offset: int | None
    connected: bool
    trade_allowed: bool
    event: int
    clients: int
    watched: int

    @classmethod
    def read(cls, body: Object) -> Beat:
        """The beat in ``body``. Raises ProtocolError."""
        offset = None
        if body.get("offset") is not None:
            offset = fields.integer(body, "offset", -86_400, 86_400)
        return cls(
            time=fields.integer(body, "time"),
            offset=offset,
            connected=fields.flag(body, "connected"),
            trade_allowed=fields.flag(body, "trade_allowed"),
            event=fields.integer(body, "event"),
            clients=fields.integer(body, "clients"),
            watched=fields.integer(body, "watched"),
        )


@dataclass(frozen=True)
class Greeting:
    """Who answers ``hello``."""

    version: str
    start: str
    server: str
    company: str
    account: int
    currency: str
    leverage: int
    demo: bool
    magic: int
    read_only: bool
    max_lots: float
    max_orders: int
    max_symbols: int
    publications: int
    beat: Beat

    @classmethod
    def read(cls, body: Object) -> Greeting:
        """The greeting in ``body``. Raises ProtocolError, VersionMismatch."""
        protocol = fields.integer(body, "protocol")
        if protocol != PROTOCOL:
            raise VersionMismatch(
                f"the expert advisor speaks version {protocol}, this program {PROTOCOL}: "
                "update the older of the two"
            )
        return cls(
            version=fields.text(body, "version"),
            start=fields.text(body, "start"),
            server=fields.text(body, "server"),
            company=fields.text(body, "company"),
            account=fields.integer(body, "account"),
            currency=fields.text(body, "currency"),
            leverage=fields.integer(body, "leverage"),
            demo=fields.flag(body, "demo"),
            magic=fields.integer(body, "magic", -(2**31)),
            read_only=fields.flag(body, "read_only"),
            max_lots=fields.number(body, "max_lots", 0),
            max_orders=fields.integer(body, "max_orders"),
            max_symbols=fields.integer(body, "max_symbols"),
            publications=fields.integer(body, "publications", 1, 65535),
            beat=Beat.read(body),
        )


# --------------------------------------------------------------------------- market data


@dataclass(frozen=True)
class Quote:
    """A quote: ``time`` is in seconds of server time."""

    time: int
    bid: float
    ask: float

    @classmethod
    def read(cls, body: Object) -> Quote:
        """The quote in ``body``. Raises ProtocolError."""
        time = fields.integer(body, "time")
        return cls(time, fields.positive(body, "bid"), fields.positive(body, "ask"))


@dataclass(frozen=True)
class Bars:
    """Bars as MetaTrader stamps them: ``server`` is the open, in server time (ms), ascending."""

    server: Ints
    #: open, high, low, close, tick volume
    columns: tuple[Floats, ...]
    closed: list[bool]

    def __len__(self) -> int:
        return len(self.server)


def read_bars(rows: list[Any]) -> Bars:
    """The bars in ``rows``, lists as PROTOCOL.md has them. Raises ProtocolError."""
    for row in rows:
        if not isinstance(row, list) or len(row) != 8:
            raise ProtocolError(f"bars: one is not a list of eight: {row!r:.120}")
        if isinstance(row[0], bool) or not isinstance(row[0], int) or row[7] not in (0, 1):
            raise ProtocolError(f"bars: a time or the mark of a closed bar is none: {row!r:.120}")
        for value in row[1:6]:
            fields.as_number(value, "bars", 0)
    server = np.array([row[0] for row in rows], np.int64) * 1000
    values = np.array([row[1:6] for row in rows], np.float64).reshape(len(rows), 5)
    open_, high, low, close, volume = values.T
    if (values[:, :4] <= 0).any() or (high < low).any():
        raise ProtocolError("bars: one has a price that cannot be")
    if (np.diff(server) <= 0).any():
        raise ProtocolError("bars: they are not in order")
    return Bars(server, (open_, high, low, close, volume), [bool(row[7]) for row in rows])
