"""Positions and money, ours and other people's, and the switch that ends all."""

from __future__ import annotations

import pytest

from livetrader_core.errors import InvalidRequest, OrderRejected
from livetrader_core.models import Offset, OrderStatus, OrderType, Side
from tests.conformance.trade_cards import card
from tests.conformance.trade_hand import (
    agrees,
    becomes,
    between,
    bought,
    ends,
    exactly,
    first,
    near,
    net,
    place,
    reaches,
    second,
    settled,
    stays,
    wish,
)
from tests.conformance.trade_rig import TradeRig

S, T = OrderStatus, OrderType


@card("T50", course=[0, 0, 0, -30])
async def two_symbols(rig: TradeRig) -> None:
    one, other = rig.prices
    await place(rig, wish(rig, "T50-a", Side.BUY, symbol=one))
    await place(rig, wish(rig, "T50-b", Side.SELL, symbol=other))
    await place(rig, wish(rig, "T50-c", Side.BUY, T.LIMIT, ticks=-20, symbol=one))
    await place(rig, wish(rig, "T50-d", Side.BUY, T.LIMIT, ticks=-50, symbol=other))
    await rig.minutes(1)
    for name in ("T50-a", "T50-b"):
        near(rig, await reaches(rig, name, S.FILLED), 0)
    between(rig, await ends(rig, "T50-c", S.FILLED), -30, -20)
    await stays(rig, "T50-d", S.ACCEPTED)
    assert (await net(rig, one), await net(rig, other)) == (2 * rig.lot, -rig.lot)


@card("T51", course=[0, 0, 10, 10, -10])
async def turned_round(rig: TradeRig) -> None:
    steps = ((Side.BUY, 1, 1), (Side.SELL, 2, -1), (Side.BUY, 3, 2), (Side.SELL, 2, 0))
    for number, (side, lots, held) in enumerate(steps):
        await bought(rig, f"T51-{number}", side, quantity=lots * rig.lot)
        assert await net(rig) == held * rig.lot
        await agrees(rig)
    assert await rig.session.fetch_positions() == []


@card("T52")
async def today_and_yesterday(rig: TradeRig) -> None:
    for number, symbol in enumerate(rig.prices):
        await bought(rig, f"T52-{number}-old", symbol=symbol, quantity=4)
    await rig.leap(rig.next_day())
    for number, symbol in enumerate(rig.prices):
        await bought(rig, f"T52-{number}-new", symbol=symbol, quantity=3)
        await bought(rig, f"T52-{number}-out", Side.SELL, symbol=symbol, quantity=6)
        assert rig.gross(symbol) == (1.0, 0.0), "it closes, and opens nothing"
        await bought(rig, f"T52-{number}-turn", Side.SELL, symbol=symbol, quantity=3)
        assert rig.gross(symbol) == (0.0, 2.0)


@card("T53")
async def nothing_to_close(rig: TradeRig) -> None:
    for number, offset in enumerate((Offset.CLOSE, Offset.CLOSE_TODAY)):
        with pytest.raises(OrderRejected, match="close"):
            await place(rig, wish(rig, f"T53-{number}", Side.SELL, offset=offset))
    await bought(rig, "T53-open", offset=Offset.OPEN)
    await bought(rig, "T53-short", Side.SELL, offset=Offset.OPEN)
    assert rig.gross(first(rig)) == (rig.lot, rig.lot), "both sides stand side by side"
    await bought(rig, "T53-close", Side.SELL, offset=Offset.CLOSE)
    assert rig.gross(first(rig)) == (0.0, rig.lot)


@card("T54")
async def oldest_first(rig: TradeRig) -> None:
    for name, quantity in (("T54-a", 0.3), ("T54-b", 0.5)):
        await bought(rig, name, quantity=quantity)
    done = await bought(rig, "T54-c", Side.SELL, quantity=0.4)
    exactly(done, 0.4)
    assert rig.tickets(first(rig)) == [0.4], "one is gone, of the other a part"
    await bought(rig, "T54-d", Side.SELL, quantity=0.6)
    assert rig.tickets(first(rig)) == [-0.2]


@card("T55", course=[0, 25, 25, -10, -10, -35, 5, 5, 40])
async def to_the_cent(rig: TradeRig) -> None:
    for number, (side, other) in enumerate(
        [(Side.BUY, Side.SELL), (Side.SELL, Side.BUY), (Side.BUY, Side.SELL)]
    ):
        for name, symbol, way in (("a", first(rig), side), ("b", second(rig), other)):
            await bought(rig, f"T55-{number}-{name}", way, symbol=symbol, quantity=rig.part)
        await agrees(rig)
    await rig.minutes(2)
    await agrees(rig)


@card("T56")
async def killed(rig: TradeRig) -> None:
    for number, symbol in enumerate(rig.prices):
        side = (Side.BUY, Side.SELL)[number]
        await bought(rig, f"T56-{number}", side, symbol=symbol)
    await place(rig, wish(rig, "T56-limit", Side.BUY, T.LIMIT, ticks=-50))
    await place(rig, wish(rig, "T56-stop", Side.SELL, T.STOP_LIMIT, ticks=-60, stop=-55))
    state = await rig.session.kill(flatten=True, reason="T56")
    assert state.on
    for name in ("T56-limit", "T56-stop"):
        await reaches(rig, name, S.CANCELED)
    await rig.minutes(2)
    await settled(rig)
    await becomes(rig.session.fetch_positions, lambda positions: positions == [])
    await agrees(rig)
    with pytest.raises(OrderRejected, match="T56"):
        await place(rig, wish(rig, "T56-late", Side.BUY))
    await rig.session.lift()
    await bought(rig, "T56-after")


@card("T57", checked=False)
async def an_order_of_somebody_else(rig: TradeRig) -> None:
    rig.place_foreign(first(rig))
    [foreign] = await becomes(rig.session.venue_orders, lambda orders: len(orders) == 1)
    assert (foreign.symbol, foreign.side, foreign.type) == (first(rig), Side.BUY, T.LIMIT)
    assert await rig.session.fetch_open_orders() == []
    await bought(rig, "T57")
    with pytest.raises(InvalidRequest):
        await rig.session.cancel_order(foreign.client_order_id)
    await rig.session.kill()
    await settled(rig)
    assert (await rig.books()).working == 1
    assert len(await rig.session.venue_orders()) == 1
    assert (await rig.session.reconcile()).differences == ()


@card("T58", checked=False)
async def a_position_of_somebody_else_is_found(rig: TradeRig) -> None:
    await bought(rig, "T58")
    async with rig.down():
        rig.trade_foreign(first(rig), 2)
    told = await rig.session.reconcile()
    assert told.blocked
    assert any(first(rig) in difference for difference in told.differences), told
    with pytest.raises(OrderRejected, match="not reconciled"):
        await place(rig, wish(rig, "T58-blocked", Side.BUY))
    told = await rig.session.reconcile(accept=True)
    assert (told.blocked, told.differences) == (False, ())
    assert await net(rig) == rig.lot + 2
    await bought(rig, "T58-again")
    assert await net(rig) == 2 * rig.lot + 2


@card("T59", checked=False)
async def a_position_of_somebody_else_is_left_alone(rig: TradeRig) -> None:
    await bought(rig, "T59")
    rig.trade_foreign(first(rig), 0.2)
    async with rig.down():
        pass
    assert (await rig.session.reconcile()).differences == ()
    assert await net(rig) == rig.lot
    await bought(rig, "T59-out", Side.SELL, quantity=2 * rig.lot)
    assert await net(rig) == -rig.lot
    assert rig.tickets(first(rig)) == [0.2, -rig.lot]
