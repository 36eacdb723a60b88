"""What can happen to the line, the venue and this program: no order twice, no fill lost."""

from __future__ import annotations

import pytest

from livetrader_core.errors import NotConnected, OutcomeUnknown
from livetrader_core.models import Order, OrderStatus, OrderType, Side, market_of
from tests.conformance.trade_cards import card
from tests.conformance.trade_hand import (
    agrees,
    between,
    bought,
    eventually,
    exactly,
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


async def _bought_again(rig: TradeRig, name: str) -> Order:
    """A market order as soon as one can leave: ``name`` and how many were tried before."""
    tried = 0

    async def attempt() -> str:
        nonlocal tried
        tried += 1
        await place(rig, wish(rig, f"{name}-{tried}", Side.BUY))
        return f"{name}-{tried}"

    sent = await eventually(attempt)
    for number in range(1, tried):
        exactly(await reaches(rig, f"{name}-{number}", S.REJECTED), 0.0)
    return await reaches(rig, sent, S.FILLED)


@card("T40")
async def cut(rig: TradeRig) -> None:
    taken = await place(rig, wish(rig, "T40", Side.BUY, T.LIMIT, ticks=-50))
    for number in range(2):
        rig.cut()
        await settled(rig)
        await stays(rig, "T40", S.ACCEPTED)
        await _bought_again(rig, f"T40-{number}")
    assert (await order_of(rig, "T40")).order_id == taken.order_id
    await eventually(lambda: rig.session.cancel_order("T40"))
    await reaches(rig, "T40", S.CANCELED)
    assert await net(rig) == 2 * rig.lot


@card("T41", course=[0, 0, -30])
async def filled_during_an_outage(rig: TradeRig) -> None:
    await place(rig, wish(rig, "T41", Side.BUY, T.LIMIT, ticks=-20))
    await rig.minutes(1)
    async with rig.outage():
        await rig.minutes(3)
    done = await reaches(rig, "T41", S.FILLED)
    between(rig, done, -30, -20)
    await agrees(rig)
    [fill] = await rig.session.fetch_fills()
    assert fill.datetime <= rig.clock.now()


@card("T42")
async def never_arrived(rig: TradeRig) -> None:
    rig.lose_next_order()
    with pytest.raises(OutcomeUnknown, match="T42"):
        await place(rig, wish(rig, "T42", Side.BUY))
    exactly(await reaches(rig, "T42", S.REJECTED), 0.0)
    assert "unknown" in states(rig, "T42")
    await _bought_again(rig, "T42")
    assert await net(rig) == rig.lot


@card("T43")
async def answer_never_came(rig: TradeRig) -> None:
    for number, kind, end in ((1, T.MARKET, S.FILLED), (2, T.LIMIT, S.ACCEPTED)):
        name = f"T43-{number}"
        order = wish(rig, name, Side.BUY, kind, ticks=-50 if kind is T.LIMIT else None)
        rig.lose_next_answer()
        with pytest.raises(OutcomeUnknown, match=name):
            await place(rig, order)
        await reaches(rig, name, end)
        assert "unknown" in states(rig, name)
        await settled(rig)
    assert await net(rig) == rig.lot


@card("T44")
async def venue_is_away(rig: TradeRig) -> None:
    await bought(rig, "T44")
    async with rig.outage():
        with pytest.raises(NotConnected):
            await place(rig, wish(rig, "T44-away", Side.BUY))
        assert rig.service is not None
        assert rig.service.lost.keys() >= {market_of(symbol) for symbol in rig.prices}
    exactly(await reaches(rig, "T44-away", S.REJECTED), 0.0)
    await settled(rig)
    await _bought_again(rig, "T44")
    assert rig.service.lost == {}
    assert await net(rig) == 2 * rig.lot


@card("T45")
async def restart_of_everything(rig: TradeRig) -> None:
    await bought(rig, "T45")
    resting = wish(rig, "T45-limit", Side.BUY, T.LIMIT, ticks=-50)
    waiting = wish(rig, "T45-stop", Side.SELL, T.STOP_LIMIT, ticks=-60, stop=-55)
    before = [await place(rig, order) for order in (resting, waiting)]
    async with rig.down():
        await rig.leave()
        await rig.minutes(1)
        await rig.come_back()
    after = await rig.session.fetch_open_orders()
    assert [order.but(updated_at=0) for order in after] == [
        order.but(updated_at=0) for order in before
    ]
    assert await net(rig) == rig.lot
    assert (await place(rig, wish(rig, "T45", Side.BUY))).status is S.FILLED
    await agrees(rig)
    for order in before:
        await rig.session.cancel_order(order.client_order_id)
        await reaches(rig, order.client_order_id, S.CANCELED)
    await bought(rig, "T45-flat", Side.SELL)
    assert await net(rig) == 0


@card("T46", course=[0, 0, -30])
async def filled_while_nothing_ran(rig: TradeRig) -> None:
    await place(rig, wish(rig, "T46", Side.BUY, T.LIMIT, ticks=-20))
    async with rig.down():
        await rig.minutes(3)
    done = await reaches(rig, "T46", S.FILLED)
    exactly(done, rig.lot)
    between(rig, done, -30, -20)


@card("T47")
async def stopped_in_doubt(rig: TradeRig) -> None:
    for number, lose, end in (
        (1, rig.lose_next_answer, S.FILLED),
        (2, rig.lose_next_order, S.REJECTED),
    ):
        name = f"T47-{number}"
        lose()
        with pytest.raises(OutcomeUnknown):
            await place(rig, wish(rig, name, Side.BUY))
        async with rig.down():
            pass
        await reaches(rig, name, end)
    assert await net(rig) == rig.lot


@card("T48", checked=False)
async def only_the_server_knew(rig: TradeRig) -> None:
    await bought(rig, "T48")
    await place(rig, wish(rig, "T48-limit", Side.BUY, T.LIMIT, ticks=-50))
    async with rig.down():
        pass
    done = await reaches(rig, "T48-limit", S.CANCELED)
    assert "no longer" in done.reason
    assert len(await rig.session.fetch_fills()) == 1
    assert await net(rig) == 0
    await bought(rig, "T48-anew")
    assert await net(rig) == rig.lot


@card("T60")
async def no_fill_twice(rig: TradeRig) -> None:
    for number in range(2):
        await _bought_again(rig, f"T60-{number}")
        rig.cut()
        await agrees(rig)
    async with rig.down():
        pass
    await agrees(rig)
    assert len(await rig.session.fetch_fills()) == 2
