"""The kill switch in a strategy: the same line stops a backtest and a live run."""

from __future__ import annotations

from datetime import datetime

import backtrader as bt
import pytest

from livetrader_bt import LiveTraderStore
from livetrader_core.market import MarketService, ReplayMarket
from livetrader_core.trade import PaperTrade, TradeService

SYMBOL = "FOREX.EURUSD"
LIVE_FROM = datetime(2025, 11, 4, 12)


class Stops(bt.Strategy):
    """Buys, stops everything at its tenth live bar, and tries again."""

    def __init__(self) -> None:
        self.lived = 0
        self.sizes: list[float] = []
        self.ends: dict[int, tuple[str, str]] = {}
        self.limit = self.late = None

    def notify_order(self, order: bt.Order) -> None:
        if not order.alive():
            self.ends[order.ref] = order.getstatusname(), order.info.get("reason", "")

    def next(self) -> None:
        if self.data.datetime.datetime() <= LIVE_FROM:
            return
        self.lived += 1
        if self.lived == 1:
            self.buy(size=0.5)
            self.limit = self.buy(size=0.1, exectype=bt.Order.Limit, price=self.data.close[0] / 2)
        elif self.lived == 10:
            self.sizes.append(self.position.size)
            self.broker.kill(flatten=True, reason="enough")
        elif self.lived == 20:
            self.sizes.append(self.position.size)
            self.late = self.buy(size=0.1)


@pytest.mark.parametrize("mode", ["backtest", "paper"])
def test_everything_is_canceled_closed_and_refused(mode: str) -> None:
    market = MarketService(ReplayMarket("generated", symbols=[SYMBOL]))
    trade = TradeService(PaperTrade(market, markets=["FOREX"]), market=market)
    store = LiveTraderStore(service=(market, trade))
    cerebro = bt.Cerebro(stdstats=False)
    try:
        store.setup(
            cerebro,
            [SYMBOL],
            mode,
            fromdate="2025-11-04T11:00",
            live_from="2025-11-04T12:00",
            todate="2025-11-04T12:40",
            cash=10_000.0 if mode == "backtest" else None,
        )
        cerebro.addstrategy(Stops)
        (ran,) = cerebro.run()
        assert ran.sizes == [0.5, 0.0]
        assert ran.ends[ran.limit.ref][0] == "Canceled"
        status, reason = ran.ends[ran.late.ref]
        assert status == "Rejected"
        assert "the kill switch is on (enough)" in reason
        assert ran.position.size == 0.0
    finally:
        store.close()


def test_history_stops_nothing() -> None:
    market = MarketService(ReplayMarket("generated", symbols=[SYMBOL]))
    trade = TradeService(PaperTrade(market, markets=["FOREX"]), market=market)
    store = LiveTraderStore(service=(market, trade))
    killed: list[bool] = []

    class Eager(bt.Strategy):
        def next(self) -> None:
            self.broker.kill()
            killed.append(store.call(trade.kill_state()).on)
            self.env.runstop()

    cerebro = bt.Cerebro(stdstats=False)
    window = {"fromdate": "2025-11-04T11:00", "todate": "2025-11-04T12:40"}
    try:
        store.setup(cerebro, [SYMBOL], "paper", live_from="2025-11-04T12:00", **window)  # type: ignore[arg-type]
        cerebro.addstrategy(Eager)
        cerebro.run()
    finally:
        store.close()
    assert killed == [False]
