"""The bytes on the wire, exactly enough that either side could be written anew.

Sockets
    Requests go from a DEALER (client) to a ROUTER (server), publications from an XPUB (server) to
    SUB sockets. Bodies are MessagePack. Integers are at most 64 bits; times are UTC milliseconds.

Request: one frame
    ``[id, method, timeout_ms, args]``. ``id`` is unique among the client's open requests; id 0
    wants no reply. The server gives up after ``timeout_ms``. ``args`` are positional and complete.

Reply: one frame, and those of klines
    ``[id, 0, result, klines]`` where ``klines`` is nil, or ``[symbol, timeframe, rows, forming,
    with_days]``; then columns of ``rows`` little-endian values follow: datetime (int64), open,
    high, low, close, volume, open_interest (float64) and, if ``with_days``, trading_day (int64),
    either in a frame each or one behind another in a single frame.
    ``[id, 1, class, message]`` is an error of :mod:`livetrader_core.errors`.

Greeting
    The first request is ``hello`` with ``[protocol, version, scheme]``: the number
    :data:`PROTOCOL`, the client's release and the scheme of the endpoint it used. This request,
    and its reply if that is an error, have the same form in every version. The result is a map,
    see :class:`Greeting`. ``events`` is where to subscribe: for ipc and inproc a suffix to the
    endpoint that the client used, for tcp a port on the host that the client used.

Publication: one frame, the topic with the body behind it
    A topic ends with a zero byte, so that none is the beginning of another: ``k|SYMBOL|TIMEFRAME``
    klines, ``t|SYMBOL`` ticks, ``c`` clocks and statuses, ``o`` trade events, ``h`` heartbeats,
    ``s|NONCE`` sync. The bodies begin with the server's start id and, but for sync, a sequence
    number, which counts from 1 in each topic; of trade events it is the journal's.

    ======= =====================================================================================
    kline   ``[start, seq, datetime, open, high, low, close, volume, open_interest, closed, day]``
    tick    ``[start, seq, datetime, last, bid, ask, bid_size, ask_size, volume, open_interest]``
    clock   ``[start, seq, 0, markets, datetime, trade_seq, [[topic, seq], …]]``: with the last
            number of each kline topic that published since the clock before
    status  ``[start, seq, 1, markets, state, reason]``
    trade   ``[start, seq, event]``: the map of :meth:`TradeEvent.to_dict`
    beat    ``[start, seq, control_seq, trade_seq, [[topic, seq], …], {market: time}]``: with the
            last number of each kline topic that published lately, and the venues' clocks
    sync    ``[start]``: published when the subscription to its topic arrives, and so a proof that
            the subscriptions made before it on that socket are active
    ======= =====================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from livetrader_core.errors import BY_NAME, InvalidRequest, LiveTraderError, ProtocolError
from livetrader_core.models import (
    VALUE_COLUMNS,
    Clock,
    FeedState,
    FeedStatus,
    Kline,
    Klines,
    Tick,
    TradeEvent,
)
from livetrader_core.session import MarketInfo

PROTOCOL = 2

#: Largest request the server takes, in bytes.
MAX_REQUEST = 256 * 1024
#: Largest frame a client takes, in bytes.
MAX_REPLY = 256 * 1024 * 1024
#: Longest deadline of a request, in milliseconds.
MAX_TIMEOUT_MS = 600_000
#: Most trade events in one reply.
MAX_EVENTS = 2000
#: Longest topic.
MAX_TOPIC = 256

CONTROL = b"c\0"
TRADE = b"o\0"
HEARTBEAT = b"h\0"
#: How sync topics begin.
SYNC = b"s|"

_OK, _ERROR = 0, 1
_CLOCK, _STATUS = 0, 1
#: Rows that are sent in a single frame.
_FEW = 1000
_INT, _FLOAT = np.dtype("<i8"), np.dtype("<f8")
_VALUES = len(VALUE_COLUMNS)


# --------------------------------------------------------------------------- bodies


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be sent")


def pack(body: Any) -> bytes:
    """``body`` as MessagePack. Raises InvalidRequest for what it cannot hold."""
    try:
        return msgpack.packb(body, default=_plain)  # type: ignore[no-any-return]
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"this cannot be sent: {error}") from None


def unpack(data: bytes | memoryview) -> Any:
    """The body in ``data``. Raises ProtocolError."""
    try:
        return msgpack.unpackb(data)
    except Exception as error:  # its errors have no common base
        raise ProtocolError(f"not a MessagePack body: {error or type(error).__name__}") from None


def _unpack_list(data: bytes | memoryview, length: int) -> list[Any]:
    body = unpack(data)
    if type(body) is not list or len(body) != length:
        raise ProtocolError(f"not a list of {length}")
    return body


def _check(value: Any, kind: type, name: str) -> Any:
    if type(value) is not kind:
        raise ProtocolError(f"{name} is {type(value).__name__}, not {kind.__name__}")
    return value


def _integer(value: Any, name: str) -> int:
    number: int = _check(value, int, name)
    if not -(2**63) <= number < 2**63:
        raise ProtocolError(f"{name} has more than 64 bits")
    return number


def _number(value: Any, name: str) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    raise ProtocolError(f"{name} is {type(value).__name__}, not a number")


def _texts(value: Any, name: str) -> tuple[str, ...]:
    return tuple(_check(item, str, name) for item in _check(value, list, name))


# --------------------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived, its parts checked."""

    id: int
    method: str
    timeout_ms: int
    args: list[Any]


class BadRequest(ProtocolError):
    """A request that cannot be read; ``id`` is its id, or 0 if not even that can be read."""

    def __init__(self, message: str, id: int = 0) -> None:
        super().__init__(message)
        self.id = id


def encode_request(id: int, method: str, timeout_ms: int, args: Sequence[Any]) -> bytes:
    """A request. Raises InvalidRequest."""
    body = pack((id, method, timeout_ms, args))
    if len(body) > MAX_REQUEST:
        raise InvalidRequest(f"{method}: the request has {len(body)} bytes, over {MAX_REQUEST}")
    return body


def decode_request(data: bytes | memoryview) -> Request:
    """The request in ``data``. Raises BadRequest."""
    try:
        body = unpack(data)
    except ProtocolError as error:
        raise BadRequest(str(error)) from None
    if type(body) is not list or not body or type(body[0]) is not int or body[0] < 0:
        raise BadRequest("a request is [id, method, timeout_ms, args]")
    number = body[0]
    if len(body) != 4:
        raise BadRequest("a request is [id, method, timeout_ms, args]", number)
    _, method, timeout_ms, args = body
    if type(method) is not str or type(args) is not list:
        raise BadRequest("method must be a string and args a list", number)
    if type(timeout_ms) is not int or not 0 < timeout_ms <= MAX_TIMEOUT_MS:
        raise BadRequest(f"timeout_ms must lie between 1 and {MAX_TIMEOUT_MS}", number)
    return Request(number, method, timeout_ms, args)


def timeout_to_ms(timeout: float) -> int:
    """Seconds as a request carries them."""
    return max(1, min(math.ceil(timeout * 1000), MAX_TIMEOUT_MS))


# --------------------------------------------------------------------------- replies


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request: a plain result, klines, or both."""

    result: Any = None
    klines: Klines | None = None


def encode_reply(id: int, reply: Reply) -> list[bytes | memoryview]:
    """The frames of an answer. Raises InvalidRequest if the result cannot be packed."""
    klines = reply.klines
    if klines is None:
        return [pack((id, _OK, reply.result, None))]
    days = klines.trading_day
    header = (klines.symbol, klines.timeframe, len(klines), klines.forming, days is not None)
    columns = [np.ascontiguousarray(klines.datetime, _INT)]
    columns += [np.ascontiguousarray(column, _FLOAT) for column in klines.columns()]
    if days is not None:
        columns.append(np.ascontiguousarray(days, _INT))
    head = pack((id, _OK, reply.result, header))
    if len(klines) <= _FEW:
        return [head, b"".join(column.data for column in columns)]
    return [head, *(column.data.cast("B") for column in columns)]


def encode_error(id: int, error: LiveTraderError) -> bytes:
    """The frame of an error; classes that the other side cannot know go as their base."""
    name = next(c.__name__ for c in type(error).__mro__ if c.__name__ in BY_NAME)
    return pack((id, _ERROR, name, str(error)))


def decode_reply(frames: Sequence[bytes | memoryview]) -> tuple[int, Reply | LiveTraderError]:
    """The id and what was answered. Raises ProtocolError."""
    number, status, result, extra = _unpack_list(frames[0], 4)
    _check(number, int, "id")
    if status == _ERROR:
        kind = BY_NAME.get(_check(result, str, "error class"), LiveTraderError)
        return number, kind(_check(extra, str, "error message"))
    if status != _OK:
        raise ProtocolError(f"a reply of status {status!r}")
    if extra is None:
        return number, Reply(result)
    return number, Reply(result, _decode_klines(_check(extra, list, "klines"), frames[1:]))


def _decode_klines(header: list[Any], frames: Sequence[bytes | memoryview]) -> Klines:
    if len(header) != 5:
        raise ProtocolError("klines need 5 fields")
    symbol, timeframe = (_check(text, str, "symbol and timeframe") for text in header[:2])
    rows = _integer(header[2], "rows")
    forming, with_days = (_check(flag, bool, "forming and with_days") for flag in header[3:])
    count = 1 + _VALUES + with_days
    size = rows * 8
    if rows < 0 or [len(frame) for frame in frames] not in ([size * count], [size] * count):
        raise ProtocolError(f"{symbol} {timeframe}: the columns are not those of {rows} klines")
    if len(frames) == 1:
        places = [(frames[0], size * position) for position in range(count)]
    else:
        places = [(frame, 0) for frame in frames]
    columns = [np.frombuffer(data, _FLOAT, rows, at) for data, at in places[1 : 1 + _VALUES]]
    days = np.frombuffer(places[-1][0], _INT, rows, places[-1][1]) if with_days else None
    times = np.frombuffer(places[0][0], _INT, rows)
    return Klines.from_columns(symbol, timeframe, times, columns, days, forming)


# --------------------------------------------------------------------------- greeting


@dataclass(frozen=True)
class Greeting:
    """What a server answers to ``hello``."""

    protocol: int
    version: str
    start_id: str
    #: Suffix (ipc, inproc) or port (tcp) of the events endpoint.
    events: str
    #: Seconds between heartbeats.
    heartbeat: float
    #: Requests that a client may have open at once.
    max_in_flight: int
    #: Tells the journal from any other: numbers of trade events count within one. Empty: none.
    journal: str
    markets: dict[str, MarketInfo]

    def to_dict(self) -> dict[str, Any]:
        """A plain mapping, as the wire carries it."""
        return {
            **vars(self),
            "markets": {code: _info_fields(info) for code, info in self.markets.items()},
        }

    @classmethod
    def from_dict(cls, data: Any) -> Greeting:
        """The greeting behind :meth:`to_dict`. Raises ProtocolError."""
        fields = _check(data, dict, "greeting")
        try:
            markets = _check(fields["markets"], dict, "markets")
            greeting = cls(
                protocol=_integer(fields["protocol"], "protocol"),
                version=_check(fields["version"], str, "version"),
                start_id=_check(fields["start_id"], str, "start_id"),
                events=_check(fields["events"], str, "events"),
                heartbeat=_number(fields["heartbeat"], "heartbeat"),
                max_in_flight=_integer(fields["max_in_flight"], "max_in_flight"),
                journal=_check(fields["journal"], str, "journal"),
                markets={
                    _check(code, str, "market"): _info(info) for code, info in markets.items()
                },
            )
        except KeyError as error:
            raise ProtocolError(f"the greeting lacks {error}") from None
        if not (greeting.heartbeat > 0 and greeting.max_in_flight > 0):
            raise ProtocolError("the greeting's heartbeat and max_in_flight must be positive")
        return greeting


def _info_fields(info: MarketInfo) -> list[Any]:
    return [info.clocked, info.paced, info.delay_ms, info.trade, info.fill_on, info.begun]


def _info(fields: Any) -> MarketInfo:
    if type(fields) is not list or len(fields) != 6:
        raise ProtocolError("a market has 6 fields")
    clocked, paced, delay_ms, trade, fill_on, begun = fields
    return MarketInfo(
        clocked=_check(clocked, bool, "clocked"),
        paced=_check(paced, bool, "paced"),
        delay_ms=_integer(delay_ms, "delay_ms"),
        trade=None if trade is None else _check(trade, str, "trade"),
        fill_on=_check(fill_on, str, "fill_on"),
        begun=_check(begun, bool, "begun"),
    )


# --------------------------------------------------------------------------- topics


def _topic(kind: str, *parts: str) -> bytes:
    for part in parts:
        if not part or "|" in part or "\0" in part:
            raise InvalidRequest(f"{part!r} cannot be part of a topic")
    topic = "|".join((kind, *parts)).encode() + b"\0"
    if len(topic) > MAX_TOPIC:
        raise InvalidRequest(f"{parts[0]!r} is too long for a topic")
    return topic


def kline_topic(symbol: str, timeframe: str) -> bytes:
    """The topic of a kline stream. Raises InvalidRequest for a symbol that cannot be one."""
    return _topic("k", symbol, timeframe)


def tick_topic(symbol: str) -> bytes:
    """The topic of a tick stream."""
    return _topic("t", symbol)


def sync_topic(nonce: str) -> bytes:
    """The topic on which one subscriber proves its subscriptions."""
    return _topic("s", nonce)


# --------------------------------------------------------------------------- publications


def split_publication(frame: bytes) -> tuple[bytes, bytes]:
    """Topic and body. Raises ProtocolError."""
    end = frame.find(b"\0") + 1
    if not end:
        raise ProtocolError("a publication without a topic")
    return frame[:end], frame[end:]


def encode_kline(start_id: str, seq: int, kline: Kline) -> bytes:
    """The body of a kline publication."""
    return pack(
        (
            start_id,
            seq,
            kline.datetime,
            kline.open,
            kline.high,
            kline.low,
            kline.close,
            kline.volume,
            kline.open_interest,
            kline.closed,
            kline.trading_day,
        )
    )


def decode_kline(symbol: str, timeframe: str, data: bytes) -> tuple[str, int, Kline]:
    """Start id, sequence number and kline. Raises ProtocolError."""
    start_id, seq, ts, open_, high, low, close, volume, interest, closed, day = _unpack_list(
        data, 11
    )
    if not (type(start_id) is str and type(seq) is type(ts) is type(day) is int):
        raise ProtocolError("start id, seq, datetime or trading day of a kline is of a wrong type")
    if not type(open_) is type(high) is type(low) is type(close) is type(volume) is float:
        open_, high, low, close, volume = (
            _number(value, "a price or volume") for value in (open_, high, low, close, volume)
        )
    interest = _number(interest, "open_interest")
    _check(closed, bool, "closed")
    return (
        start_id,
        seq,
        Kline(symbol, timeframe, ts, open_, high, low, close, volume, interest, closed, day),
    )


def encode_tick(start_id: str, seq: int, tick: Tick) -> bytes:
    """The body of a tick publication."""
    return pack(
        (
            start_id,
            seq,
            tick.datetime,
            tick.last,
            tick.bid,
            tick.ask,
            tick.bid_size,
            tick.ask_size,
            tick.volume,
            tick.open_interest,
        )
    )


def decode_tick(symbol: str, data: bytes) -> tuple[str, int, Tick]:
    """Start id, sequence number and tick. Raises ProtocolError."""
    start_id, seq, ts, *values = _unpack_list(data, 10)
    numbers = [_number(value, "a price or size") for value in values]
    return (
        _check(start_id, str, "start id"),
        _integer(seq, "seq"),
        Tick(symbol, _integer(ts, "datetime"), *numbers),
    )


@dataclass(frozen=True, slots=True)
class Control:
    """A clock or a status, with the numbers of the kline topics that belong to a clock."""

    start_id: str
    seq: int
    event: Clock | FeedStatus
    streams: dict[bytes, int]


def encode_clock(start_id: str, seq: int, clock: Clock, streams: Mapping[bytes, int]) -> bytes:
    """The body of a clock publication."""
    return pack(
        (
            start_id,
            seq,
            _CLOCK,
            clock.markets,
            clock.datetime,
            clock.trade_seq,
            list(streams.items()),
        )
    )


def encode_status(start_id: str, seq: int, status: FeedStatus) -> bytes:
    """The body of a status publication."""
    return pack((start_id, seq, _STATUS, status.markets, status.state.value, status.reason))


def decode_control(data: bytes) -> Control:
    """A clock or a status. Raises ProtocolError."""
    body = unpack(data)
    if type(body) is not list or len(body) < 6:
        raise ProtocolError("not a clock or status")
    start_id, seq, kind = _check(body[0], str, "start id"), _integer(body[1], "seq"), body[2]
    if kind == _CLOCK and len(body) == 7:
        return Control(start_id, seq, clock_from(body[3:6]), _streams(body[6]))
    if kind == _STATUS and len(body) == 6:
        return Control(start_id, seq, status_from(body[3:6]), {})
    raise ProtocolError(f"a control publication of kind {kind!r} and {len(body)} fields")


def clock_from(fields: Any) -> Clock:
    """A clock from ``[markets, datetime, trade_seq]``. Raises ProtocolError."""
    if type(fields) is not list or len(fields) != 3:
        raise ProtocolError("a clock has 3 fields")
    markets, ts, trade_seq = fields
    return Clock(
        _texts(markets, "markets"), _integer(ts, "datetime"), _integer(trade_seq, "trade_seq")
    )


def status_from(fields: Any) -> FeedStatus:
    """A status from ``[markets, state, reason]``. Raises ProtocolError."""
    if type(fields) is not list or len(fields) != 3:
        raise ProtocolError("a status has 3 fields")
    markets, state, reason = fields
    try:
        known = FeedState(state)
    except ValueError:
        raise ProtocolError(f"{state!r} is not a feed state") from None
    return FeedStatus(_texts(markets, "markets"), known, _check(reason, str, "reason"))


def _streams(value: Any) -> dict[bytes, int]:
    streams = {}
    for pair in _check(value, list, "streams"):
        if type(pair) is not list or len(pair) != 2:
            raise ProtocolError("a stream is a topic and a number")
        streams[_check(pair[0], bytes, "topic")] = _integer(pair[1], "seq")
    return streams


def encode_trade(start_id: str, event: TradeEvent) -> bytes:
    """The body of a trade event's publication."""
    return pack((start_id, event.seq, event.to_dict()))


def decode_trade(data: bytes) -> tuple[str, TradeEvent]:
    """Start id and trade event. Raises ProtocolError."""
    start_id, seq, fields = _unpack_list(data, 3)
    event = trade_event_from(fields)
    if event.seq != seq:
        raise ProtocolError(f"trade event {event.seq} was published as {seq!r}")
    return _check(start_id, str, "start id"), event


def trade_event_from(fields: Any) -> TradeEvent:
    """A trade event from its map. Raises ProtocolError."""
    try:
        event = TradeEvent.from_dict(_check(fields, dict, "trade event"))
    except (InvalidRequest, TypeError, KeyError, ValueError) as error:
        raise ProtocolError(f"not a trade event: {error}") from None
    _integer(event.seq, "seq")
    return event


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat: the last numbers of everything, and the venues' clocks."""

    start_id: str
    seq: int
    control_seq: int
    trade_seq: int
    streams: dict[bytes, int]
    clocks: dict[str, int]


def encode_beat(beat: Beat) -> bytes:
    """The body of a heartbeat."""
    return pack(
        (
            beat.start_id,
            beat.seq,
            beat.control_seq,
            beat.trade_seq,
            list(beat.streams.items()),
            beat.clocks,
        )
    )


def decode_beat(data: bytes) -> Beat:
    """A heartbeat. Raises ProtocolError."""
    start_id, seq, control_seq, trade_seq, streams, clocks = _unpack_list(data, 6)
    times = {
        _check(code, str, "market"): _integer(ts, "time")
        for code, ts in _check(clocks, dict, "clocks").items()
    }
    return Beat(
        _check(start_id, str, "start id"),
        _integer(seq, "seq"),
        _integer(control_seq, "control_seq"),
        _integer(trade_seq, "trade_seq"),
        _streams(streams),
        times,
    )
