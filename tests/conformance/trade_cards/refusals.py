"""Orders that cannot be: told as REJECTED, with a reason, and nothing at the venue."""

from __future__ import annotations

from contextlib import suppress

import pytest

from livetrader_core.errors import OrderRejected, UnknownSymbol
from livetrader_core.models import Order, OrderStatus, OrderType, Side, market_of
from tests.conformance.trade_cards import card
from tests.conformance.trade_hand import (
    bought,
    ends,
    exactly,
    first,
    net,
    order_of,
    place,
    stays,
    wish,
)
from tests.conformance.trade_rig import TradeRig

S, T = OrderStatus, OrderType


async def _refused(rig: TradeRig, order: Order) -> str:
    """``order`` is refused, at once and for good; returns the reason."""
    with pytest.raises(OrderRejected) as refused:
        await place(rig, order)
    assert order.client_order_id in str(refused.value)
    await stays(rig, order.client_order_id, S.REJECTED)
    found = await order_of(rig, order.client_order_id)
    exactly(found, 0.0)
    assert found.reason
    return found.reason


@card("T20")
async def between_ticks(rig: TradeRig) -> None:
    order = wish(rig, "T20", Side.BUY, T.LIMIT, ticks=-50)
    tick = rig.contracts[order.symbol].price_tick
    assert "tick" in await _refused(rig, order.but(price=order.price + 0.4 * tick))


@card("T21")
async def between_steps(rig: TradeRig) -> None:
    order = wish(rig, "T21", Side.BUY)
    step = rig.contracts[order.symbol].quantity_step
    await _refused(rig, order.but(quantity=order.quantity + 0.5 * step))
    await _refused(rig, order.but(client_order_id="T21-small", quantity=0.5 * step))


@card("T22")
async def not_enough_money(rig: TradeRig) -> None:
    order = wish(rig, "T22", Side.BUY, quantity=rig.too_many)
    with suppress(OrderRejected):
        await place(rig, order)
        await ends(rig, "T22", S.REJECTED)  # some see it only when it is to be filled
    await stays(rig, "T22", S.REJECTED)
    assert (await order_of(rig, "T22")).reason
    assert await net(rig) == 0
    await bought(rig, "T22-less")


@card("T23")
async def unknown_symbols(rig: TradeRig) -> None:
    market = market_of(first(rig))
    for number, symbol in enumerate((f"{market}.ZZZZZZ", "NOWHERE.X", f"{market}.")):
        with pytest.raises((UnknownSymbol, OrderRejected)):
            await place(rig, wish(rig, f"T23-{number}", Side.BUY).but(symbol=symbol))
        found = await rig.session.fetch_order(f"T23-{number}")
        assert found is None or found.status is S.REJECTED
    await bought(rig, "T23")


@card("T24")
async def closed_market(rig: TradeRig) -> None:
    await bought(rig, "T24-before")
    await rig.shut()
    await _refused(rig, wish(rig, "T24", Side.BUY, T.LIMIT, ticks=-20))


@card("T25")
async def the_venue_refuses(rig: TradeRig) -> None:
    for number, kind in enumerate((T.MARKET, T.LIMIT)):
        rig.refuse_next()
        ticks = -50 if kind is T.LIMIT else None
        await _refused(rig, wish(rig, f"T25-{number}", Side.BUY, kind, ticks=ticks))
    await bought(rig, "T25")
