"""From history to live in one run, against a replay with paper trading."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import backtrader as bt
import pytest

from livetrader_bt import LiveTraderStore
from livetrader_bt.rules import HISTORICAL
from livetrader_bt.times import to_ms
from livetrader_core.errors import ConfigError, UnknownSymbol
from livetrader_core.market import MarketService, ReplayMarket
from livetrader_core.market.generated import GeneratedSource
from livetrader_core.models import Order
from livetrader_core.timeframe import MINUTE_MS
from livetrader_core.trade import PaperTrade, TradeService

#: A Tuesday, 08:00 UTC: forex and crypto trade, the United States sleep.
START = 1_604_390_400_000
HOURS = 3_600_000
RATES = {"CNY": 0.15, "JPY": 0.01, "USDT": 1.0}


def services(journal: Path | None = None, **replay: Any) -> tuple[MarketService, TradeService]:
    source = GeneratedSource(
        ["FOREX.EURUSD", "FOREX.USDJPY", "US.BABA"], seed=3, start="2020-11-01", days=5
    )
    market = MarketService(ReplayMarket(source, **replay))
    return market, TradeService(PaperTrade(market, cash={"USD": 1e6}), journal)


class Recording(bt.Strategy):
    """Keeps what it is told; acts through ``action``."""

    params = (("action", None),)

    def __init__(self) -> None:
        self.statuses: list[tuple[str, str]] = []
        self.orders_told: list[bt.Order] = []
        self.moments: list[tuple[int, ...]] = []

    def notify_data(self, data: Any, status: int, *args: Any, **kwargs: Any) -> None:
        self.statuses.append((data._name, data._getstatusname(status)))

    def notify_order(self, order: bt.Order) -> None:
        self.orders_told.append(order)

    def next(self) -> None:
        self.moments.append(tuple(to_ms(d.datetime[0]) if len(d) else 0 for d in self.datas))
        if self.p.action is not None:
            self.p.action(self)

    prenext = next


def run(store: LiveTraderStore, symbols: list[str], action: Any = None, **setup: Any) -> Recording:
    cerebro = bt.Cerebro(stdstats=False)
    try:
        window = {"fromdate": START - HOURS, "live_from": START, "todate": START + HOURS}
        store.setup(cerebro, symbols, setup.pop("mode", "paper"), **{**window, **setup})
        cerebro.addstrategy(Recording, action=action)
        (ran,) = cerebro.run()
        return ran
    finally:
        store.close()


def test_history_then_live_with_its_notifications() -> None:
    ran = run(LiveTraderStore(service=services(), rates=RATES), ["FOREX.EURUSD", "FOREX.USDJPY"])
    for symbol in ("FOREX.EURUSD", "FOREX.USDJPY"):
        assert [status for name, status in ran.statuses if name == symbol] == [
            "CONNECTED",
            "DELAYED",
            "LIVE",
            "DISCONNECTED",
        ]
    moments = [max(moment) for moment in ran.moments]
    assert moments == sorted(set(moments))
    assert moments[0] == START - HOURS
    assert moments[-1] == START + HOURS


def test_not_one_order_on_a_historical_bar_reaches_the_service() -> None:
    market, trade = services()
    received: list[Order] = []
    trade.add_listener(lambda event: received.append(event.order))
    store = LiveTraderStore(service=(market, trade), rates=RATES)
    ran = run(store, ["FOREX.EURUSD"], lambda strategy: strategy.buy(size=0.01))
    refused = [order for order in ran.orders_told if order.status == bt.Order.Rejected]
    assert len(refused) >= 55
    assert {order.info.reason for order in refused} == {HISTORICAL}
    assert {order.info.as_of <= START for order in refused} == {True}
    assert len(received) >= 100  # live ones do
    assert min(order.as_of for order in received) > START


def test_on_request_historical_orders_are_simulated_and_forgotten_at_the_switch() -> None:
    market, trade = services()
    received: list[Order] = []
    trade.add_listener(lambda event: received.append(event.order))
    store = LiveTraderStore(service=(market, trade), rates=RATES)
    sizes: list[tuple[int, float]] = []

    def action(strategy: bt.Strategy) -> None:
        now = to_ms(strategy.data.datetime[0])
        sizes.append((now, strategy.position.size))
        if now == START - HOURS // 2:
            strategy.buy(size=1)
        if now == START - MINUTE_MS:
            strategy.buy(size=1, exectype=bt.Order.Limit, price=0.5)

    ran = run(store, ["FOREX.EURUSD"], action, backfill_orders="simulate")
    told = [order.getstatusname() for order in ran.orders_told]
    assert told == ["Submitted", "Accepted", "Completed", "Submitted", "Accepted", "Canceled"]
    assert dict(sizes)[START - MINUTE_MS] == 1
    assert dict(sizes)[START + MINUTE_MS] == 0
    assert received == []


def test_positions_and_cash_are_the_accounts() -> None:
    market, trade = services()
    store = LiveTraderStore(service=(market, trade), rates=RATES)
    seen: list[tuple[float, float]] = []

    def action(strategy: bt.Strategy) -> None:
        if to_ms(strategy.data.datetime[0]) == START + 5 * MINUTE_MS:
            strategy.buy(size=2)
        seen.append((strategy.position.size, strategy.broker.getvalue()))

    ran = run(store, ["FOREX.EURUSD"], action)
    fill = next(o for o in ran.orders_told if o.status == bt.Order.Completed)
    assert fill.executed.price == pytest.approx(fill.executed.exbits[0].price)
    assert seen[-1][0] == 2
    (balance,) = trade.adapters[0].account.balances()
    assert seen[-1][1] == pytest.approx(balance.equity)


def test_a_journal_with_earlier_runs_holds_nothing_up(tmp_path: Path) -> None:
    runs = [
        run(
            LiveTraderStore(service=services(tmp_path / "journal"), rates=RATES),
            ["FOREX.EURUSD"],
            lambda strategy: strategy.buy(size=0.01),
        )
        for _ in range(2)
    ]
    told = [[order.getstatusname() for order in ran.orders_told] for ran in runs]
    assert told[0] == told[1]
    assert "Completed" in told[1]


def test_a_resampled_feed_is_delivered_live_and_orders_go_to_the_feed_below() -> None:
    market, trade = services()
    store = LiveTraderStore(service=(market, trade), rates=RATES)
    cerebro = bt.Cerebro(stdstats=False)
    placed: list[bt.Order] = []

    def action(strategy: bt.Strategy) -> None:
        if len(strategy.data1) == 15 and not placed:
            placed.append(strategy.buy(data=strategy.data1, size=1))

    (data,) = store.setup(
        cerebro,
        ["FOREX.EURUSD"],
        "paper",
        fromdate=START - HOURS,
        live_from=START,
        todate=START + HOURS,
    )
    cerebro.resampledata(data, timeframe=bt.TimeFrame.Minutes, compression=5)
    cerebro.addstrategy(Recording, action=action)
    try:
        (ran,) = cerebro.run()
    finally:
        store.close()
    assert len(ran.data1) == 1 + 24  # the first bar closes a bucket of its own
    assert [order.getstatusname() for order in ran.orders_told][-1] == "Completed"
    assert ran.getposition(ran.data1).size == 1
    assert ran.getposition(ran.data0).size == 1
    filled_at = to_ms(ran.orders_told[-1].executed.dt)
    assert filled_at == placed[0].info.as_of + MINUTE_MS


def test_a_strategy_that_raises_leaves_nothing_behind() -> None:
    def action(strategy: bt.Strategy) -> None:
        strategy.buy(size=0.01)
        if len(strategy) == 100:
            raise RuntimeError("a mistake of the strategy")

    before = time.monotonic()
    with pytest.raises(RuntimeError, match="a mistake"):
        run(LiveTraderStore(service=services(), rates=RATES), ["FOREX.EURUSD"], action)
    assert time.monotonic() - before < 8.0
    assert "livetrader-store" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("mix_delays", [False, True])
def test_feeds_that_could_never_meet_are_refused_together(mix_delays: bool) -> None:
    source = GeneratedSource(["FOREX.EURUSD"], seed=3, start="2020-11-01", days=5)
    late = ReplayMarket(GeneratedSource(["US.BABA"], seed=3, start="2020-11-01", days=5))
    late.delay_ms = 15 * MINUTE_MS
    market = MarketService([ReplayMarket(source), late])
    trade = TradeService(PaperTrade(market, cash={"USD": 1e6}))
    store = LiveTraderStore(service=(market, trade), rates=RATES, mix_delays=mix_delays)
    if mix_delays:
        assert run(store, ["FOREX.EURUSD", "US.BABA"]).moments
        return
    with pytest.raises(ConfigError, match=r"US\.BABA comes 900 s late and FOREX\.EURUSD 0 s"):
        run(store, ["FOREX.EURUSD", "US.BABA"])


def test_fewer_bars_than_an_indicator_needs_are_no_error() -> None:
    class Slow(bt.Strategy):
        def __init__(self) -> None:
            self.average = bt.ind.SMA(self.data, period=100)

    store = LiveTraderStore(service=services(), rates=RATES)
    cerebro = bt.Cerebro(stdstats=False)
    store.setup(cerebro, ["FOREX.EURUSD"], fromdate=START, todate=START + 10 * MINUTE_MS)
    cerebro.addstrategy(Slow)
    (ran,) = cerebro.run()
    assert 5 < len(ran.data) <= 11


def test_runstop_ends_the_wait_at_once() -> None:
    market, trade = services(speed=1.0)
    store = LiveTraderStore(service=(market, trade), rates=RATES)
    cerebro = bt.Cerebro(stdstats=False)
    store.setup(
        cerebro, ["FOREX.EURUSD"], "paper", live_from=START, fromdate=START - HOURS, qcheck=30.0
    )
    cerebro.addstrategy(Recording)
    timer = threading.Timer(0.5, cerebro.runstop)
    timer.start()
    before = time.monotonic()
    cerebro.run()
    timer.join()
    assert time.monotonic() - before < 15.0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"symbols": ["FOREX.NOSUCH"]}, UnknownSymbol, "FOREX.NOSUCH"),
        ({"symbols": ["MOON.ROCK"]}, UnknownSymbol, "MOON.ROCK"),
        ({"symbols": ["nonsense"]}, UnknownSymbol, "MARKET.CODE"),
        ({"mode": "dream"}, ConfigError, "mode 'dream'"),
        ({"mode": "live"}, ConfigError, "FOREX.EURUSD: mode='live'"),
        ({"timeframe": "7m"}, Exception, "7m"),
        ({"live_from": None}, ConfigError, "has not begun.*live_from"),
        ({"live_from": "someday"}, ConfigError, "someday"),
        ({"timeframe": ["1m", "5m"]}, ConfigError, "1 symbols but 2 timeframes"),
        ({"stamp": "middle"}, ConfigError, "middle"),
        ({"backfill_orders": "maybe"}, ConfigError, "maybe"),
    ],
)
def test_wrong_settings_are_named(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    store = LiveTraderStore(service=services(), rates=RATES)
    arguments = {"symbols": ["FOREX.EURUSD"], "mode": "paper", "live_from": START, **changes}
    symbols, mode = arguments.pop("symbols"), arguments.pop("mode")
    try:
        with pytest.raises(error, match=message):
            store.setup(bt.Cerebro(), symbols, mode, **arguments)
    finally:
        store.close()
