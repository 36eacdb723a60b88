"""The strategies in plain Cerebro, over generated prices of markets with different hours."""

from __future__ import annotations

import ast
import functools
import math
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import backtrader as bt
import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "strategies"
NAMES = ("sma_cross", "donchian_breakout", "pair_spread")
START = datetime(2024, 3, 4)
MINUTE = timedelta(minutes=1)

Bar = tuple[datetime, float, float, float, float]


class Bars(bt.feed.DataBase):
    """Bars from a list; live, so that Cerebro asks bar by bar, if ``live``."""

    params = (("bars", ()), ("live", False))

    def islive(self) -> bool:
        return bool(self.p.live)

    def start(self) -> None:
        super().start()
        self._rest = iter(self.p.bars)

    def _load(self) -> bool:
        bar = next(self._rest, None)
        if bar is None:
            return False
        self.lines.datetime[0] = bt.date2num(bar[0])
        for line, value in zip(("open", "high", "low", "close"), bar[1:], strict=True):
            getattr(self.lines, line)[0] = value
        self.lines.volume[0] = 1000.0
        return True


class Lots(bt.CommInfoBase):
    """A currency pair: lots of 100,000 on a margin of one percent."""

    params = (("mult", 100_000.0), ("margin", 1_000.0), ("stocklike", False))


class Watcher(bt.Analyzer):
    """What the broker told the strategy, and what worked at the end of every bar."""

    def start(self) -> None:
        self.filled: list[bt.Order] = []
        self.ended: list[tuple[str, int, float]] = []
        self.open: dict[int, bt.Order] = {}
        self.most_open: dict[str, int] = {}
        self.stops_without_position = 0
        self.largest: dict[str, float] = {}

    def notify_order(self, order: bt.Order) -> None:
        if order.alive():
            self.open[order.ref] = order
            of_data = [o for o in self.open.values() if o.data is order.data]
            name = order.data._name
            self.most_open[name] = max(self.most_open.get(name, 0), len(of_data))
        else:
            self.open.pop(order.ref, None)
            self.ended.append((order.getstatusname(), order.exectype, order.created.dt))
        if order.status == bt.Order.Completed:
            self.filled.append(order)

    def next(self) -> None:
        broker = self.strategy.broker
        for data in self.strategy.datas:
            orders = [o for o in self.open.values() if o.data is data]
            size = broker.getposition(data).size
            self.largest[data._name] = max(self.largest.get(data._name, 0.0), abs(size))
            if not size and any(o.exectype == bt.Order.Stop for o in orders):
                self.stops_without_position += 1

    prenext = next


def load(name: str) -> ModuleType:
    module = ModuleType(name)
    source = (FOLDER / f"{name}.py").read_text()
    sys.modules[name] = module  # backtrader looks a strategy's module up by its name
    exec(compile(source, f"{name}.py", "exec"), module.__dict__)
    return module


def strategy(name: str) -> type[bt.Strategy]:
    classes = {
        "sma_cross": "SmaCross",
        "donchian_breakout": "DonchianBreakout",
        "pair_spread": "PairSpread",
    }
    found: type[bt.Strategy] = getattr(load(name), classes[name])
    return found


def always(moment: datetime) -> bool:
    return True


def office_hours(moment: datetime) -> bool:
    return 9 <= moment.hour < 15


def evening(moment: datetime) -> bool:
    return 11 <= moment.hour < 20


def walk(
    seed: int, days: int = 2, price: float = 100.0, hours: Callable[[datetime], bool] = always
) -> list[Bar]:
    """Prices that wander in waves, so that every strategy finds something to do."""
    random = np.random.default_rng(seed)
    bars = []
    for minute in range(days * 1440):
        moment = START + minute * MINUTE
        step = random.normal(0, 0.0006) + 0.0012 * math.sin(minute / 90 + seed)
        open_, price = price, price * math.exp(step)
        if hours(moment):
            high, low = max(open_, price) * 1.0004, min(open_, price) * 0.9996
            bars.append((moment, open_, high, low, price))
    return bars


def run(
    name: str,
    feeds: dict[str, Sequence[Bar]],
    live: bool = False,
    cash: float = 100_000.0,
    broker: bt.BrokerBase | None = None,
    quick: bool = False,
    **params: Any,
) -> tuple[bt.Strategy, Watcher]:
    cerebro = bt.Cerebro(stdstats=False, quicknotify=quick)
    for symbol, bars in feeds.items():
        cerebro.adddata(Bars(bars=bars, live=live, timeframe=bt.TimeFrame.Minutes), name=symbol)
    if broker is not None:
        cerebro.setbroker(broker)
    cerebro.broker.setcash(cash)
    cerebro.broker.addcommissioninfo(Lots(), name="FOREX.EURUSD")
    cerebro.addstrategy(strategy(name), **params)
    cerebro.addanalyzer(Watcher, _name="watcher")
    (ran,) = cerebro.run()
    return ran, ran.analyzers.watcher


def fills(watcher: Watcher) -> list[tuple[str, float, float, float]]:
    return [
        (o.data._name, o.executed.dt, o.executed.size, round(o.executed.price, 9))
        for o in watcher.filled
    ]


@functools.lru_cache
def three_markets() -> dict[str, Sequence[Bar]]:
    return {
        "US.BABA": walk(1, hours=evening),
        "FOREX.EURUSD": walk(2, price=1.1),
        "SHFE.rb2605": walk(3, price=3500.0, hours=office_hours),
    }


@functools.lru_cache
def usual_run(name: str) -> tuple[bt.Strategy, Watcher]:
    """A run over the usual prices; many tests look at it, none changes it."""
    return run(name, feeds_for(name), **params_for(name))


PAIR = {"period": 30, "entry": 1.5, "give_up": 20.0}


def feeds_for(name: str) -> dict[str, Sequence[Bar]]:
    if name == "pair_spread":
        return {"US.BABA": walk(1, hours=evening), "US.QQQ": walk(5, hours=office_hours)}
    return three_markets()


def params_for(name: str) -> dict[str, Any]:
    return PAIR if name == "pair_spread" else {}


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_knows_nothing_of_livetrader(name: str) -> None:
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    } | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(str(module).startswith("livetrader") for module in imported)
    usage = ast.get_docstring(tree) or ""
    assert "--mode backtest" in usage
    assert "--mode live" in usage


@pytest.mark.parametrize("name", NAMES)
def test_it_trades_each_symbol_both_ways(name: str) -> None:
    ran, watcher = usual_run(name)
    for data in ran.datas:
        sides = {o.isbuy() for o in watcher.filled if o.data is data}
        assert sides == {True, False}, data._name
        closed = [t for trades in ran._trades[data].values() for t in trades if t.isclosed]
        assert len(closed) >= 2, data._name


@pytest.mark.parametrize("name", NAMES)
def test_live_bar_by_bar_fills_as_preloaded(name: str) -> None:
    # Live feeds turn the vectorized indicators off: both ways must see the same.
    feeds = {symbol: list(bars)[:1400] for symbol, bars in feeds_for(name).items()}
    _, loaded = run(name, feeds, **params_for(name))
    _, live = run(name, feeds, live=True, **params_for(name))
    assert fills(loaded)
    assert fills(live) == fills(loaded)


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_later_changes_nothing_before(name: str) -> None:
    cut = START + timedelta(days=1, hours=6)
    feeds = feeds_for(name)
    early = {symbol: [bar for bar in bars if bar[0] < cut] for symbol, bars in feeds.items()}
    _, whole = usual_run(name)
    _, part = run(name, early, **params_for(name))
    limit = bt.date2num(cut)
    assert fills(part)
    assert fills(part) == [fill for fill in fills(whole) if fill[1] < limit]


@pytest.mark.parametrize("name", ["sma_cross", "donchian_breakout"])
def test_a_symbol_trades_the_same_alone_and_beside_others(name: str) -> None:
    # The others tick at other times and start later; a fixed stake keeps the account out of it.
    feeds = {symbol: list(bars)[:1400] for symbol, bars in three_markets().items()}
    _, together = run(name, feeds, stake=1, cash=1e7)
    assert {fill[0] for fill in fills(together)} == set(feeds)
    for symbol, bars in feeds.items():
        _, alone = run(name, {symbol: bars}, stake=1, cash=1e7)
        assert fills(alone) == [fill for fill in fills(together) if fill[0] == symbol]


@pytest.mark.parametrize("name", NAMES)
def test_too_few_bars_are_no_harm(name: str) -> None:
    feeds = {symbol: list(bars)[:5] for symbol, bars in feeds_for(name).items()}
    _, watcher = run(name, feeds, live=True)
    assert fills(watcher) == []


@pytest.mark.parametrize("name", NAMES)
def test_bars_without_a_price_are_no_harm(name: str) -> None:
    nan = math.nan
    feeds = {
        symbol: [
            (bar[0], nan, nan, nan, nan) if n in (400, 401) else bar for n, bar in enumerate(bars)
        ]
        for symbol, bars in feeds_for(name).items()
    }
    _, watcher = run(name, feeds, **params_for(name))
    assert fills(watcher)
    assert all(math.isfinite(fill[2]) and math.isfinite(fill[3]) for fill in fills(watcher))


@pytest.mark.parametrize(("symbol", "unit"), [("FOREX.EURUSD", 100_000.0), ("US.BABA", 1.0)])
def test_sizes_follow_the_account_not_the_margin(symbol: str, unit: float) -> None:
    feeds = {symbol: three_markets()[symbol]}
    _, watcher = run("sma_cross", feeds, fraction=0.2, cash=100_000.0)
    executed = watcher.filled[0].executed
    assert abs(executed.size) * executed.price * unit == pytest.approx(20_000.0, rel=0.02)


def test_a_fixed_stake_may_be_a_fraction_of_a_lot() -> None:
    _, watcher = run("sma_cross", {"FOREX.EURUSD": walk(2, price=1.1)}, stake=0.01)
    assert watcher.largest == {"FOREX.EURUSD": pytest.approx(0.01)}


def test_sma_cross_is_flat_or_long_without_short() -> None:
    _ran, watcher = run("sma_cross", three_markets(), short=False)
    held: dict[str, float] = {}
    for order in watcher.filled:
        held[order.data._name] = held.get(order.data._name, 0.0) + order.executed.size
        assert held[order.data._name] > -1e-9
    assert len(watcher.filled) > 10


def test_sma_cross_holds_the_side_of_the_averages() -> None:
    bars = walk(4)
    _, watcher = run("sma_cross", {"US.BABA": bars}, fast=5, slow=20, stake=3)
    closes = np.array([bar[4] for bar in bars])
    for order in watcher.filled:
        at = next(n for n, bar in enumerate(bars) if bt.date2num(bar[0]) == order.executed.dt)
        before = closes[:at]  # it was decided on the bar before
        assert order.isbuy() == (before[-5:].mean() > before[-20:].mean())
        assert order.executed.price == pytest.approx(bars[at][1])


@pytest.mark.parametrize("name", NAMES)
def test_never_two_orders_of_a_symbol_at_work(name: str) -> None:
    _, watcher = usual_run(name)
    assert set(watcher.most_open.values()) == {1}


def test_every_stop_is_cancelled_when_its_position_is_closed() -> None:
    ran, watcher = usual_run("donchian_breakout")
    stops = [status for status, exectype, _ in watcher.ended if exectype == bt.Order.Stop]
    assert stops.count("Completed") >= 3
    assert stops.count("Canceled") >= 3
    assert watcher.stops_without_position == 0
    for book in ran.books:
        assert (book.stop is None) == (ran.getposition(book.data).size == 0)


def test_every_position_has_its_stop_by_the_next_bar() -> None:
    bare: list[str] = []
    donchian = strategy("donchian_breakout")

    class Checked(donchian):  # type: ignore[misc, valid-type]
        def next(self) -> None:
            for book in self.books:
                held = self.getposition(book.data).size
                if held and book.stop is None and book.order is None:
                    bare.append(book.data._name)
            super().next()

    cerebro = bt.Cerebro(stdstats=False)
    for symbol, bars in three_markets().items():
        cerebro.adddata(Bars(bars=bars), name=symbol)
    cerebro.broker.setcash(1e7)
    cerebro.addstrategy(Checked, stake=1)
    (ran,) = cerebro.run()
    assert sum(len(trades[0]) for trades in ran._trades.values()) >= 9
    assert bare == []


def test_stops_only_ever_tighten() -> None:
    levels: dict[str, list[tuple[bool, float]]] = {}
    donchian = strategy("donchian_breakout")

    class Checked(donchian):  # type: ignore[misc, valid-type]
        def protect(self, book: Any, level: float) -> None:
            side = self.getposition(book.data).size > 0
            fresh = book.next_level is None
            levels.setdefault(book.data._name, []).append((fresh, level if side else -level))
            super().protect(book, level)

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(Bars(bars=walk(2)), name="X")
    cerebro.addstrategy(Checked, stake=1)
    cerebro.run()
    moved = 0
    for (_, before), (fresh, level) in zip(levels["X"], levels["X"][1:], strict=False):
        if not fresh:
            moved += 1
            assert level > before
    assert moved >= 3


class StopsRefused(bt.brokers.BackBroker):
    """A broker that rejects every stop order."""

    def transmit(self, order: bt.Order, check: bool = True) -> bt.Order:
        if order.exectype != bt.Order.Stop:
            return super().transmit(order, check)
        order.submit()
        order.reject(self)
        self.notify(order)
        return order


def test_a_position_whose_stop_is_refused_is_closed() -> None:
    _ran, watcher = run("donchian_breakout", {"X": walk(2)}, broker=StopsRefused(), stake=1)
    assert len(watcher.filled) >= 4
    sides = [order.executed.size for order in watcher.filled]
    assert all(a == -b for a, b in zip(sides[::2], sides[1::2], strict=False))


class OneLegRefused(bt.brokers.BackBroker):
    """A broker that rejects what opens in one symbol."""

    def transmit(self, order: bt.Order, check: bool = True) -> bt.Order:
        if order.data._name != "US.QQQ":
            return super().transmit(order, check)
        order.submit()
        order.reject(self)
        self.notify(order)
        return order


def test_a_leg_left_alone_is_closed() -> None:
    ran, watcher = run("pair_spread", feeds_for("pair_spread"), broker=OneLegRefused(), **PAIR)
    assert len(watcher.filled) >= 4
    assert {order.data._name for order in watcher.filled} == {"US.BABA"}
    held = 0.0
    for order in watcher.filled:
        held += order.executed.size
        assert abs(held) <= abs(order.executed.size) + 1e-9
    assert abs(ran.getposition(ran.data0).size) < 1e-9 or watcher.open


def test_the_pair_acts_only_on_moments_of_both() -> None:
    _ran, watcher = usual_run("pair_spread")
    assert len(watcher.filled) >= 8
    for order in watcher.filled:
        created = bt.num2date(order.created.dt)
        assert office_hours(created)
        assert evening(created)


def test_the_pair_holds_opposite_legs_of_like_value() -> None:
    _, watcher = usual_run("pair_spread")
    first = watcher.filled[:2]
    assert {order.data._name for order in first} == {"US.BABA", "US.QQQ"}
    values = [order.executed.size * order.executed.price for order in first]
    assert values[0] * values[1] < 0
    assert abs(values[0]) == pytest.approx(abs(values[1]), rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_it_tells_on_request_only(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    feeds = {symbol: list(bars)[:1500] for symbol, bars in feeds_for(name).items()}
    run(name, feeds, **params_for(name))
    silent = capsys.readouterr()
    assert (silent.out, silent.err) == ("", "")
    run(name, feeds, log=True, **params_for(name))
    told = capsys.readouterr()
    assert told.out == ""
    assert "completed" in told.err
    assert "trade closed, profit" in told.err


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("sma_cross", {"fast": 30, "slow": 10}),
        ("donchian_breakout", {"entry": 0}),
        ("pair_spread", {"exit": 3.0, "entry": 2.0}),
    ],
)
def test_senseless_parameters_are_refused(name: str, params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(params))):
        run(name, feeds_for(name), **params)
