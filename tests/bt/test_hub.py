"""Klines of one moment leave together, and nothing waits longer than it must."""

from __future__ import annotations

import threading
import time

from livetrader_bt.hub import Channel, Hub, Source
from livetrader_core.models import Clock, FeedState, FeedStatus, Kline
from livetrader_core.session import MarketInfo
from livetrader_core.sessions import Sessions
from tests.support.scripted_market import START, bar, contract

CLOCKED = MarketInfo(clocked=True, paced=True)
FREE = MarketInfo()


def channel(hub: Hub, symbol: str, market: MarketInfo, source: Source | None = None) -> Channel:
    added = Channel(contract(symbol), "1m", market, source or Source(symbol), in_history=False)
    hub.add(added)
    return added


def kline(symbol: str, minute: int) -> Kline:
    return bar(minute, 1.0, 1.0, 1.0, 1.0, symbol=symbol)


def taken(hub: Hub, channel: Channel) -> Kline | None:
    arrival = hub.take(channel)
    return None if arrival is None else arrival.kline


def end(minute: int) -> int:
    return START + (minute + 1) * 60_000


def test_a_moment_waits_for_the_clock_of_the_others() -> None:
    hub, source = Hub(align_timeout=60.0), Source("one")
    a, b = channel(hub, "US.A", CLOCKED, source), channel(hub, "US.B", CLOCKED, source)
    hub.push(source, kline("US.A", 0))
    assert taken(hub, a) is None
    hub.push(source, Clock(("US",), end(0)))
    assert taken(hub, a) == kline("US.A", 0)
    assert taken(hub, b) is None
    hub.push(source, kline("US.A", 1))
    hub.push(source, kline("US.B", 1))
    hub.push(source, Clock(("US",), end(1)))
    assert taken(hub, a) == kline("US.A", 1)
    assert taken(hub, b) == kline("US.B", 1)


def test_the_next_moment_waits_until_this_one_is_taken() -> None:
    hub, source = Hub(), Source("one")
    a, b = channel(hub, "US.A", CLOCKED, source), channel(hub, "US.B", CLOCKED, source)
    for minute in (0, 1):
        hub.push(source, kline("US.A", minute))
        hub.push(source, kline("US.B", minute))
    hub.push(source, Clock(("US",), end(1)))
    assert taken(hub, a) == kline("US.A", 0)
    assert taken(hub, a) is None
    assert taken(hub, b) == kline("US.B", 0)
    assert taken(hub, a) == kline("US.A", 1)


def test_without_clocks_the_timeout_decides_and_a_late_kline_is_counted() -> None:
    hub = Hub(align_timeout=0.05)
    a, b = channel(hub, "US.A", FREE), channel(hub, "US.B", FREE)
    hub.push(a.source, kline("US.A", 0))
    assert taken(hub, a) is None
    hub.wait(5.0, wake_on_inbox=False)
    assert taken(hub, a) == kline("US.A", 0)
    hub.push(a.source, kline("US.A", 1))
    hub.push(b.source, kline("US.B", 1))
    assert taken(hub, a) is not None
    assert taken(hub, b) is not None
    assert hub.late_klines == 0
    hub.push(b.source, kline("US.B", 0))
    assert taken(hub, b) == kline("US.B", 0)
    assert hub.late_klines == 1


def test_a_closed_session_holds_nobody_up() -> None:
    hub = Hub(align_timeout=60.0)
    a = channel(hub, "US.A", FREE)
    night = contract("US.B", sessions=Sessions("UTC", ((1200, 1440),)))
    hub.add(Channel(night, "1m", FREE, Source("b"), in_history=False))
    hub.push(a.source, kline("US.A", 0))
    assert taken(hub, a) == kline("US.A", 0)


def test_a_slower_timeframe_holds_up_only_its_own_ends() -> None:
    hub = Hub(align_timeout=60.0)
    a = channel(hub, "US.A", FREE)
    slow = Channel(contract("US.B"), "5m", FREE, Source("b"), in_history=False)
    hub.add(slow)
    for minute in range(5):
        hub.push(a.source, kline("US.A", minute))
    for minute in range(4):
        assert taken(hub, a) == kline("US.A", minute)
    assert taken(hub, a) is None
    hub.push(slow.source, bar(0, 1.0, 1.0, 1.0, 1.0, symbol="US.B", timeframe="5m"))
    assert taken(hub, a) == kline("US.A", 4)
    assert taken(hub, slow) is not None


def test_history_of_one_feed_holds_back_what_is_live_of_another() -> None:
    hub, source = Hub(), Source("one")
    a, b = channel(hub, "US.A", CLOCKED, source), channel(hub, "US.B", CLOCKED, source)
    b.in_history = True
    hub.push(source, kline("US.A", 0))
    hub.push(source, Clock(("US",), end(0)))
    assert taken(hub, a) is None
    hub.history_done(b)
    assert taken(hub, a) is not None


def test_a_wait_ends_with_an_arrival_on_any_feed_and_with_stop() -> None:
    hub, source = Hub(), Source("one")
    b = channel(hub, "US.B", CLOCKED, source)
    channel(hub, "US.A", CLOCKED, source)

    def arrive() -> None:
        hub.push(source, kline("US.B", 0))
        hub.push(source, Clock(("US",), end(0)))

    for wake in (arrive, hub.stop):
        timer = threading.Timer(0.05, wake)
        timer.start()
        before = time.monotonic()
        hub.wait(30.0, wake_on_inbox=False)
        timer.join()
        assert time.monotonic() - before < 10.0
        taken(hub, b)
        hub.unacked()


def test_each_clock_is_acknowledged_once_when_its_klines_are_taken() -> None:
    hub, source = Hub(), Source("one")
    a = channel(hub, "US.A", CLOCKED, source)
    hub.push(source, kline("US.A", 0))
    hub.push(source, Clock(("US",), end(0)))
    assert hub.unacked() == []
    taken(hub, a)
    assert hub.unacked() == [(source, end(0))]
    assert hub.unacked() == []


def test_a_moment_waits_for_its_fills() -> None:
    hub, source = Hub(), Source("one")
    a = channel(hub, "US.A", CLOCKED, source)
    hub.on_trade(lambda event: None)
    hub.push(source, kline("US.A", 0))
    hub.push(source, Clock(("US",), end(0), trade_seq=3))
    assert taken(hub, a) is None
    source.seen_seq = 3
    hub.wake()
    assert taken(hub, a) is not None


def test_a_feed_is_over_when_it_ended_and_all_is_taken() -> None:
    hub, source = Hub(), Source("one")
    a = channel(hub, "US.A", CLOCKED, source)
    hub.push(source, kline("US.A", 0))
    hub.push(source, Clock(("US",), end(0)))
    hub.push(source, FeedStatus(("US",), FeedState.ENDED))
    assert not hub.is_over(a)
    taken(hub, a)
    assert hub.is_over(a)


def test_klines_that_history_has_are_forgotten() -> None:
    hub, source = Hub(align_timeout=60.0), Source("one")
    a = channel(hub, "US.A", FREE, source)
    for minute in range(4):
        hub.push(source, kline("US.A", minute))
    hub.drop_before(a, end(1))
    assert [taken(hub, a), taken(hub, a), taken(hub, a)] == [
        kline("US.A", 2),
        kline("US.A", 3),
        None,
    ]
