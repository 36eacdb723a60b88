"""The reference of parity: BackBroker, but for the bars an order takes part in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import backtrader as bt
import pytest

from livetrader_bt import LiveTraderStore
from livetrader_bt.rules import HISTORICAL
from livetrader_bt.times import to_ms
from livetrader_core.errors import ConfigError
from livetrader_core.models import Commission, Contract, Kline, Klines, Margin
from livetrader_core.service import MarketService
from tests.support.archive_market import ArchiveMarket, random_walk
from tests.support.scripted_market import START, bar, contract

Action = Callable[[bt.Strategy, int], Any]


class Scripted(bt.Strategy):
    """Calls ``action(self, minute)`` at every moment and keeps what it is told."""

    params = (("action", None),)

    def __init__(self) -> None:
        self.told: list[bt.Order] = []
        self.values: list[float] = []

    def notify_order(self, order: bt.Order) -> None:
        self.told.append(order)

    def next(self) -> None:
        now = max(data.datetime[0] for data in self.datas if len(data))
        self.p.action(self, (to_ms(now) - START) // 60_000)
        self.values.append(self.broker.getvalue())

    prenext = next

    def fills(self) -> list[tuple[float, float, int]]:
        """(size, price, minute at which the bar closed)."""
        return [
            (bit.size, bit.price, (to_ms(bit.dt) - START) // 60_000)
            for order in self.told
            for bit in order.executed.iterpending()
        ]


def run(
    contracts: list[Contract],
    klines: list[list[Kline]] | list[Klines],
    action: Action,
    rates: dict[str, float] | None = None,
    **setup: Any,
) -> Scripted:
    columns = [
        k if isinstance(k, Klines) else Klines.of(k[0].symbol, k[0].timeframe, k) for k in klines
    ]
    market = ArchiveMarket(contracts, columns)
    store = LiveTraderStore(service=MarketService(market), rates=rates)
    cerebro = bt.Cerebro(stdstats=False)
    symbols = [c.symbol for c in contracts]
    frames = [k.timeframe for k in columns]
    store.setup(cerebro, symbols, "backtest", timeframe=frames, **{"cash": 1e5, **setup})
    cerebro.addstrategy(Scripted, action=action)
    (ran,) = cerebro.run()
    return ran


def flat(symbol: str, minutes: range, price: float, timeframe: str = "1m") -> list[Kline]:
    return [
        bar(minute, price, price + 1, price - 1, price, symbol=symbol, timeframe=timeframe)
        for minute in minutes
    ]


def test_an_order_for_a_silent_feed_waits_for_its_next_bar() -> None:
    a, b = contract("US.A"), contract("US.B")
    silent = [*flat("US.B", range(3), 100.0), *flat("US.B", range(20, 22), 90.0)]

    def action(strategy: bt.Strategy, minute: int) -> None:
        if minute == 10:
            strategy.buy(data=strategy.datas[1], size=5, exectype=bt.Order.Limit, price=100.5)

    ran = run([a, b], [flat("US.A", range(30), 50.0), silent], action)
    assert ran.fills() == [(5, 90.0, 21)]


def test_an_order_does_not_take_part_in_a_bar_that_opened_before_it() -> None:
    a, b = contract("US.A"), contract("US.B")
    slow = flat("US.B", range(0, 30, 5), 100.0, timeframe="5m")

    def action(strategy: bt.Strategy, minute: int) -> None:
        if minute == 12:
            strategy.buy(data=strategy.datas[1], size=1)

    ran = run([a, b], [flat("US.A", range(30), 50.0), slow], action)
    assert ran.fills() == [(1, 100.0, 20)]


def test_orders_up_to_live_from_are_refused() -> None:
    def action(strategy: bt.Strategy, minute: int) -> None:
        strategy.buy(size=1)

    ran = run([contract()], [flat("US.A", range(10), 50.0)], action, live_from=START + 5 * 60_000)
    refused = [order for order in ran.told if order.status == order.Rejected]
    assert len(refused) == 5
    assert {order.info.reason for order in refused} == {HISTORICAL}
    assert [minute for _, _, minute in ran.fills()] == [7, 8, 9, 10]


def test_quantities_and_prices_are_rounded_to_the_contract() -> None:
    lots = contract("FX.A", quantity_step=0.01, min_quantity=0.01, price_tick=0.25)
    orders: list[bt.Order] = []

    def action(strategy: bt.Strategy, minute: int) -> None:
        if minute == 1:
            limit = {"exectype": bt.Order.Limit, "price": 49.9}
            orders.append(strategy.buy(size=0.3799, **limit))
            orders.append(strategy.buy(size=0.0099))

    ran = run([lots], [flat("FX.A", range(5), 50.0)], action)
    assert ran.fills() == [(0.37, 50.0, 2)]
    assert orders[0].created.price == 50.0
    assert orders[1].status == bt.Order.Rejected
    assert orders[1].info.reason == "0.0099 is less than the smallest quantity, 0.01"


@pytest.mark.parametrize("check_margin", [False, True])
def test_margin_is_checked_only_on_request(check_margin: bool) -> None:
    def action(strategy: bt.Strategy, minute: int) -> None:
        if minute == 1:
            strategy.buy(size=100)

    ran = run(
        [contract()],
        [flat("US.A", range(5), 50.0)],
        action,
        cash=1000.0,
        check_margin=check_margin,
    )
    assert bool(ran.fills()) is not check_margin
    assert (bt.Order.Margin in {order.status for order in ran.told}) is check_margin


def test_an_order_canceled_on_the_bar_it_was_placed_never_fills() -> None:
    def action(strategy: bt.Strategy, minute: int) -> None:
        if minute == 1:
            strategy.cancel(strategy.buy(size=1))

    ran = run([contract()], [flat("US.A", range(5), 50.0)], action)
    assert [order.getstatusname() for order in ran.told] == ["Submitted", "Accepted", "Canceled"]


def test_day_orders_end_with_the_day_and_zero_means_the_day() -> None:
    def action(strategy: bt.Strategy, minute: int) -> None:
        if minute == 1:
            strategy.buy(size=1, exectype=bt.Order.Limit, price=10.0, valid=0)

    ran = run([contract()], [flat("US.A", range(1500), 50.0)], action)
    ended = [order for order in ran.told if order.status == order.Expired]
    assert [(to_ms(order.executed.dt) - START) // 60_000 for order in ended] == [1441]


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"multiplier": 10.0, "margin": Margin(per_unit=50.0)},
        {"multiplier": 100.0, "margin": Margin(rate=0.01), "commission": Commission(rate=1e-4)},
        {"commission": Commission(per_unit=0.01)},
    ],
)
def test_the_books_agree_with_backbrokers_own(terms: dict[str, Any]) -> None:
    def action(strategy: bt.Strategy, minute: int) -> None:
        broker = strategy.broker
        if minute % 7 == 0:
            strategy.buy(size=1 + minute % 5)
        elif minute % 11 == 0:
            strategy.sell(size=2 + minute % 9)
        held = broker.positions[strategy.data]
        assert broker.account.position("US.A").size == held.size
        assert broker.account.position("US.A").price == pytest.approx(held.price)
        assert broker.account.available() == pytest.approx(broker.cash, abs=1e-6)

    ran = run([contract(**terms)], [random_walk("US.A", START, 500)], action, cash=1e6)
    assert len(ran.fills()) > 60


def test_other_currencies_are_valued_in_the_base() -> None:
    yuan = contract("SHFE.A", currency="CNY", multiplier=5.0, margin=Margin(per_unit=100.0))
    prices = [*flat("SHFE.A", range(3), 100.0), *flat("SHFE.A", range(3, 6), 110.0)]

    def action(strategy: bt.Strategy, minute: int) -> None:
        if minute == 1:
            strategy.buy(size=2)

    ran = run([yuan], [prices], action, rates={"CNY": 0.2}, cash={"USD": 1000.0, "CNY": 500.0})
    # 2 lots × 5 × 10 yuan = 100 yuan, 20 dollars; cash 1000 + 500 × 0.2.
    assert ran.values[0] == pytest.approx(1100.0)
    assert ran.values[-1] == pytest.approx(1120.0)
    assert ran.broker.getcash() == pytest.approx(1120.0 - 2 * 100.0 * 0.2)


def test_a_currency_without_a_rate_is_named() -> None:
    yuan = contract("SHFE.A", currency="CNY")
    with pytest.raises(ConfigError, match="no rate from CNY to USD"):
        run([yuan], [flat("SHFE.A", range(3), 1.0)], lambda s, m: s.buy(size=1))


def test_a_trade_that_turns_round_is_told_right() -> None:
    trades: list[tuple[float, float]] = []

    class Turner(Scripted):
        def notify_trade(self, trade: bt.Trade) -> None:
            if trade.isclosed:
                trades.append((trade.pnl, trade.pnlcomm))

    def action(strategy: bt.Strategy, minute: int) -> None:
        if minute == 1:
            strategy.buy(size=2)
        if minute == 3:
            strategy.sell(size=5)

    market = ArchiveMarket(
        [contract(commission=Commission(per_unit=0.5))],
        [
            Klines.of(
                "US.A", "1m", [*flat("US.A", range(3), 10.0), *flat("US.A", range(3, 8), 12.0)]
            )
        ],
    )
    cerebro = bt.Cerebro(stdstats=False)
    LiveTraderStore(service=MarketService(market)).setup(cerebro, ["US.A"], cash=1e5)
    cerebro.addstrategy(Turner, action=action)
    (ran,) = cerebro.run()
    assert trades == [(4.0, 4.0 - 2 * 0.5 * 2)]
    assert ran.position.size == -3
