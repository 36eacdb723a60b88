"""Orders of every type and time in force, and how they are filled."""

from __future__ import annotations

import pytest

from livetrader_core.errors import OrderRejected
from livetrader_core.models import OrderStatus, OrderType, Side, TimeInForce
from tests.conformance.trade_cards import card
from tests.conformance.trade_hand import (
    becomes,
    between,
    bought,
    ends,
    exactly,
    last,
    near,
    net,
    order_of,
    place,
    reaches,
    settled,
    states,
    stays,
    wish,
)
from tests.conformance.trade_rig import MINUTE_MS, TradeRig

S, T = OrderStatus, OrderType


@card("T03")
async def market(rig: TradeRig) -> None:
    for name, side, held in (("T03-buy", Side.BUY, rig.lot), ("T03-sell", Side.SELL, 0.0)):
        done = await bought(rig, name, side)
        exactly(done, rig.lot)
        near(rig, done, 0)
        assert states(rig, name)[-1] == "filled"
        assert await net(rig) == held


@card("T04", course=[0, 0, -30])
async def limit(rig: TradeRig) -> None:
    taken = await place(rig, wish(rig, "T04", Side.BUY, T.LIMIT, ticks=-20))
    assert taken.status is S.ACCEPTED
    await rig.minutes(1)
    await stays(rig, "T04", S.ACCEPTED)
    done = await ends(rig, "T04", S.FILLED)
    exactly(done, rig.lot)
    between(rig, done, -30, -20)
    assert done.average_price <= done.price


@card("T05", course=[0, 0, -5, -20])
async def stop(rig: TradeRig) -> None:
    await bought(rig, "T05-a")
    await place(rig, wish(rig, "T05-b", Side.SELL, T.STOP, stop=-10))
    await rig.minutes(1)
    await stays(rig, "T05-b", S.ACCEPTED)
    done = await ends(rig, "T05-b", S.FILLED)
    between(rig, done, -20, -10)
    assert await net(rig) == 0


@card("T06", course=[0, 0, 20, 20, 20, 8])
async def stop_limit(rig: TradeRig) -> None:
    # The stop is passed, the limit is not reached: it rests until the price comes back.
    await place(rig, wish(rig, "T06", Side.BUY, T.STOP_LIMIT, ticks=10, stop=5))
    await rig.minutes(3)
    await becomes(lambda: order_of(rig, "T06"), lambda order: not order.held)
    await rig.minutes(1)
    await stays(rig, "T06", S.ACCEPTED)
    done = await ends(rig, "T06", S.FILLED)
    between(rig, done, 0, 10)
    assert done.average_price <= done.price


@card("T07", course=[0, 0, 20, 12, 12, 5])
async def trailing(rig: TradeRig) -> None:
    await bought(rig, "T07-a")
    distance = 10 * rig.contracts[(await order_of(rig, "T07-a")).symbol].price_tick
    await place(
        rig, wish(rig, "T07-b", Side.SELL, T.TRAILING_STOP, stop=-10, trail_amount=distance)
    )
    await rig.minutes(4)
    await stays(rig, "T07-b", S.ACCEPTED)  # it stands 10 below 20, and the price is 12
    moved = await order_of(rig, "T07-b")
    assert moved.stop_price == pytest.approx(rig.price(moved.symbol, 10))
    done = await ends(rig, "T07-b", S.FILLED)
    between(rig, done, 5, 10)


@card("T12")
async def for_the_day(rig: TradeRig) -> None:
    order = wish(rig, "T12", Side.BUY, T.LIMIT, ticks=-50, time_in_force=TimeInForce.DAY)
    await place(rig, order)
    await rig.leap(rig.session_end() - MINUTE_MS)
    await stays(rig, "T12", S.ACCEPTED)
    await rig.leap(rig.session_end() + MINUTE_MS)
    await settled(rig)
    done = await reaches(rig, "T12", S.EXPIRED, S.CANCELED)
    assert done.status is S.EXPIRED, done
    exactly(done, 0.0)


@card("T13")
async def until_a_moment(rig: TradeRig) -> None:
    order = wish(rig, "T13", Side.BUY, T.LIMIT, ticks=-50, time_in_force=TimeInForce.GTD)
    await place(rig, order.but(expires_at=rig.clock.now() + 3 * MINUTE_MS))
    await rig.minutes(2)
    await stays(rig, "T13", S.ACCEPTED)
    done = await ends(rig, "T13", S.EXPIRED, S.CANCELED)
    assert done.status is S.EXPIRED, done


@card("T14", parts=True)
async def other_times_in_force(rig: TradeRig) -> None:
    claimed = rig.trade.abilities.times_in_force
    for time, filled in ((TimeInForce.IOC, rig.part), (TimeInForce.FOK, 0.0)):
        name = f"T14-{time.value}"
        crossing = wish(rig, name, Side.BUY, T.LIMIT, ticks=5, time_in_force=time)
        if time not in claimed:
            with pytest.raises(OrderRejected, match=time.value):
                await place(rig, crossing)
            continue
        # No more than a part is there: one takes it, the other wants all or nothing.
        await place(rig, crossing)
        done = await ends(rig, name, S.CANCELED, S.EXPIRED)
        exactly(done, filled)
        await place(rig, wish(rig, f"{name}-far", Side.BUY, T.LIMIT, -50, time_in_force=time))
        exactly(await ends(rig, f"{name}-far", S.CANCELED, S.EXPIRED), 0.0)


@card("T15", course=[0, 0, -30], parts=True)
async def in_parts(rig: TradeRig) -> None:
    await place(rig, wish(rig, "T15", Side.BUY, T.LIMIT, ticks=-20))
    done = await ends(rig, "T15", S.FILLED, minutes=12)
    exactly(done, rig.lot)
    fills = [event.fill for event in rig.events if event.fill is not None]
    assert len(fills) >= 4
    assert max(fill.quantity for fill in fills) == rig.part
    assert "partially_filled" in states(rig, "T15")
    between(rig, done, -30, -20)


@card("T16", course=[0, 0, -30, -30, 0], parts=True)
async def in_part_then_canceled(rig: TradeRig) -> None:
    await place(rig, wish(rig, "T16", Side.BUY, T.LIMIT, ticks=-20, quantity=20 * rig.lot))
    partly = await ends(rig, "T16", S.PARTIALLY_FILLED)
    assert 0 < partly.filled < partly.quantity
    await rig.minutes(3)  # the price has left it
    await settled(rig)
    await rig.session.cancel_order("T16")
    done = await reaches(rig, "T16", S.CANCELED)
    assert 0 < done.filled < done.quantity
    assert await net(rig) == done.filled
    found = last(rig, "T16")
    assert found is not None
    assert found.remaining == done.quantity - done.filled
