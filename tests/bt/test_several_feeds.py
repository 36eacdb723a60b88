"""One strategy, several feeds: groups across them, and one symbol on two of them."""

from __future__ import annotations

from typing import Any

import backtrader as bt
import pytest

from livetrader_bt import LiveTraderStore
from tests.bt.test_backtest_broker import flat
from tests.bt.test_backtest_broker import run as backtest
from tests.bt.test_live import RATES, START, services
from tests.bt.test_live import run as live
from tests.support.scripted_market import contract

MINUTE = 60_000


@pytest.mark.parametrize("bracket", [False, True])
def test_the_rest_of_a_group_ends_though_its_feed_has_no_bar(bracket: bool) -> None:
    a, b = contract("US.A"), contract("US.B")
    orders: list[bt.Order] = []

    def action(strategy: bt.Strategy, minute: int) -> None:
        if minute != 6:
            return
        fast, slow = strategy.datas
        far = {"exectype": bt.Order.Limit, "price": 1.0}
        if bracket:
            parent = strategy.buy(data=fast, size=1, transmit=False)
            stop = strategy.sell(
                data=fast, size=1, exectype=bt.Order.Stop, price=60.0, parent=parent, transmit=False
            )
            other = strategy.buy(data=slow, size=1, parent=parent, **far)
            orders.extend([stop, other])
        else:
            first = strategy.buy(data=fast, size=1)
            orders.extend([first, strategy.buy(data=slow, size=1, oco=first, **far)])

    backtest(
        [a, b],
        [flat("US.A", range(20), 50.0), flat("US.B", range(0, 20, 5), 50.0, timeframe="5m")],
        action,
    )
    assert [order.getstatusname() for order in orders] == ["Completed", "Canceled"]


@pytest.mark.parametrize("mode", ["backtest", "paper"])
def test_two_feeds_of_one_symbol_show_one_position(mode: str) -> None:
    seen: dict[int, list[float]] = {}

    def action(strategy: Any) -> None:
        minute = (max(strategy.moments[-1]) - START) // MINUTE
        sizes = [strategy.getposition(data).size for data in strategy.datas]
        seen[minute] = sizes
        if minute == 5:
            strategy.buy(strategy.datas[0], size=1)
        if minute == 20:
            strategy.close(strategy.datas[1])

    store = LiveTraderStore(service=services(), rates=RATES)
    symbols = ["FOREX.EURUSD", "FOREX.EURUSD"]
    live(store, symbols, action, mode=mode, timeframe=["1m", "5m"])
    assert seen[5] == [0, 0]
    assert seen[20] == [1, 1]
    assert seen[50] == [0, 0]


def test_one_store_runs_again_and_again() -> None:
    def action(strategy: Any) -> None:
        if strategy.moments[-1][0] == START + 5 * MINUTE:
            strategy.buy(size=1)

    store = LiveTraderStore(service=services(), rates=RATES)
    ends = []
    for _ in range(3):
        ran = live(store, ["FOREX.EURUSD"], action)
        assert [order.getstatusname() for order in ran.orders_told] == [
            "Submitted",
            "Accepted",
            "Completed",
        ]
        ends.append((len(ran.moments), ran.position.size))
    (bars,) = {count for count, _ in ends}
    assert bars > 100
    assert [size for _, size in ends] == [1, 2, 3]  # the account outlives the runs
