"""Orders that are canceled, changed, or sent again."""

from __future__ import annotations

import asyncio

import pytest

from livetrader_core.errors import InvalidRequest, OrderRejected
from livetrader_core.models import OrderStatus, OrderType, Side
from tests.conformance.hand import until
from tests.conformance.trade_cards import card
from tests.conformance.trade_hand import (
    between,
    bought,
    ends,
    exactly,
    last,
    net,
    order_of,
    place,
    reaches,
    settled,
    states,
    stays,
    wish,
)
from tests.conformance.trade_rig import TradeRig

S, T = OrderStatus, OrderType


@card("T26")
async def canceled_before_the_answer(rig: TradeRig) -> None:
    rig.slow(0.1)
    order = wish(rig, "T26", Side.BUY, T.LIMIT, ticks=-50)
    placing = asyncio.ensure_future(place(rig, order))
    await until(lambda: last(rig, "T26") is not None, lambda: "T26 was not told to be sent")
    await rig.session.cancel_order("T26")
    await placing
    done = await reaches(rig, "T26", S.CANCELED)
    exactly(done, 0.0)


@card("T27", course=[0, -30, 0, -30, 0, -30, 0])
async def cancel_meets_fill(rig: TradeRig) -> None:
    held = 0.0
    for number in range(3):
        name = f"T27-{number}"
        await place(rig, wish(rig, name, Side.BUY, T.LIMIT, ticks=-20))
        both = (rig.session.cancel_order(name), rig.minutes())
        canceled, _ = await asyncio.gather(
            *(both if number % 2 else reversed(both)), return_exceptions=True
        )
        assert canceled is None or isinstance(canceled, OrderRejected), canceled
        done = await ends(rig, name, S.CANCELED, S.FILLED, minutes=1)
        exactly(done, rig.lot if done.status is S.FILLED else 0.0)
        held += done.filled
        assert await net(rig) == held


@card("T28")
async def cancel_of_what_has_ended(rig: TradeRig) -> None:
    await bought(rig, "T28-filled")
    await place(rig, wish(rig, "T28-gone", Side.BUY, T.LIMIT, ticks=-50))
    await rig.session.cancel_order("T28-gone")
    await reaches(rig, "T28-gone", S.CANCELED)
    for name, told in (("T28-filled", "filled"), ("T28-gone", "canceled")):
        with pytest.raises(OrderRejected, match=told):
            await rig.session.cancel_order(name)
        assert states(rig, name)[-1] == told
    with pytest.raises(InvalidRequest, match="T28-never"):
        await rig.session.cancel_order("T28-never")


@card("T29", course=[0, 0, 0, 0, 0, -15])
async def modified_or_replaced(rig: TradeRig) -> None:
    session, half = rig.session, rig.lot / 2
    first = await place(rig, wish(rig, "T29", Side.BUY, T.LIMIT, ticks=-50))
    nearer = rig.price(first.symbol, -10)
    name = "T29"
    can = rig.trade.abilities.modify
    size = half if "quantity" in can or not can else rig.lot
    if size == rig.lot:
        with pytest.raises(InvalidRequest, match="T29"):
            await session.modify_order(name, quantity=half, price=nearer)
        changed = await session.modify_order(name, price=nearer)
        assert (changed.price, changed.quantity, changed.status) == (nearer, size, S.ACCEPTED)
    elif can:
        changed = await session.modify_order(name, quantity=size, price=nearer)
        assert (changed.price, changed.quantity, changed.status) == (nearer, size, S.ACCEPTED)
    else:
        with pytest.raises(InvalidRequest, match="T29"):
            await session.modify_order(name, quantity=half, price=nearer)
        await stays(rig, name, S.ACCEPTED)
        assert (await order_of(rig, name)).price == first.price
        await session.cancel_order(name)
        await reaches(rig, name, S.CANCELED)
        name = "T29-anew"
        await place(rig, first.but(client_order_id=name, quantity=half, price=nearer))
    if T.STOP_LIMIT not in rig.trade.abilities.types:
        await _modified_here(rig)
    await rig.minutes(2)
    await stays(rig, name, S.ACCEPTED)
    done = await ends(rig, name, S.FILLED)
    exactly(done, size)
    between(rig, done, -15, -10)


async def _modified_here(rig: TradeRig) -> None:
    """What the server holds can be changed, whatever the venue can."""
    held = await place(rig, wish(rig, "T29-held", Side.SELL, T.STOP_LIMIT, ticks=-60, stop=-50))
    assert held.held
    moved = rig.price(held.symbol, -55)
    changed = await rig.session.modify_order("T29-held", stop_price=moved)
    assert changed.stop_price == moved
    await rig.session.cancel_order("T29-held")
    await reaches(rig, "T29-held", S.CANCELED)


@card("T30")
async def one_id_is_one_order(rig: TradeRig) -> None:
    limit = wish(rig, "T30-limit", Side.BUY, T.LIMIT, ticks=-50)
    await asyncio.gather(*(place(rig, limit) for _ in range(3)))
    await bought(rig, "T30")
    market = wish(rig, "T30", Side.BUY)
    again = await place(rig, market)
    assert again.status is S.FILLED
    for other in (market.but(quantity=2 * rig.lot), market.but(side=Side.SELL)):
        with pytest.raises(InvalidRequest, match="T30"):
            await place(rig, other)
    await settled(rig)
    assert (await rig.books()).working == 1
    assert await net(rig) == rig.lot
