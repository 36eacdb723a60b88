"""At a finite speed nothing waits for the strategy, and the fills are still the backtest's."""

from __future__ import annotations

from typing import Any

import backtrader as bt

from livetrader_bt import LiveTraderStore
from livetrader_bt.times import to_ms
from livetrader_core.market import MarketService, ReplayMarket
from livetrader_core.market.generated import GeneratedSource
from livetrader_core.timeframe import MINUTE_MS
from livetrader_core.trade import PaperTrade, TradeService

#: A Tuesday, 08:00 UTC.
START = 1_604_390_400_000
SYMBOLS = ["FOREX.EURUSD", "FOREX.USDJPY"]
#: Half a second for each minute: an order has that long to arrive.
SPEED = 120.0
#: The run is under way for some bars before the first order, however slow its start was.
ACT_FROM = START + 5 * MINUTE_MS
UNTIL = START + 16 * MINUTE_MS


class EveryKind(bt.Strategy):
    """Places an order of each kind in turn, on each symbol."""

    def __init__(self) -> None:
        self.fills: list[tuple[Any, ...]] = []

    def notify_order(self, order: bt.Order) -> None:
        for bit in order.executed.iterpending():
            self.fills.append((order.data.symbol, bit.size, bit.price, to_ms(bit.dt)))

    def next(self) -> None:
        now = max(to_ms(data.datetime[0]) for data in self.datas if len(data))
        if now < ACT_FROM:
            return
        turn = (now - START) // MINUTE_MS % 4
        for data in self.datas:
            close, spread = data.close[0], data.high[0] - data.low[0]
            if turn == 0:
                self.buy(data=data, size=0.5)
            elif turn == 1:
                self.sell(data=data, size=0.3, exectype=bt.Order.Limit, price=close)
            elif turn == 2:
                self.sell(data=data, size=0.2, exectype=bt.Order.Stop, price=close)
            else:
                stop = {"price": close, "plimit": close + spread}
                self.buy(data=data, size=0.1, exectype=bt.Order.StopLimit, **stop)

    prenext = next


def run(mode: str, speed: float | str = "max") -> list[tuple[Any, ...]]:
    source = GeneratedSource(SYMBOLS, seed=5, start="2020-11-02", days=3)
    market = MarketService(ReplayMarket(source, speed=speed))
    trade = TradeService(PaperTrade(market, cash={"USD": 1e6, "JPY": 0.0}))
    store = LiveTraderStore(service=(market, trade), rates={"JPY": 0.01})
    cerebro = bt.Cerebro(stdstats=False)
    try:
        store.setup(
            cerebro,
            SYMBOLS,
            mode,
            fromdate=START - 30 * MINUTE_MS,
            live_from=START,
            todate=UNTIL,
            cash=1e6 if mode == "backtest" else None,
        )
        cerebro.addstrategy(EveryKind)
        (ran,) = cerebro.run()
    finally:
        store.close()
    return list(ran.fills)


def test_real_speed_fills_as_the_backtest_does() -> None:
    expected = run("backtest")
    assert len(expected) >= 10
    assert run("paper", SPEED) == expected
