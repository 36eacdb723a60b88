"""What leaves for a venue: every order type, with its links, in the right order."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import backtrader as bt
import pytest

from livetrader_core.errors import OrderRejected
from livetrader_core.models import Order, OrderStatus, OrderType, TimeInForce
from livetrader_core.timeframe import MINUTE_MS
from tests.bt.venue_rig import EURUSD, START, Rig, Scripted, id_of

KIND = bt.Order
MIN = MINUTE_MS


def sent(rig: Rig) -> list[Order]:
    return [rig.venue.orders[name] for name in rig.venue.arrived]


def one(wish: dict[str, Any], side: str = "buy") -> Order:
    """The order that arrives for one wish at minute 5."""
    rig = Rig()
    rig.run({5: lambda s: getattr(s, side)(size=0.5, **wish)})
    (order,) = sent(rig)
    return order


@pytest.mark.parametrize(
    ("side", "wish", "expected"),
    [
        ("buy", {}, {"type": OrderType.MARKET}),
        ("sell", {"exectype": KIND.Close}, {"type": OrderType.CLOSE}),
        ("buy", {"exectype": KIND.Limit, "price": 1.1}, {"type": OrderType.LIMIT, "price": 1.1}),
        (
            "sell",
            {"exectype": KIND.Stop, "price": 1.1},
            {"type": OrderType.STOP, "stop_price": 1.1},
        ),
        (
            "buy",
            {"exectype": KIND.StopLimit, "price": 1.2, "plimit": 1.21},
            {"type": OrderType.STOP_LIMIT, "stop_price": 1.2, "price": 1.21},
        ),
        (
            "sell",
            {"exectype": KIND.StopTrail, "price": 1.3, "trailamount": 0.0123},
            {"type": OrderType.TRAILING_STOP, "stop_price": 1.2877, "trail_amount": 0.0123},
        ),
        (
            "buy",
            {"exectype": KIND.StopTrail, "price": 1.23456, "trailpercent": 0.01},
            {"type": OrderType.TRAILING_STOP, "stop_price": 1.24691, "trail_percent": 0.01},
        ),
        (
            "sell",
            {"exectype": KIND.StopTrailLimit, "price": 1.3, "plimit": 1.29, "trailamount": 0.02},
            {
                "type": OrderType.TRAILING_STOP_LIMIT,
                "stop_price": 1.28,
                "price": 1.27,
                "trail_amount": 0.02,
            },
        ),
        (
            "buy",
            {"exectype": KIND.Limit, "price": 1.1, "valid": KIND.DAY},
            {"type": OrderType.LIMIT, "price": 1.1, "time_in_force": TimeInForce.DAY},
        ),
        (
            "buy",
            {"exectype": KIND.Limit, "price": 1.1, "valid": 0},
            {"type": OrderType.LIMIT, "price": 1.1, "time_in_force": TimeInForce.DAY},
        ),
        (
            "buy",
            {"exectype": KIND.Limit, "price": 1.1, "valid": timedelta(minutes=30)},
            {
                "type": OrderType.LIMIT,
                "price": 1.1,
                "time_in_force": TimeInForce.GTD,
                "expires_at": START + 35 * MIN,
            },
        ),
        (
            "buy",
            {"exectype": KIND.Limit, "price": 1.1, "valid": datetime(2020, 11, 3, 9, 30)},
            {
                "type": OrderType.LIMIT,
                "price": 1.1,
                "time_in_force": TimeInForce.GTD,
                "expires_at": START + 90 * MIN,
            },
        ),
        (
            "buy",
            {
                "exectype": KIND.Limit,
                "price": 1.1,
                "valid": bt.date2num(datetime(2020, 11, 3, 9, 30)),
            },
            {
                "type": OrderType.LIMIT,
                "price": 1.1,
                "time_in_force": TimeInForce.GTD,
                "expires_at": START + 90 * MIN,
            },
        ),
    ],
)
def test_each_order_type_leaves_with_its_terms(
    side: str, wish: dict[str, Any], expected: dict[str, Any]
) -> None:
    order = one(wish, side)
    plain = Order(order.client_order_id, EURUSD, order.side, OrderType.MARKET, 0.5)
    assert order.side.value == side
    assert order.as_of == START + 5 * MIN
    names = ("type", "quantity", "price", "stop_price", "time_in_force", "expires_at")
    names += ("trail_amount", "trail_percent", "parent", "oco")
    assert {name: getattr(order, name) for name in names} == {
        name: getattr(plain.but(**expected), name) for name in names
    }


def test_a_bracket_leaves_when_its_last_order_is_there_parent_first() -> None:
    rig = Rig()
    seen: list[int] = []

    def begin(s: Scripted) -> None:
        s.parent = s.buy(size=1, exectype=KIND.Limit, price=1.0, transmit=False)
        s.low = s.sell(size=1, exectype=KIND.Stop, price=0.9, parent=s.parent, transmit=False)

    def finish(s: Scripted) -> None:
        seen.append(len(rig.venue.arrived))
        s.high = s.sell(size=1, exectype=KIND.Limit, price=2.0, parent=s.parent)

    ran = rig.run({5: begin, 8: finish})
    assert seen == [0]
    parent, stop, limit = sent(rig)
    assert rig.venue.arrived == [id_of(o) for o in (ran.parent, ran.low, ran.high)]
    assert (parent.parent, stop.parent, limit.parent) == (
        "",
        parent.client_order_id,
        parent.client_order_id,
    )
    assert ran.statuses(ran.low) == ["Submitted", "Accepted"]


def test_children_of_a_parent_that_was_refused_never_leave() -> None:
    rig = Rig()

    async def refuse(order: Order) -> None:
        if not order.parent:
            raise OrderRejected("not today")

    rig.venue.on_create = refuse
    orders: list[bt.Order] = []
    ran = rig.run(
        {
            5: lambda s: orders.extend(
                s.buy_bracket(size=1, price=1.0, stopprice=0.9, limitprice=2.0)
            )
        }
    )
    assert len(rig.venue.arrived) == 1
    assert [o.getstatusname() for o in orders] == ["Rejected"] * 3
    assert "not today" in orders[0].info.reason
    assert "its parent" in orders[1].info.reason
    assert ran.statuses(orders[2]) == ["Submitted", "Rejected"]


def test_what_waits_in_a_bracket_can_be_changed_and_canceled() -> None:
    rig = Rig()

    def act(s: Scripted) -> None:
        s.parent = s.buy(size=1, exectype=KIND.Limit, price=1.0, transmit=False)
        s.low = s.sell(size=1, exectype=KIND.Stop, price=0.9, parent=s.parent, transmit=False)
        assert s.broker.modify(s.parent, size=0.5, price=1.01)
        assert s.broker.cancel(s.low)
        s.high = s.sell(size=0.5, exectype=KIND.Limit, price=2.0, parent=s.parent)
        s.other = s.buy(size=1, exectype=KIND.Limit, price=1.0, transmit=False)
        s.child = s.sell(size=1, exectype=KIND.Limit, price=2.0, parent=s.other, transmit=False)
        assert s.broker.cancel(s.other)
        s.late = s.sell(size=1, exectype=KIND.Limit, price=2.0, parent=s.other)

    ran = rig.run({5: act})
    parent, limit = sent(rig)
    assert (parent.quantity, parent.price) == (0.5, 1.01)
    assert limit.parent == parent.client_order_id
    assert ran.statuses(ran.low) == ["Canceled"]
    assert ran.statuses(ran.other) == ran.statuses(ran.child) == ["Canceled"]
    assert ran.statuses(ran.late) == ["Rejected"]
    assert ran.late.info.reason == "its parent is canceled"


def test_a_group_is_named_by_its_first_order_and_begins_anew_when_one_has_ended() -> None:
    rig = Rig()

    def first(s: Scripted) -> None:
        far = {"exectype": KIND.Limit, "price": 0.5, "size": 1}
        s.a = s.buy(**far)
        s.b = s.buy(oco=s.a, **far)
        s.c = s.buy(oco=s.b, **far)

    def second(s: Scripted) -> None:
        far = {"exectype": KIND.Limit, "price": 0.5, "size": 1}
        s.d = s.buy(oco=s.a, **far)
        s.e = s.buy(oco=s.a, **far)

    ran = rig.run({5: first, 6: lambda s: s.cancel(s.a), 10: second})
    a, b, c, d, e = sent(rig)
    leader = id_of(ran.a)
    assert (a.oco, b.oco, c.oco) == ("", leader, leader)
    assert (d.oco, e.oco) == ("", id_of(ran.d))


@pytest.mark.parametrize("transmitted", [True, False])
def test_one_refused_order_refuses_its_whole_bracket(transmitted: bool) -> None:
    rig = Rig()

    def act(s: Scripted) -> None:
        s.parent = s.buy(size=1, exectype=KIND.Limit, price=1.0, transmit=False)
        s.low = s.sell(
            size=1, exectype=KIND.Stop, price=float("nan"), parent=s.parent, transmit=transmitted
        )

    ran = rig.run({5: act})
    assert not rig.venue.arrived
    assert ran.statuses(ran.parent) == ran.statuses(ran.low) == ["Rejected"]
    assert "its bracket was refused: a price of nan" in ran.parent.info.reason


def test_a_trailing_order_without_a_distance_is_refused() -> None:
    rig = Rig()
    orders: list[bt.Order] = []
    rig.run({5: lambda s: orders.append(s.sell(size=1, exectype=KIND.StopTrail))})
    assert not rig.venue.arrived
    assert orders[0].info.reason == "a trailing order without trailamount and trailpercent"


def test_orders_are_changed_at_the_venue_and_the_strategy_is_told() -> None:
    rig = Rig()

    def place(s: Scripted) -> None:
        s.high = s.buy(size=1, exectype=KIND.Limit, price=1.0)
        s.both = s.buy(size=1, exectype=KIND.StopLimit, price=2.0, plimit=2.1)

    def change(s: Scripted) -> None:
        assert s.broker.modify(s.high, size=2, price=1.0000049)
        assert s.broker.modify(s.both, price=2.2, plimit=2.3)
        assert not s.broker.modify(s.high, price=float("inf"))
        assert not s.broker.modify(s.high, plimit=1.0)

    ran = rig.run({5: place, 8: change, 10: lambda s: s.cancel(s.high)})
    assert set(rig.venue.modified) == {
        (id_of(ran.high), 2.0, 1.0, None),
        (id_of(ran.both), None, 2.3, 2.2),
    }
    told = [(o.getstatusname(), o.size, o.created.price) for o in ran.told if o == ran.high]
    assert ("Accepted", 2.0, 1.0) in told
    assert told[-1] == ("Canceled", 2.0, 1.0)
    assert (ran.both.created.price, ran.both.created.pricelimit) == (2.2, 2.3)


def test_a_change_that_the_venue_refuses_is_told_with_its_reason() -> None:
    rig = Rig()

    async def refuse(*args: Any) -> Order:
        raise OrderRejected("too close to the market")

    rig.venue.modify_order = refuse  # type: ignore[method-assign]

    def place(s: Scripted) -> None:
        s.order = s.buy(size=1, exectype=KIND.Limit, price=1.0)

    ran = rig.run({5: place, 8: lambda s: s.broker.modify(s.order, price=1.1)})
    assert ran.order.info.reason == "the change was refused: too close to the market"
    assert ran.statuses(ran.order) == ["Submitted", "Accepted", "Accepted"]
    assert ran.order.created.price == 1.0


def test_partial_fills_a_modified_size_and_the_end() -> None:
    rig = Rig()

    def place(s: Scripted) -> None:
        s.order = s.buy(size=1, exectype=KIND.Limit, price=1.0)

    def fill(quantity: float) -> Any:
        return lambda s: rig.do(lambda: rig.venue.trade(id_of(s.order), quantity, 1.0))

    ran = rig.run(
        {
            5: place,
            7: fill(0.3),
            9: lambda s: s.broker.modify(s.order, size=0.5),
            11: fill(0.1),
            13: fill(0.1),
        }
    )
    assert ran.statuses(ran.order) == [
        "Submitted",
        "Accepted",
        "Partial",
        "Partial",
        "Partial",
        "Completed",
    ]
    assert ran.order.executed.size == pytest.approx(0.5)
    assert ran.position.size == 0.5


@pytest.mark.parametrize(
    ("status", "reason", "told"),
    [
        (OrderStatus.CANCELED, "", "Canceled"),
        (OrderStatus.EXPIRED, "", "Expired"),
        (OrderStatus.REJECTED, "market closed", "Rejected"),
        (OrderStatus.REJECTED, "margin", "Margin"),
    ],
)
def test_the_venues_last_word_is_backtraders(status: OrderStatus, reason: str, told: str) -> None:
    rig = Rig()

    def place(s: Scripted) -> None:
        s.order = s.buy(size=1, exectype=KIND.Limit, price=1.0)

    ran = rig.run(
        {5: place, 7: lambda s: rig.do(lambda: rig.venue.end(id_of(s.order), status, reason))}
    )
    assert ran.statuses(ran.order) == ["Submitted", "Accepted", told]
    assert ran.order.info.get("reason", "") == reason
