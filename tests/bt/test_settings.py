"""What a user sets up around a strategy: zones, rates, sizers, analyzers, optimization."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import backtrader as bt
import pytest

from livetrader_bt import LiveTraderStore, PercentSizer
from livetrader_bt.rates import Rates
from livetrader_bt.times import to_ms
from livetrader_core.errors import ConfigError
from livetrader_core.models import Commission, Contract, Kline, Klines, Margin
from livetrader_core.service import MarketService
from livetrader_core.timeframe import MINUTE_MS
from tests.bt.test_backtest_broker import Scripted as Backtested
from tests.bt.test_backtest_broker import flat
from tests.bt.test_backtest_broker import run as backtest
from tests.bt.venue_rig import EURUSD, HOURS, Rig, Scripted, id_of
from tests.bt.venue_rig import START as LIVE_START
from tests.support.archive_market import ArchiveMarket
from tests.support.scripted_market import START, bar, contract

# --------------------------------------------------------------------------- time zones


@pytest.mark.parametrize("tz", [None, "Asia/Shanghai", "America/New_York"])
@pytest.mark.parametrize("mode", ["backtest", "live"])
def test_naive_bounds_are_in_the_zone_of_the_feed(mode: str, tz: str | None) -> None:
    first = {None: 8, "Asia/Shanghai": 16, "America/New_York": 3}[tz]
    bounds = {
        "fromdate": datetime(2020, 11, 3, first - 1),
        "live_from": datetime(2020, 11, 3, first),
        "todate": f"2020-11-03T{first:02}:30",
        **({"tz": tz} if tz else {}),
    }
    seen: list[int] = []

    class Seeing(bt.Strategy):
        def next(self) -> None:
            seen.append(to_ms(self.data.datetime[0]))

    rig = Rig()
    cerebro = bt.Cerebro(stdstats=False)
    try:
        rig.store.setup(cerebro, [EURUSD], mode, cash=1.0 if mode == "backtest" else None, **bounds)
        cerebro.addstrategy(Seeing)
        cerebro.run()
    finally:
        rig.store.close()
    assert (seen[0], seen[-1]) == (LIVE_START - HOURS, LIVE_START + 30 * MINUTE_MS)


# --------------------------------------------------------------------------- rates


def test_a_rate_is_a_number_or_the_price_of_a_symbol_or_its_inverse() -> None:
    rates = Rates("USD", {"CNY": 0.15, "EUR": "FOREX.EURUSD", "JPY": "1/FOREX.USDJPY"})
    assert rates.symbols == ("FOREX.EURUSD", "FOREX.USDJPY")
    assert (rates.of("USD"), rates.of("CNY")) == (1.0, 0.15)
    with pytest.raises(ConfigError, match=r"JPY to USD follows FOREX\.USDJPY, of which no price"):
        rates.of("JPY")
    rates.seed("FOREX.USDJPY", 100.0)
    rates.follow("FOREX.EURUSD", 1.25)
    assert (rates.of("JPY"), rates.of("EUR")) == (0.01, 1.25)
    rates.follow("FOREX.USDJPY", 200.0)
    assert rates.of("JPY") == 0.005
    rates.reset()
    assert rates.of("JPY") == 0.01


@pytest.mark.parametrize(
    ("rate", "message"), [("USDCNY", "MARKET.CODE"), (0.0, "above 0"), (float("nan"), "above 0")]
)
def test_a_rate_that_cannot_be_is_named(rate: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"rates: CNY.*{message}"):
        Rates("USD", {"CNY": rate})


def test_the_value_of_a_backtest_moves_with_the_rate() -> None:
    futures = contract("CN.F", currency="CNY", multiplier=10.0, margin=Margin(rate=0.1))
    pair = contract("FX.USDCNY", price_tick=0.0001)
    prices = [7.0] * 10 + [8.0] * 10
    rate = [
        bar(minute, price, price, price, price, symbol="FX.USDCNY")
        for minute, price in enumerate(prices)
    ]
    values: dict[int, float] = {}

    def action(strategy: Backtested, minute: int) -> None:
        values[minute] = strategy.broker.getvalue()
        if minute == 3:
            strategy.buy(data=strategy.datas[0], size=2)

    rising = [bar(m, 100 + m, 100 + m, 100 + m, 100 + m, symbol="CN.F") for m in range(20)]
    backtest(
        [futures, pair],
        [rising, rate],
        action,
        rates={"CNY": "1/FX.USDCNY"},
        cash={"CNY": 7_000.0},
    )
    assert values[1] == pytest.approx(1_000.0)
    # two contracts from 103 on, ten yuan a point
    assert values[10] == pytest.approx((7_000 + 20 * (109 - 103)) / 7.0)
    assert values[11] == pytest.approx((7_000 + 20 * (110 - 103)) / 8.0)


def test_a_symbol_that_a_rate_follows_must_have_a_feed() -> None:
    rig = Rig(rates={"JPY": "1/FOREX.USDJPY"})
    with pytest.raises(ConfigError, match=r"follows FOREX\.USDJPY, which has no feed"):
        rig.run({})


def test_live_the_value_moves_with_the_rate() -> None:
    rig = Rig(rates={"JPY": "1/FOREX.USDJPY"})
    rig.venue.balances = [
        *rig.venue.balances,
        type(rig.venue.balances[0])("v", "JPY", 1e6, 0, 0, 0),
    ]
    seen: list[tuple[float, float]] = []

    def look(s: Scripted) -> None:
        seen.append((s.broker.getvalue(), s.data1.close[0]))

    ran = rig.run(dict.fromkeys(range(1, 20), look), symbols=(EURUSD, "FOREX.USDJPY"))
    assert len({price for _, price in seen}) > 5
    for value, price in seen:
        assert value == pytest.approx(1e6 + 1e6 / price)
    assert ran.broker.startingcash == pytest.approx(1e6 + 1e6 / seen[0][1], rel=1e-2)


# --------------------------------------------------------------------------- commissions


def test_setcommission_says_where_commissions_come_from() -> None:
    rig = Rig()
    with pytest.raises(ConfigError, match="come from the venue's contract"):
        rig.store.getbroker().setcommission(commission=0.1)
    cerebro = bt.Cerebro()
    rig.store.setup(cerebro, [EURUSD], cash=1.0)
    with pytest.raises(ConfigError, match="come from the venue's contract"):
        cerebro.broker.setcommission(commission=0.1)
    with pytest.raises(ConfigError, match="come from the venue's contract"):
        cerebro.broker.addcommissioninfo(bt.CommInfoBase())
    rig.store.close()


# --------------------------------------------------------------------------- trades


def lots(symbol: str = "FX.A", **changes: Any) -> Contract:
    fields = {
        "quantity_step": 0.01,
        "min_quantity": 0.01,
        "multiplier": 1000.0,
        "margin": Margin(rate=0.02),
        "commission": Commission(per_unit=3.0),
    }
    return contract(symbol, **{**fields, **changes})


def moving(symbol: str, prices: list[float]) -> list[Kline]:
    return [bar(m, p, p, p, p, symbol=symbol) for m, p in enumerate(prices)]


def analyzed(ran: bt.Strategy) -> tuple[int, int, int, int, float]:
    found = ran.analyzers.trades.get_analysis()
    return (
        found.total.total,
        found.total.closed,
        found.won.total,
        found.lost.total,
        round(found.pnl.net.total, 6),
    )


#: Bought 0.3 at 100, turned to 0.4 short at 110, bought back at 105: 3000 and 2000, less 3 a lot.
TURNED = (2, 2, 2, 0, 3_000 - 1.8 + 2_000 - 2.4)


def test_a_fill_that_turns_a_position_round_ends_one_trade_and_begins_another() -> None:
    prices = [100.0] * 5 + [110.0] * 5 + [105.0] * 10
    klines = Klines.of("FX.A", "1m", moving("FX.A", prices))

    class Turning(bt.Strategy):
        def next(self) -> None:
            minute = (to_ms(self.data.datetime[0]) - START) // MINUTE_MS
            if minute == 2:
                self.buy(size=0.3)
            elif minute == 6:
                self.sell(size=0.7)
            elif minute == 12:
                self.buy(size=0.4)

    store = LiveTraderStore(service=MarketService(ArchiveMarket([lots()], [klines])))
    cerebro = bt.Cerebro(stdstats=False)
    store.setup(cerebro, ["FX.A"], cash=1e5)
    cerebro.addstrategy(Turning)
    cerebro.addanalyzer(bt.analyzers.TradeAnalyzer, _name="trades")
    (ran,) = cerebro.run()
    store.close()
    assert analyzed(ran) == pytest.approx(TURNED)


def test_live_too() -> None:
    rig = Rig()
    step = 100_000 / 1000  # a lot of the pair is 100,000

    def fill(name: str, size: float, price: float) -> Any:
        return lambda s: rig.do(
            lambda: rig.venue.trade(id_of(getattr(s, name)), size, price / step, 3.0 * size)
        )

    def put(name: str, side: str, size: float) -> Any:
        return lambda s: setattr(s, name, getattr(s, side)(size=size))

    ran = rig.run(
        {
            2: put("a", "buy", 0.3),
            3: fill("a", 0.3, 100.0),
            5: put("b", "sell", 0.7),
            6: fill("b", 0.2, 110.0),
            7: fill("b", 0.5, 110.0),
            9: put("c", "buy", 0.4),
            10: fill("c", 0.4, 105.0),
        },
        prepare=lambda cerebro: cerebro.addanalyzer(bt.analyzers.TradeAnalyzer, _name="trades"),
    )
    assert analyzed(ran) == pytest.approx(TURNED)


def test_trades_simulated_on_history_are_no_trades_of_the_strategy() -> None:
    rig = Rig()

    def simulated(s: Scripted) -> None:
        s.simulated = s.buy(size=1)

    def real(s: Scripted) -> None:
        s.real = s.sell(size=1)

    ran = rig.run(
        {
            -30: simulated,
            -10: lambda s: s.sell(size=2),
            5: real,
            7: lambda s: rig.do(lambda: rig.venue.trade(id_of(s.real), 1.0, 1.1)),
        },
        broker={"backfill_orders": "simulate"},
        prepare=lambda cerebro: cerebro.addanalyzer(bt.analyzers.TradeAnalyzer, _name="trades"),
    )
    assert ran.statuses(ran.simulated) == ["Submitted", "Accepted", "Completed"]
    assert ran.simulated.info.simulated is True
    assert [(trade.size, trade.status) for trade in ran.trades] == [(-1.0, bt.Trade.Open)]
    assert ran.analyzers.trades.get_analysis().total.total == 1


# --------------------------------------------------------------------------- sizers


@pytest.mark.parametrize(
    ("sizer", "params", "size"),
    [
        (bt.sizers.FixedSize, {"stake": 0.125}, 0.12),
        (bt.sizers.FixedReverser, {"stake": 0.3}, 0.3),
        # 100,000 in cash; a lot of 1000 at 100 reserves 2,000, and 10,000 buy five
        (PercentSizer, {"percents": 10}, 5.0),
        (PercentSizer, {"percents": 0.033}, 0.01),
        (PercentSizer, {"percents": 0.001}, 0.0),
    ],
)
def test_sizers_give_whole_steps(sizer: Any, params: dict[str, Any], size: float) -> None:
    klines = Klines.of("FX.A", "1m", moving("FX.A", [100.0] * 10))
    orders: list[bt.Order] = []

    class Buying(bt.Strategy):
        def next(self) -> None:
            if len(self) == 3:
                orders.append(self.buy())

    store = LiveTraderStore(service=MarketService(ArchiveMarket([lots()], [klines])))
    cerebro = bt.Cerebro(stdstats=False)
    store.setup(cerebro, ["FX.A"], cash=1e5)
    cerebro.addstrategy(Buying)
    cerebro.addsizer(sizer, **params)
    (ran,) = cerebro.run()
    store.close()
    assert ran.position.size == size
    assert [order is None for order in orders] == [not size]


def test_targets_are_reached_in_whole_steps() -> None:
    sizes: list[float] = []

    def action(strategy: Backtested, minute: int) -> None:
        sizes.append(strategy.position.size)
        if minute == 2:
            strategy.order_target_size(target=0.155)
        elif minute == 5:
            strategy.order_target_percent(target=-0.1)
        elif minute == 8:
            strategy.order_target_size(target=0)

    backtest([lots()], [flat("FX.A", range(12), 100.0)], action)
    assert sizes[4] == 0.15
    assert sizes[7] == pytest.approx(-4.99, abs=0.2)
    assert sizes[-1] == 0.0


# --------------------------------------------------------------------------- optimization


class Optimized(bt.Strategy):
    params = (("size", 1),)

    def next(self) -> None:
        if len(self) == 5:
            self.buy(size=self.p.size)
        if len(self) == 50:
            self.close()


def optimizing(**run: Any) -> tuple[LiveTraderStore, bt.Cerebro]:
    prices = [100.0 + minute * 0.01 for minute in range(1200)]
    klines = Klines.of("FX.A", "1m", moving("FX.A", prices))
    store = LiveTraderStore(service=MarketService(ArchiveMarket([lots()], [klines])))
    cerebro = bt.Cerebro(stdstats=False, **run)
    store.setup(cerebro, ["FX.A"], cash=1e5)
    cerebro.optstrategy(Optimized, size=[1, 2, 3])
    cerebro.addanalyzer(bt.analyzers.TradeAnalyzer, _name="trades")
    return store, cerebro


@pytest.mark.parametrize("maxcpus", [1, 2])
def test_strategies_are_optimized_in_one_process_and_in_several(maxcpus: int) -> None:
    store, cerebro = optimizing(maxcpus=maxcpus)
    found = [ran.analyzers.trades.get_analysis().pnl.gross.total for (ran,) in cerebro.run()]
    store.close()
    assert found == pytest.approx([450.0, 900.0, 1350.0])


def test_what_cannot_be_optimized_in_several_processes_says_so() -> None:
    store, cerebro = optimizing(maxcpus=2, optdatas=False)
    with pytest.raises(ConfigError, match=r"cerebro\.run\(maxcpus=1\)"):
        cerebro.run()
    store.close()


def test_live_feeds_are_not_optimized() -> None:
    rig = Rig()
    cerebro = bt.Cerebro(stdstats=False)
    rig.store.setup(cerebro, [EURUSD], "live", live_from=LIVE_START)
    cerebro.optstrategy(Optimized, size=[1, 2])
    with pytest.raises(ConfigError, match="use mode='backtest'"):
        cerebro.run()
    rig.store.close()
