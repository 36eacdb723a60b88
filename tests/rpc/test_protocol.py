"""The codec: what is encoded comes back, and nothing else is taken for it."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livetrader_core.errors import BY_NAME, InvalidRequest, LiveTraderError, ProtocolError
from livetrader_core.models import (
    Clock,
    FeedState,
    FeedStatus,
    Fill,
    Kline,
    Klines,
    Order,
    OrderType,
    Side,
    Tick,
    TradeEvent,
)
from livetrader_core.rpc import calls, protocol
from livetrader_core.rpc.protocol import BadRequest, Beat, Greeting, Reply
from livetrader_core.session import MarketInfo
from tests.support.scripted_market import START, contract

floats = st.floats(allow_nan=False)
integers = st.integers(-(2**63), 2**63 - 1)


def klines(rows: int, days: bool = False, forming: bool = False) -> Klines:
    columns = [np.random.default_rng(i).random(rows) for i in range(6)]
    times = START + 60_000 * np.arange(rows, dtype=np.int64)
    trading_day = np.full(rows, 20250106, np.int64) if days else None
    return Klines.from_columns("US.A", "1d" if days else "1m", times, columns, trading_day, forming)


@given(integers, floats, floats, floats, floats, floats, floats, st.booleans(), integers)
def test_a_kline_comes_back_to_the_last_bit(
    ts: int, o: float, h: float, low: float, c: float, v: float, i: float, closed: bool, day: int
) -> None:
    kline = Kline("US.A", "1m", ts, o, h, low, c, v, i, closed, day)
    body = protocol.encode_kline("run", 7, kline)
    assert protocol.decode_kline("US.A", "1m", body) == ("run", 7, kline)


def test_a_kline_of_numpy_and_integer_values_becomes_one_of_floats() -> None:
    kline = Kline("US.A", "1m", np.int64(5), 1, np.float64(2), 1, 2, np.int64(3))  # type: ignore[arg-type]
    back = protocol.decode_kline("US.A", "1m", protocol.encode_kline("run", 1, kline))[2]
    assert back == Kline("US.A", "1m", 5, 1.0, 2.0, 1.0, 2.0, 3.0)
    assert all(type(getattr(back, n)) is float for n in ("open", "high", "low", "close", "volume"))


def test_nan_prices_survive() -> None:
    kline = Kline("US.A", "1m", 5, math.nan, 2.0, 1.0, 2.0, 3.0)
    back = protocol.decode_kline("US.A", "1m", protocol.encode_kline("run", 1, kline))[2]
    assert math.isnan(back.open)


@given(integers, st.lists(floats, min_size=7, max_size=7))
def test_a_tick_comes_back(ts: int, values: list[float]) -> None:
    tick = Tick("US.A", ts, *values)
    assert protocol.decode_tick("US.A", protocol.encode_tick("run", 3, tick)) == ("run", 3, tick)


def test_clock_status_beat_and_trade_event_come_back() -> None:
    topic = protocol.kline_topic("US.A", "1m")
    clock = Clock(("US", "HK"), START, 12)
    control = protocol.decode_control(protocol.encode_clock("run", 4, clock, {topic: 9}))
    assert (control.start_id, control.seq, control.event) == ("run", 4, clock)
    assert control.streams == {topic: 9}

    status = FeedStatus(("US",), FeedState.ENDED, "over")
    assert protocol.decode_control(protocol.encode_status("run", 5, status)).event == status

    beat = Beat("run", 1, 2, 3, {topic: 9}, {"US": START})
    assert protocol.decode_beat(protocol.encode_beat(beat)) == beat

    order = Order("a-1", "US.A", Side.BUY, OrderType.LIMIT, 10.0, price=1.5)
    fill = Fill("t", "a-1", "US.A", Side.BUY, 10.0, 1.5, 0.1, START)
    for event in (TradeEvent(8, START, order), TradeEvent(9, START, order, fill)):
        assert protocol.decode_trade(protocol.encode_trade("run", event)) == ("run", event)


@pytest.mark.parametrize("rows", [0, 1, 1000, 1001, 5000])
@pytest.mark.parametrize("days", [False, True])
def test_klines_come_back_whether_in_one_frame_or_many(rows: int, days: bool) -> None:
    sent = klines(rows, days, forming=rows > 0)
    number, reply = protocol.decode_reply(protocol.encode_reply(5, Reply([1], sent)))
    assert number == 5
    assert isinstance(reply, Reply)
    assert reply.result == [1]
    back = reply.klines
    assert back is not None
    assert (back.symbol, back.timeframe, back.forming) == (sent.symbol, sent.timeframe, rows > 0)
    assert back.datetime.dtype == np.int64
    np.testing.assert_array_equal(back.datetime, sent.datetime)
    for mine, theirs in zip(back.columns(), sent.columns(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (back.trading_day is None) == (not days)
    if days:
        np.testing.assert_array_equal(back.trading_day, sent.trading_day)


def test_columns_of_another_size_are_refused() -> None:
    header, *columns = protocol.encode_reply(5, Reply(None, klines(2000)))
    with pytest.raises(ProtocolError, match="2000 klines"):
        protocol.decode_reply([header, *columns[:-1]])
    with pytest.raises(ProtocolError, match="2000 klines"):
        protocol.decode_reply([header, *columns[:-1], bytes(columns[-1])[:-8]])
    with pytest.raises(ProtocolError, match="2000 klines"):
        protocol.decode_reply([header])


def test_every_error_class_comes_back_as_itself() -> None:
    for kind in BY_NAME.values():
        _, error = protocol.decode_reply([protocol.encode_error(1, kind("what happened"))])
        assert type(error) is kind
        assert str(error) == "what happened"


def test_an_error_class_of_its_own_goes_as_its_base() -> None:
    _, error = protocol.decode_reply([protocol.encode_error(1, BadRequest("no", 1))])
    assert type(error) is ProtocolError


def test_an_unknown_error_class_is_a_plain_error() -> None:
    body = protocol.pack((1, 1, "SomethingNew", "oops"))
    _, error = protocol.decode_reply([body])
    assert type(error) is LiveTraderError


def test_requests_come_back_and_what_is_not_one_is_refused() -> None:
    request = protocol.decode_request(protocol.encode_request(3, "status", 500, (1, "a", None)))
    assert (request.id, request.method, request.timeout_ms) == (3, "status", 500)
    assert request.args == [1, "a", None]

    for body, number in (
        (b"\xc1", 0),
        (protocol.pack("text"), 0),
        (protocol.pack([]), 0),
        (protocol.pack([-1, "status", 1, []]), 0),
        (protocol.pack([True, "status", 1, []]), 0),
        (protocol.pack([7]), 7),
        (protocol.pack([7, 1, 1, []]), 7),
        (protocol.pack([7, "status", 0, []]), 7),
        (protocol.pack([7, "status", 10**9, []]), 7),
        (protocol.pack([7, "status", 1.0, []]), 7),
        (protocol.pack([7, "status", 1, {}]), 7),
    ):
        with pytest.raises(BadRequest) as caught:
            protocol.decode_request(body)
        assert caught.value.id == number


def test_a_request_that_is_too_long_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidRequest, match="status"):
        protocol.encode_request(1, "status", 1, ("x" * protocol.MAX_REQUEST,))


def test_no_topic_is_the_beginning_of_another() -> None:
    topics = [
        protocol.kline_topic(symbol, timeframe)
        for symbol in ("US.A", "US.AA", "US.A1", "US.A.1m")
        for timeframe in ("1m", "15m", "1")
    ]
    topics += [protocol.tick_topic("US.A"), protocol.sync_topic("a"), protocol.sync_topic("ab")]
    topics += [protocol.CONTROL, protocol.TRADE, protocol.HEARTBEAT]
    assert len(set(topics)) == len(topics)
    assert not [(a, b) for a in topics for b in topics if a != b and b.startswith(a)]


@pytest.mark.parametrize("symbol", ["", "US.A|1m", "US.A\0", "US." + "A" * 300])
def test_a_symbol_that_cannot_be_a_topic_is_refused(symbol: str) -> None:
    with pytest.raises(InvalidRequest):
        protocol.kline_topic(symbol, "1m")


def test_the_greeting_and_contracts_come_back() -> None:
    info = MarketInfo(True, True, 900_000, "paper", "bar")
    greeting = Greeting(
        2, "0.1", "run", ".events", 1.0, 64, "book", {"US": info, "HK": MarketInfo()}
    )
    body = protocol.unpack(protocol.pack(greeting.to_dict()))
    assert Greeting.from_dict(body) == greeting

    sent = contract("US.A")
    reply = Reply(protocol.unpack(protocol.pack(sent.to_dict())))
    assert calls.get_contract("US.A").read(reply) == sent


def test_garbage_is_a_protocol_error_for_every_decoder() -> None:
    readers = [
        lambda b: protocol.decode_kline("US.A", "1m", b),
        lambda b: protocol.decode_tick("US.A", b),
        protocol.decode_control,
        protocol.decode_trade,
        protocol.decode_beat,
        protocol.decode_request,
        lambda b: protocol.decode_reply([b]),
        lambda b: protocol.decode_reply([b, b]),
        lambda b: Greeting.from_dict(protocol.unpack(b)),
        lambda b: calls.state().read(Reply(protocol.unpack(b))),
        lambda b: calls.fetch_orders(0, 1).read(Reply(protocol.unpack(b))),
        lambda b: calls.get_contract("US.A").read(Reply(protocol.unpack(b))),
        lambda b: calls.subscribe("US.A", "1m", None, 0).read(Reply(protocol.unpack(b))),
    ]
    seeded = random.Random(1)
    good = [
        protocol.encode_kline("run", 1, Kline("US.A", "1m", 1, 1.0, 1.0, 1.0, 1.0, 1.0)),
        protocol.encode_clock("run", 1, Clock(("US",), 1), {b"k": 1}),
        protocol.encode_beat(Beat("run", 1, 1, 1, {b"k": 1}, {"US": 1})),
        protocol.encode_request(1, "status", 1, ()),
        protocol.encode_error(1, LiveTraderError("x")),
    ]
    for _ in range(1500):
        body = bytearray(seeded.choice([*good, seeded.randbytes(seeded.randrange(40))]))
        for _ in range(seeded.randrange(3)):
            if body:
                body[seeded.randrange(len(body))] = seeded.randrange(256)
        for read in readers:
            try:
                read(bytes(body))
            except ProtocolError:
                continue
