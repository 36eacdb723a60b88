"""What only the paper venue does: orders at once or not at all, nights, margin calls, links."""

from __future__ import annotations

import pytest

from livetrader_core.errors import OrderRejected
from livetrader_core.models import (
    Margin,
    OrderStatus,
    OrderType,
    Side,
    Swap,
    TimeInForce,
)
from livetrader_core.sessions import Sessions
from livetrader_core.trade import PaperTrade
from livetrader_core.trade.paper.links import Links
from tests.support.scripted_market import START, ScriptedMarket, bar, contract
from tests.trade.test_paper import MINUTE, SELL, fills_of, order, run

IOC, FOK = TimeInForce.IOC, TimeInForce.FOK
LIMIT, STOP, CLOSE = OrderType.LIMIT, OrderType.STOP, OrderType.CLOSE
TRAILING = OrderType.TRAILING_STOP


async def status_of(paper: PaperTrade, number: int) -> OrderStatus:
    found = await paper.fetch_order(f"o-{number}")
    assert found is not None
    return found.status


def test_immediate_or_cancel_takes_what_it_gets_and_ends() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1, quantity=100.0, time_in_force=IOC))
        await paper.create_order(order(2, kind=LIMIT, price=50.0, time_in_force=IOC))
        await market.moment(bar(0, 100.0, 101.0, 99.0, 100.0, volume=60.0))
        assert await fills_of(paper) == [("o-1", 30.0, 100.0)]
        assert await status_of(paper, 1) is OrderStatus.CANCELED
        assert await status_of(paper, 2) is OrderStatus.CANCELED
        assert await paper.fetch_open_orders() == []

    run(work, volume_limit=0.5)


def test_fill_or_kill_is_filled_whole_or_not_at_all() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1, quantity=31.0, time_in_force=FOK))
        await paper.create_order(order(2, quantity=30.0, time_in_force=FOK))
        await market.moment(bar(0, 100.0, 101.0, 99.0, 100.0, volume=60.0))
        assert await fills_of(paper) == [("o-2", 30.0, 100.0)]
        assert await status_of(paper, 1) is OrderStatus.CANCELED
        assert await status_of(paper, 2) is OrderStatus.FILLED

    run(work, volume_limit=0.5)


def test_fill_or_kill_that_cannot_be_paid_closes_nothing_either() -> None:
    lot = contract("FOREX.A", multiplier=10.0, margin=Margin(per_unit=100.0))

    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        async def minute(number: int, price: float) -> None:
            await market.moment(bar(number, price, price, price, price, symbol="FOREX.A"))

        await paper.create_order(order(1, symbol="FOREX.A", quantity=5.0))
        await minute(0, 100.0)
        turn = {"symbol": "FOREX.A", "quantity": 15.0}
        await paper.create_order(order(2, SELL, time_in_force=FOK, **turn))
        await minute(1, 101.0)
        assert await fills_of(paper) == [("o-1", 5.0, 100.0)]
        assert await status_of(paper, 2) is OrderStatus.REJECTED
        (balance,) = await paper.fetch_balance()
        assert (balance.cash, balance.margin) == (600.0, 500.0)
        # Any other order closes what it can.
        await paper.create_order(order(3, SELL, time_in_force=IOC, **turn))
        await minute(2, 101.0)
        assert await fills_of(paper) == [("o-1", 5.0, 100.0), ("o-3", 5.0, 101.0)]
        assert await status_of(paper, 3) is OrderStatus.REJECTED
        assert await paper.fetch_positions() == []
        (balance,) = await paper.fetch_balance()
        assert (balance.cash, balance.margin) == (650.0, 0.0)

    run(work, lot, cash=600.0, check_margin=True)


def test_a_trailing_stop_follows_closes_and_never_moves_back() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1, SELL, TRAILING, stop_price=98.0, trail_amount=2.0))
        await paper.create_order(order(2, SELL, TRAILING, stop_price=98.0, trail_percent=0.05))
        for minute, close in enumerate((101.0, 104.0, 103.0)):
            await market.moment(bar(minute, close, 105.0, max(99.5, close - 0.5), close))
        stops = [one.stop_price for one in await paper.fetch_open_orders()]
        assert stops == [102.0, 98.8]
        await market.moment(bar(3, 103.0, 103.5, 101.0, 101.5))
        assert await fills_of(paper) == [("o-1", 10.0, 102.0)]

    run(work)


DAY = Sessions(timezone="UTC", day=((0, 3),), weekdays=(0, 1, 2, 3, 4))


def test_a_close_order_fills_at_the_close_of_its_session() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1, kind=CLOSE))
        await market.moment(bar(0, 100.0, 101.0, 99.0, 100.5))
        await market.moment(bar(1, 100.5, 102.0, 99.0, 101.5))
        assert await fills_of(paper) == []
        await market.moment(bar(2, 101.5, 102.0, 99.0, 99.25))
        assert await fills_of(paper) == [("o-1", 10.0, 99.25)]

    run(work, contract(sessions=DAY))


def test_a_session_whose_last_kline_is_missing_closes_at_the_one_before() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1, kind=CLOSE))
        await market.moment(bar(1, 100.5, 102.0, 99.0, 101.5))
        await market.moment(bar(1440, 90.0, 91.0, 89.0, 90.5))
        (fill,) = await paper.fetch_fills()
        assert (fill.price, fill.datetime) == (101.5, START + 2 * MINUTE)

    run(work, contract(sessions=DAY))


def test_a_bracket_wakes_after_its_parent_and_its_first_child_ends_the_other() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1, kind=LIMIT, price=100.0))
        await paper.create_order(order(2, SELL, STOP, stop_price=95.0, parent="o-1"))
        await paper.create_order(order(3, SELL, LIMIT, price=105.0, parent="o-1"))
        # The parent's own kline reaches both children, who sleep.
        await market.moment(bar(0, 101.0, 106.0, 94.0, 100.0))
        assert await fills_of(paper) == [("o-1", 10.0, 100.0)]
        await market.moment(bar(1, 100.0, 106.0, 99.0, 105.5))
        assert [name for name, *_ in await fills_of(paper)] == ["o-1", "o-3"]
        assert await status_of(paper, 2) is OrderStatus.CANCELED

    run(work)


def test_a_parent_that_ends_takes_its_children_and_refuses_later_ones() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1, kind=LIMIT, price=50.0))
        await paper.create_order(order(2, SELL, STOP, stop_price=45.0, parent="o-1"))
        await paper.cancel_order("o-1")
        assert await status_of(paper, 2) is OrderStatus.CANCELED
        with pytest.raises(OrderRejected, match="its parent o-1 is canceled"):
            await paper.create_order(order(3, SELL, STOP, stop_price=45.0, parent="o-1"))

    run(work)


def test_one_of_a_group_that_is_filled_in_part_cancels_the_rest_with_its_bracket() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1, kind=LIMIT, price=99.0, quantity=100.0))
        await paper.create_order(order(2, kind=LIMIT, price=90.0, oco="o-1"))
        await paper.create_order(order(3, SELL, STOP, stop_price=80.0, parent="o-2"))
        await market.moment(bar(0, 100.0, 101.0, 98.0, 100.0, volume=100.0))
        assert await fills_of(paper) == [("o-1", 50.0, 99.0)]
        assert await status_of(paper, 1) is OrderStatus.PARTIALLY_FILLED
        assert await status_of(paper, 2) is OrderStatus.CANCELED
        assert await status_of(paper, 3) is OrderStatus.CANCELED
        await market.moment(bar(1, 100.0, 101.0, 98.0, 100.0, volume=100.0))
        assert await status_of(paper, 1) is OrderStatus.FILLED
        # The group is over: who names it begins another.
        await paper.create_order(order(4, kind=LIMIT, price=90.0, oco="o-1"))
        await market.moment(bar(2, 100.0, 101.0, 98.0, 100.0, volume=100.0))
        assert await status_of(paper, 4) is OrderStatus.ACCEPTED

    run(work, volume_limit=0.5)


def test_links_of_orders_that_are_over_are_forgotten() -> None:
    links = Links()
    for number in range(5000):
        links.add(order(number), parent_filled=False)
        links.end_in_bracket(f"o-{number}", is_over=True)
        links.leave_group(f"o-{number}")
    links.add(order(9000), parent_filled=False)
    links.add(order(9001, oco="o-9000", parent="o-9000"), parent_filled=False)
    working = {"o-9001"}
    links.forget_all_but(working)
    assert len(links.leaders) <= 2
    assert links.leave_group("o-9001") == ["o-9000", "o-9001"]
    assert links.end_in_bracket("o-9001", is_over=True) == ["o-9000", "o-9001"]


# ---- nights

FOREX = Sessions(timezone="UTC", day=((0, 1440),), weekdays=(0, 1, 2, 3, 4))


def test_every_night_is_paid_and_wednesdays_thrice() -> None:
    """START is a Monday; 7.50 a night for two lots long, from Monday to the next Tuesday."""
    lot = contract(
        "FOREX.A", sessions=FOREX, swap=Swap(long=-3.75, short=1.0), margin=Margin(per_unit=100.0)
    )

    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        async def cash() -> float:
            return (await paper.fetch_balance())[0].cash

        def day(number: int) -> object:
            return bar(number * 1440, 100.0, 100.0, 100.0, 100.0, symbol="FOREX.A")

        await paper.create_order(order(1, symbol="FOREX.A", quantity=2.0))
        await market.moment(day(0))  # type: ignore[arg-type]
        paid = []
        for number in (1, 2, 3, 4, 7, 8):  # no klines at the weekend
            before = await cash()
            await market.moment(day(number))  # type: ignore[arg-type]
            paid.append(round(before - await cash(), 10))
        assert paid == [7.5, 7.5, 22.5, 7.5, 7.5, 7.5]
        await paper.create_order(order(2, SELL, symbol="FOREX.A", quantity=3.0))
        await market.moment(day(9))  # type: ignore[arg-type]
        assert round(await cash(), 10) == 10_000.0 - 67.5  # the night before was still long
        await market.moment(day(10))  # type: ignore[arg-type]
        assert round(await cash(), 10) == 10_000.0 - 67.5 + 3.0  # Wednesday's, one lot short

    run(work, lot, cash=10_000.0)


# ---- margin calls


def test_a_margin_call_cancels_orders_and_closes_positions_once() -> None:
    lot = contract("FOREX.A", multiplier=10.0, margin=Margin(per_unit=100.0))
    stock = contract("US.A")

    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        def a(minute: int, price: float) -> object:
            return bar(minute, price, price, price, price, symbol="FOREX.A")

        await paper.create_order(order(1, symbol="FOREX.A", quantity=5.0))
        await paper.create_order(order(2, symbol="US.A", quantity=1.0))
        await market.moment(a(0, 100.0), bar(0, 10.0, 10.0, 10.0, 10.0))  # type: ignore[arg-type]
        await paper.create_order(order(3, SELL, LIMIT, symbol="FOREX.A", quantity=5.0, price=120.0))
        await paper.create_order(order(4, kind=LIMIT, price=5.0, quantity=1.0))
        # 1,000 of cash; 500 margin. At 88 the loss is 600: 400 of equity, 80 % of the margin.
        await market.moment(a(1, 88.0))  # type: ignore[arg-type]
        assert await status_of(paper, 3) is OrderStatus.ACCEPTED
        # At 84 the loss is 800: 200, below half of the margin.
        await market.moment(a(2, 84.0))  # type: ignore[arg-type]
        assert await status_of(paper, 3) is OrderStatus.CANCELED
        assert await status_of(paper, 4) is OrderStatus.ACCEPTED
        (call,) = [o for o in await paper.fetch_open_orders() if o.reason == "margin call"]
        assert (call.side, call.quantity) == (Side.SELL, 5.0)
        await market.moment(bar(3, 10.0, 10.0, 10.0, 10.0))  # no new kline of FOREX.A
        await market.moment(a(4, 70.0))  # type: ignore[arg-type]
        assert [fill.price for fill in await paper.fetch_fills()] == [100.0, 10.0, 70.0]
        assert [p.symbol for p in await paper.fetch_positions()] == ["US.A"]
        (balance,) = await paper.fetch_balance()
        assert balance.cash == 1_000.0 - 10.0 - 1_500.0

    run(work, lot, stock, cash=1_000.0, margin_call=0.5)
