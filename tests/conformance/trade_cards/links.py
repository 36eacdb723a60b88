"""Orders that depend on each other: OCO groups and brackets, minded by the venue or the server."""

from __future__ import annotations

from livetrader_core.models import Order, OrderStatus, OrderType, Side
from tests.conformance.trade_cards import card
from tests.conformance.trade_hand import (
    between,
    bought,
    ends,
    followed,
    net,
    order_of,
    place,
    reaches,
    stays,
    wish,
)
from tests.conformance.trade_rig import TradeRig

S, T = OrderStatus, OrderType


@card("T08", course=[0, 0, 0, 0, 20])
async def one_cancels_the_other(rig: TradeRig) -> None:
    await bought(rig, "T08")
    await place(rig, wish(rig, "T08-gain", Side.SELL, T.LIMIT, ticks=15))
    await place(rig, wish(rig, "T08-loss", Side.SELL, T.STOP, stop=-15, oco="T08-gain"))
    await rig.minutes(1)
    for name in ("T08-gain", "T08-loss"):
        await stays(rig, name, S.ACCEPTED)
    between(rig, await ends(rig, "T08-gain", S.FILLED), 15, 20)
    await reaches(rig, "T08-loss", S.CANCELED)
    assert await net(rig) == 0


async def _bracket(rig: TradeRig, entry: Order) -> tuple[str, str, str]:
    """A bracket around ``entry``: its name, that of the gain and that of the loss."""
    name = entry.client_order_id
    gain = wish(rig, f"{name}-gain", Side.SELL, T.LIMIT, ticks=15, parent=name)
    loss = wish(rig, f"{name}-loss", Side.SELL, T.STOP, stop=-15, parent=name)
    for order in (entry, loss, gain):
        await place(rig, order)
    return name, gain.client_order_id, loss.client_order_id


async def _stands(rig: TradeRig, entry: str, loss: str) -> None:
    """The entry is filled, and whoever minds the loss follows the price."""
    await reaches(rig, entry, S.FILLED)
    order = await order_of(rig, loss)
    if order.held:
        await followed(rig, order.symbol)


@card("T09", course=[0, 0, 0, 0, 20])
async def takes_the_gain(rig: TradeRig) -> None:
    entry, gain, loss = await _bracket(rig, wish(rig, "T09", Side.BUY))
    await rig.minutes(2)
    await _stands(rig, entry, loss)
    for child in (gain, loss):
        await stays(rig, child, S.ACCEPTED)
    between(rig, await ends(rig, gain, S.FILLED), 15, 20)
    await reaches(rig, loss, S.CANCELED)
    assert await net(rig) == 0


@card("T10", course=[0, 0, 0, 0, -20])
async def takes_the_loss(rig: TradeRig) -> None:
    entry, gain, loss = await _bracket(rig, wish(rig, "T10", Side.BUY))
    await rig.minutes(2)
    await _stands(rig, entry, loss)
    between(rig, await ends(rig, loss, S.FILLED), -20, -15)
    await reaches(rig, gain, S.CANCELED)
    assert await net(rig) == 0


@card("T11")
async def dies_with_its_entry(rig: TradeRig) -> None:
    entry, gain, loss = await _bracket(rig, wish(rig, "T11", Side.BUY, T.LIMIT, ticks=-50))
    await rig.minutes(1)
    for name in (entry, gain, loss):
        await stays(rig, name, S.ACCEPTED)
    await rig.session.cancel_order(entry)
    for name in (entry, gain, loss):
        await reaches(rig, name, S.CANCELED)
    assert await net(rig) == 0
