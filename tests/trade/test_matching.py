"""Fills on klines, against backtrader's own broker and against a table written by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from livetrader_core.models import Kline, Order, OrderType, Side
from livetrader_core.trade.paper.matching import NO_SLIPPAGE, Match, Slippage, fillable, match
from tests.support.data import proving
from tests.support.scripted_market import bar
from tests.trade.backbroker import run_backtrader, run_paper
from tests.trade.random_cases import MARGINED, Case, Outcome, Wish, case

SETTINGS = {
    "plain": {},
    "percent": {"slippage": Slippage(perc=0.005)},
    "percent, opens too": {"slippage": Slippage(perc=0.005, on_open=True)},
    "fixed": {"slippage": Slippage(fixed=0.5)},
    "fixed, opens too": {"slippage": Slippage(fixed=0.5, on_open=True)},
    "no match when slipped out": {"slippage": Slippage(fixed=0.5, on_open=True, match=False)},
    "limits not capped": {
        "slippage": Slippage(perc=0.01, on_open=True, match=False, limit=False),
    },
    "outside the bar": {"slippage": Slippage(fixed=0.8, on_open=True, out=True)},
    "volume 10 %": {"volume_percent": 10},
    "volume 29 %, slipped": {"volume_percent": 29, "slippage": Slippage(perc=0.002)},
    "volume 100 %": {"volume_percent": 100},
    "poor": {"poor": True},
    "poor, slipped, volume 50 %": {
        "poor": True,
        "volume_percent": 50,
        "slippage": Slippage(fixed=0.25, on_open=True),
    },
}


def assert_same(case: Case, backtest: Outcome, paper: Outcome) -> None:
    assert paper.fills == backtest.fills
    assert paper.ends == backtest.ends
    assert len(paper.money) == len(backtest.money) == len(case.moments)
    assert [m[0] for m in paper.money] == pytest.approx([m[0] for m in backtest.money])
    # BackBroker adds margin at today's price that it took at the entry's: with margin as a share
    # of the price, its value is off by the difference.
    if not case.contracts[MARGINED].margin.rate:
        assert [m[1] for m in paper.money] == pytest.approx([m[1] for m in backtest.money])


@pytest.mark.parametrize("name", SETTINGS)
def test_fills_and_money_are_those_of_backbroker(name: str) -> None:
    fills = 0
    first = 100 * list(SETTINGS).index(name)
    for seed in range(first, first + 16):
        made = case(seed, **SETTINGS[name])
        backtest = run_backtrader(made)
        assert_same(made, backtest, run_paper(made))
        fills += len(backtest.fills)
    assert fills > 200


def link_of(wish: Wish) -> str:
    """The field that links it, if any."""
    return "oco" if wish.oco is not None else "parent" if wish.parent is not None else ""


@pytest.mark.long
def test_fills_and_money_are_those_of_backbroker_at_length(
    record_property: Callable[[str, object], None],
) -> None:
    cases, fills = (3000 if proving() else 60), 0
    filled: set[tuple[OrderType, str]] = set()
    for seed in range(5000, 5000 + cases):
        made = case(seed, **list(SETTINGS.values())[seed % len(SETTINGS)])
        backtest = run_backtrader(made)
        assert_same(made, backtest, run_paper(made))
        fills += len(backtest.fills)
        wishes = {wish.number: wish for moment in made.wishes for wish in moment}
        filled |= {(wishes[fill[0]].type, link_of(wishes[fill[0]])) for fill in backtest.fills}
    # Not one kind of order is compared by name only.
    assert filled == {(kind, link) for kind in OrderType for link in ("", "oco", "parent")}
    record_property("matching: random cases against BackBroker", cases)
    record_property("matching: fills compared", fills)


def test_comparison_notices_one_bar_that_is_one_tick_off() -> None:
    made, shifted = case(1), case(1)
    backtest = run_backtrader(made)
    at_open = {(symbol, closed, price) for _, symbol, _, price, closed in backtest.fills}
    minute, place = next(
        (minute, place)
        for minute, moment in enumerate(made.moments)
        for place, kline in enumerate(moment)
        if (kline.symbol, kline.datetime + 60_000, kline.open) in at_open
    )
    right = made.moments[minute][place]
    wrong = replace(right, open=right.open + 0.25, high=right.high + 0.25)
    shifted.moments[minute][place] = wrong
    with pytest.raises(AssertionError):
        assert_same(made, backtest, run_paper(shifted))


def order(kind: OrderType, side: Side, price: float = 0.0, stop: float = 0.0) -> Order:
    return Order("x", "US.A", side, kind, 1.0, price=price, stop_price=stop)


RISING = bar(0, 100.0, 110.0, 90.0, 105.0)
FALLING = bar(0, 100.0, 110.0, 90.0, 95.0)
FLAT = bar(0, 100.0, 110.0, 90.0, 100.0)
BUY, SELL = Side.BUY, Side.SELL
LIMIT, STOP, STOP_LIMIT = OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT


@pytest.mark.parametrize(
    ("wanted", "kline", "expected"),
    [
        (order(OrderType.MARKET, BUY), RISING, Match(100.0)),
        (order(OrderType.MARKET, SELL), FALLING, Match(100.0)),
        (order(LIMIT, BUY, 101.0), RISING, Match(100.0)),
        (order(LIMIT, BUY, 95.0), RISING, Match(95.0)),
        (order(LIMIT, BUY, 90.0), RISING, Match(90.0)),
        (order(LIMIT, BUY, 89.99), RISING, Match(None)),
        (order(LIMIT, SELL, 99.0), RISING, Match(100.0)),
        (order(LIMIT, SELL, 110.0), RISING, Match(110.0)),
        (order(LIMIT, SELL, 110.01), RISING, Match(None)),
        (order(STOP, BUY, stop=99.0), RISING, Match(100.0)),
        (order(STOP, BUY, stop=104.0), RISING, Match(104.0)),
        (order(STOP, BUY, stop=110.01), RISING, Match(None)),
        (order(STOP, SELL, stop=101.0), RISING, Match(100.0)),
        (order(STOP, SELL, stop=90.0), RISING, Match(90.0)),
        (order(STOP, SELL, stop=89.99), RISING, Match(None)),
        (order(STOP_LIMIT, BUY, 95.0, stop=111.0), FALLING, Match(None)),
        (order(STOP_LIMIT, BUY, 97.0, stop=99.0), FALLING, Match(97.0, True)),
        (order(STOP_LIMIT, BUY, 106.0, stop=105.0), RISING, Match(105.0, True)),
        (order(STOP_LIMIT, BUY, 96.0, stop=105.0), FALLING, Match(96.0, True)),
        (order(STOP_LIMIT, BUY, 94.0, stop=105.0), FALLING, Match(None, True)),
        (order(STOP_LIMIT, BUY, 104.0, stop=105.0), RISING, Match(None, True)),
        (order(STOP_LIMIT, BUY, 100.0, stop=105.0), FLAT, Match(None, True)),
        (order(STOP_LIMIT, SELL, 100.0, stop=95.0), FLAT, Match(100.0, True)),
        (order(STOP_LIMIT, SELL, 104.0, stop=95.0), RISING, Match(104.0, True)),
        (order(STOP_LIMIT, SELL, 96.0, stop=95.0), FALLING, Match(None, True)),
    ],
)
def test_rules_by_hand(wanted: Order, kline: Kline, expected: Match) -> None:
    assert match(wanted, kline) == expected


def test_triggered_stop_limit_is_matched_as_limit() -> None:
    wanted = order(STOP_LIMIT, BUY, 91.0, stop=120.0)
    assert match(wanted, RISING, triggered=True) == Match(91.0, True)


def test_slippage_stays_inside_the_kline_unless_told_otherwise() -> None:
    wanted = order(STOP, BUY, stop=109.0)
    assert match(wanted, RISING, slippage=Slippage(fixed=0.5)).price == 109.5
    assert match(wanted, RISING, slippage=Slippage(fixed=5.0)).price == 110.0
    assert match(wanted, RISING, slippage=Slippage(fixed=5.0, out=True)).price == 114.0
    assert match(wanted, RISING, slippage=Slippage(fixed=5.0, match=False)).price is None
    assert match(wanted, RISING, slippage=NO_SLIPPAGE).price == 109.0


def test_close_orders_are_no_matter_of_one_kline() -> None:
    with pytest.raises(ValueError, match="close"):
        match(order(OrderType.CLOSE, BUY), RISING)


def test_volume_limit_rounds_down_to_the_step() -> None:
    kline = bar(0, 100.0, 110.0, 90.0, 105.0, volume=100.0)
    assert fillable(50.0, kline, 0.29, 1.0) == 29.0
    assert fillable(50.0, kline, 0.299, 1.0) == 29.0
    assert fillable(0.5, kline, 0.0033, 0.1) == 0.3
    assert fillable(20.0, kline, 0.29, 1.0) == 20.0
    assert fillable(500.0, kline, 0.0, 1.0) == 500.0
