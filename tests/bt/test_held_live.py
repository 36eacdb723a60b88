"""Orders of a strategy that the venue lacks, so that the server holds them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import backtrader as bt

from livetrader_core.models import OrderType
from livetrader_core.trade.base import Abilities
from tests.bt.venue_rig import Rig, Scripted, id_of

PLAIN = Abilities(frozenset({OrderType.MARKET, OrderType.LIMIT}))


def until(s: Scripted, condition: Callable[[], Any]) -> None:
    """Let what the server does beside the replay happen, and be told."""
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
        s.cerebro._brokernotify()


def fill(rig: Rig, order: bt.Order, quantity: float, price: float) -> None:
    rig.do(lambda: rig.venue.trade(id_of(order), quantity, price))


def test_a_bracket_sleeps_wakes_and_ends_as_one() -> None:
    rig = Rig(abilities=PLAIN)

    def place(s: Scripted) -> None:
        close = s.data.close[0]
        s.parent, s.low, s.high = s.buy_bracket(
            size=1,
            exectype=bt.Order.Market,
            stopprice=close * 0.9,
            limitprice=close * 1.1,
        )

    def wake(s: Scripted) -> None:
        assert rig.venue.arrived == [id_of(s.parent)]
        fill(rig, s.parent, 1.0, s.data.close[0])
        until(s, lambda: len(rig.venue.arrived) == 2)
        fill(rig, s.high, 1.0, s.data.close[0] * 1.1)
        until(s, lambda: not s.low.alive())

    ran = rig.run({5: place, 8: wake})
    assert rig.venue.arrived == [id_of(ran.parent), id_of(ran.high)]
    assert ran.statuses(ran.parent) == ["Submitted", "Accepted", "Completed"]
    assert ran.statuses(ran.high)[-1] == "Completed"
    assert ran.statuses(ran.low) == ["Submitted", "Accepted", "Canceled"]
    assert ran.position.size == 0
    assert [trade.isclosed for trade in ran.trades] == [False, True]


def test_a_trailing_stop_is_sent_as_a_market_order_when_its_price_comes() -> None:
    rig = Rig(abilities=PLAIN)

    def place(s: Scripted) -> None:
        s.trail = s.sell(size=1, exectype=bt.Order.StopTrail, trailpercent=0.00001)
        s.first = s.trail.created.price

    ran = rig.run({5: place}, minutes=40)
    assert rig.venue.arrived == [id_of(ran.trail)]
    assert rig.venue.orders[id_of(ran.trail)].type is OrderType.MARKET
    assert ran.statuses(ran.trail) == ["Submitted", "Accepted"]


def test_a_held_order_outlives_the_run_and_is_adopted_changed_and_canceled() -> None:
    rig = Rig(abilities=PLAIN)

    def place(s: Scripted) -> None:
        s.stop_order = s.sell(size=1, exectype=bt.Order.Stop, price=0.5)

    def change(s: Scripted) -> None:
        (s.adopted,) = s.told
        assert s.broker.modify(s.adopted, price=0.6)
        until(s, lambda: len(s.told) == 2)
        s.cancel(s.adopted)
        until(s, lambda: len(s.told) == 3)

    first = rig.run({5: place})
    second = rig.run({5: change})
    assert id_of(second.adopted) == id_of(first.stop_order)
    assert second.statuses(second.adopted) == ["Accepted", "Accepted", "Canceled"]
    assert second.adopted.created.price == 0.6
    assert rig.venue.arrived == []
