"""MarketSubscriber and TradeSubscriber: delivery in the background."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest

from livetrader_core.errors import (
    NotConnected,
    RequestTimeout,
    UnknownSymbol,
    UnknownTimeframe,
)
from livetrader_core.market import ReplayMarket
from livetrader_core.models import FeedState, FeedStatus, Kline, TradeEvent
from livetrader_core.rpc import Client, MarketSubscriber, Server, TradeSubscriber
from livetrader_core.service import MarketService
from livetrader_core.trade import TradeService
from tests.rpc.wiring import ipc_endpoint, run, until_sync
from tests.support.serving import serving
from tests.support.ticking_market import TickingMarket, tick_kline
from tests.trade.scripted_venue import ScriptedVenue, order


class Keeper(MarketSubscriber):
    """Keeps what it gets."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.klines: list[Kline] = []
        self.states: list[FeedState] = []
        self.threads: set[threading.Thread] = set()

    def on_kline(self, kline: Kline) -> None:
        self.klines.append(kline)
        self.threads.add(threading.current_thread())

    def on_status(self, status: FeedStatus) -> None:
        self.states.append(status.state)

    def contiguous(self, symbol: str = "US.A") -> bool:
        got = [kline for kline in self.klines if kline.symbol == symbol]
        first = int(got[0].volume)
        return got == [tick_kline(symbol, n) for n in range(first, first + len(got))]


def ticking() -> tuple[object, ...]:
    return (MarketService(TickingMarket(["US.A", "US.B"], interval=0.002)),)


def test_the_documented_use() -> None:
    closes: list[float] = []

    class Printer(MarketSubscriber):
        def on_kline(self, kline: Kline) -> None:
            assert kline["datetime"] == kline.datetime
            closes.append(kline["close"])

    with serving(ticking) as endpoint:
        subscriber = Printer("US.A")
        subscriber.connect(endpoint)
        subscriber.run()
        until_sync(lambda: len(closes) > 5)
        subscriber.close()
        assert not any("Printer" in thread.name for thread in threading.enumerate())


def test_klines_of_several_symbols_come_in_one_background_thread_until_it_is_closed() -> None:
    with serving(ticking) as endpoint:
        keeper = Keeper(["US.A", "US.B"])
        keeper.connect(endpoint)
        keeper.run()
        keeper.run()  # it runs already
        until_sync(lambda: len(keeper.klines) > 40)
        keeper.close()
        count = len(keeper.klines)
        keeper.close()
        time.sleep(0.02)
        assert len(keeper.klines) == count
        assert keeper.contiguous("US.A")
        assert keeper.contiguous("US.B")
        assert len(keeper.threads) == 1
        assert threading.current_thread() not in keeper.threads


def test_it_can_run_again_and_inside_a_running_loop() -> None:
    async def main() -> None:
        for _ in range(2):
            keeper.run()
            count = len(keeper.klines)
            until_sync(lambda: len(keeper.klines) > count + 5)  # noqa: B023
            keeper.close()

    with serving(ticking) as endpoint:
        keeper = Keeper("US.A")
        keeper.connect(endpoint)
        run(main)


def test_a_failing_on_kline_is_logged_and_the_next_comes(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Keeper):
        def on_kline(self, kline: Kline) -> None:
            super().on_kline(kline)
            raise ValueError("a bug of the user's")

    with serving(ticking) as endpoint, caplog.at_level(logging.ERROR):
        failing = Failing("US.A")
        failing.connect(endpoint)
        failing.run()
        until_sync(lambda: len(failing.klines) > 5)
        failing.close()
    assert failing.contiguous()
    assert "a bug of the user's" in caplog.text


def test_it_may_be_closed_from_on_kline_and_from_several_threads() -> None:
    class Once(Keeper):
        def on_kline(self, kline: Kline) -> None:
            super().on_kline(kline)
            self.close()

    with serving(ticking) as endpoint:
        once = Once("US.A")
        once.connect(endpoint)
        once.run()
        until_sync(lambda: once.klines)
        closers = [threading.Thread(target=once.close) for _ in range(4)]
        for thread in closers:
            thread.start()
        for thread in closers:
            thread.join(5)
        assert len(once.klines) == 1
        assert not any("Once" in thread.name for thread in threading.enumerate())


def test_a_slow_on_kline_is_no_broken_line() -> None:
    class Slow(Keeper):
        def on_kline(self, kline: Kline) -> None:
            if len(self.klines) in (3, 6):
                time.sleep(0.4)  # eight heartbeats
            super().on_kline(kline)

    with serving(ticking, heartbeat=0.05) as endpoint:
        slow = Slow("US.A")
        slow.connect(endpoint)
        slow.run()
        until_sync(lambda: len(slow.klines) > 100)
        slow.close()
    assert slow.contiguous()
    assert slow.states == []


def test_connect_says_what_is_wrong_and_run_needs_it() -> None:
    with serving(ticking) as endpoint:
        with pytest.raises(UnknownSymbol, match=r"US\.NONE"):
            Keeper(["US.A", "US.NONE"]).connect(endpoint)
        with pytest.raises(UnknownTimeframe, match="7m"):
            Keeper("US.A", timeframe="7m")
        with pytest.raises(NotConnected, match="connect"):
            Keeper("US.A").run()
    with pytest.raises((NotConnected, RequestTimeout)):
        Keeper("US.A", timeout=0.2).connect("ipc:///tmp/nobody-here")
    Keeper("US.A").close()  # never ran


def test_a_server_that_goes_before_the_first_subscription_is_waited_for() -> None:
    with ipc_endpoint() as endpoint:
        keeper = Keeper("US.A", timeout=0.3)
        for start in range(2):
            server = Server(MarketService(TickingMarket(interval=0.002)))
            server.bind(endpoint)
            thread = threading.Thread(target=server.run)
            thread.start()
            if start == 0:
                keeper.connect(endpoint)
            else:
                until_sync(lambda: len(keeper.klines) > 3)
                keeper.close()
            server.close()
            thread.join()
            if start == 0:
                keeper.run()
        assert keeper.contiguous()


def test_a_replay_as_fast_as_it_is_read_is_read_to_its_end() -> None:
    day = 1_762_214_400_000  # 2025-11-04, a Tuesday
    start, end = day + 15 * 3_600_000, day + 18 * 3_600_000

    def make() -> tuple[object, ...]:
        return (MarketService(ReplayMarket("generated", speed="max", symbols=["US.BABA"])),)

    with serving(make) as endpoint:
        # Its archive goes beyond the start of the replay; that is no reason to drop anything.
        keeper = Keeper("US.BABA")
        keeper.connect(endpoint)
        keeper.run()
        with Client(timeout=20) as client:
            client.connect(endpoint)
            until_sync(lambda: client.status()["streams"])
            client.begin_replay(start, end)
            until_sync(lambda: FeedState.ENDED in keeper.states, 20)
            recorded = client.get_kline_histories("US.BABA", start, None, end)
        keeper.close()
        assert len(keeper.klines) > 100
        assert keeper.klines == list(recorded)


def test_trade_events_from_a_number_on() -> None:
    class Follower(TradeSubscriber):
        def __init__(self, from_seq: int) -> None:
            super().__init__(from_seq)
            self.seqs: list[int] = []

        def on_event(self, event: TradeEvent) -> None:
            self.seqs.append(event.seq)

    with (
        serving(lambda: (TradeService(ScriptedVenue()),)) as endpoint,
        Client() as client,
    ):
        client.connect(endpoint)
        for number in range(5):
            client.create_order(order(f"a-{number}"))
        followers = [Follower(0), Follower(7)]
        for follower in followers:
            follower.connect(endpoint)
            follower.run()
        client.create_order(order("b-1"))
        until_sync(lambda: all(f.seqs[-1:] == [12] for f in followers))
        for follower in followers:
            follower.close()
        assert followers[0].seqs == list(range(1, 13))
        assert followers[1].seqs == list(range(8, 13))


def test_nothing_is_left_of_many_subscribers() -> None:
    before = threading.active_count()
    with serving(ticking) as endpoint:
        keepers = [Keeper("US.A") for _ in range(5)]
        for keeper in keepers:
            keeper.connect(endpoint)
            keeper.run()
        until_sync(lambda: all(keeper.klines for keeper in keepers))
        for keeper in keepers:
            keeper.close()
    assert threading.active_count() == before
