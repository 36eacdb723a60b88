"""What trading cards do with a rig: order, wait for what becomes of it, compare the books."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from livetrader_core.errors import Unavailable
from livetrader_core.models import Fill, Order, OrderStatus, OrderType, Side
from tests.conformance import hand
from tests.conformance.hand import until
from tests.conformance.trade_rig import TradeRig

#: Two sums of money are the same if they differ by less.
CENT = 0.005

S = OrderStatus
_DOUBTFUL = (S.SUBMITTED, S.UNKNOWN)


# --------------------------------------------------------------------------- ordering


def wish(
    rig: TradeRig,
    name: str,
    side: Side,
    kind: OrderType = OrderType.MARKET,
    ticks: int | None = None,
    stop: int | None = None,
    symbol: str = "",
    quantity: float = 0.0,
    **more: Any,
) -> Order:
    """An order whose prices are ``ticks`` and ``stop`` above the first price of its symbol."""
    symbol = symbol or first(rig)
    return Order(
        name,
        symbol,
        side,
        kind,
        quantity or rig.lot,
        price=0.0 if ticks is None else rig.price(symbol, ticks),
        stop_price=0.0 if stop is None else rig.price(symbol, stop),
        **more,
    )


def first(rig: TradeRig) -> str:
    """The symbol that is mostly traded."""
    return next(iter(rig.prices))


def second(rig: TradeRig) -> str:
    """The other one."""
    return list(rig.prices)[1]


async def place(rig: TradeRig, order: Order) -> Order:
    """Place ``order``; if the server holds it, once it follows the price."""
    taken = await rig.session.create_order(order)
    if taken.held and not taken.parent:
        await followed(rig, taken.symbol)
    return taken


async def followed(rig: TradeRig, symbol: str) -> None:
    """Wait until the server follows the price: here a minute passes faster than it asks for it."""
    await until(
        lambda: rig.quotes is not None and rig.quotes.watched(symbol),
        lambda: f"the price of {symbol} is not followed",
    )


async def bought(rig: TradeRig, name: str, side: Side = Side.BUY, **more: Any) -> Order:
    """A market order, after it was filled."""
    await place(rig, wish(rig, name, side, **more))
    await rig.minutes()
    return await reaches(rig, name, S.FILLED)


async def order_of(rig: TradeRig, name: str) -> Order:
    """The order as the session has it."""
    found = await rig.session.fetch_order(name)
    assert found is not None, f"{name} is not known"
    return found


# --------------------------------------------------------------------------- waiting


def last(rig: TradeRig, name: str) -> Order | None:
    """The order as the last event about it told."""
    for event in reversed(rig.events):
        if event.order.client_order_id == name:
            return event.order
    return None


def states(rig: TradeRig, name: str) -> list[str]:
    """The states of an order that were told, without repetitions."""
    seen = [e.order.status.value for e in rig.events if e.order.client_order_id == name]
    return [one for index, one in enumerate(seen) if index == 0 or seen[index - 1] != one]


async def reaches(rig: TradeRig, name: str, *statuses: OrderStatus) -> Order:
    """Wait until events say that the order is in one of ``statuses``."""
    await until(
        lambda: (found := last(rig, name)) is not None and found.status in statuses,
        lambda: f"{name} was told to be {states(rig, name)}: {last(rig, name)}",
    )
    found = last(rig, name)
    assert found is not None
    return found


async def stays(rig: TradeRig, name: str, status: OrderStatus, held: bool | None = None) -> None:
    """The order is ``status`` once everything at the venue is known here."""
    await settled(rig)
    found = await order_of(rig, name)
    assert found.status is status, f"{name} is {found.status.value}, not {status.value}"
    if held is not None:
        assert found.held is held, found


async def ends(rig: TradeRig, name: str, *statuses: OrderStatus, minutes: int = 6) -> Order:
    """Let minutes pass until the order is in one of ``statuses``, at most ``minutes``."""
    for _ in range(minutes):
        await rig.minutes()
        await settled(rig)
        if (await order_of(rig, name)).status in statuses:
            break
    return await reaches(rig, name, *statuses)


async def settled(rig: TradeRig) -> None:
    """Let everything that has happened at the venue be known here, and what leaves be answered."""
    await eventually(rig.session.reconcile)
    deadline = asyncio.get_running_loop().time() + hand.PATIENCE
    while leaving := [o for o in await rig.session.fetch_open_orders() if o.status is S.SUBMITTED]:
        assert asyncio.get_running_loop().time() < deadline, f"not answered: {leaving}"
        await asyncio.sleep(0.005)


async def eventually(ask: Callable[[], Awaitable[Any]]) -> Any:
    """What ``ask`` gives as soon as the venue can be asked."""
    deadline = asyncio.get_running_loop().time() + hand.PATIENCE
    while True:
        try:
            return await ask()
        except Unavailable as error:
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"not after {hand.PATIENCE:g} s: {error}") from error
            await asyncio.sleep(0.02)


async def becomes(ask: Callable[[], Awaitable[Any]], right: Callable[[Any], bool]) -> Any:
    """What ``ask`` gives as soon as it is ``right``."""
    deadline = asyncio.get_running_loop().time() + hand.PATIENCE
    while not right(found := await eventually(ask)):
        assert asyncio.get_running_loop().time() < deadline, f"not right: {found}"
        await asyncio.sleep(0.02)
    return found


# --------------------------------------------------------------------------- what is right


def near(rig: TradeRig, fill: Fill | Order, ticks: int) -> None:
    """It was filled ``ticks`` above the first price, or off by the venue's spread."""
    price = fill.price if isinstance(fill, Fill) else fill.average_price
    right = rig.price(fill.symbol, ticks)
    tick = rig.contracts[fill.symbol].price_tick
    assert abs(price - right) <= (rig.spread + 0.01) * tick, f"{price} is not near {right}: {fill}"


def between(rig: TradeRig, order: Order, low: int, high: int) -> None:
    """It was filled from ``low`` to ``high`` ticks above the first price, or off by the spread."""
    tick = rig.contracts[order.symbol].price_tick
    off = (rig.spread + 0.01) * tick
    lowest, highest = rig.price(order.symbol, low) - off, rig.price(order.symbol, high) + off
    assert lowest <= order.average_price <= highest, f"not in [{lowest}, {highest}]: {order}"


def exactly(order: Order, quantity: float) -> None:
    """So much of it was filled."""
    assert abs(order.filled - quantity) < 1e-9, f"{quantity:g} were to be filled: {order}"


async def net(rig: TradeRig, symbol: str = "") -> float:
    """The position in ``symbol``."""
    symbol = symbol or first(rig)
    positions = await eventually(rig.session.fetch_positions)
    return sum(one.quantity for one in positions if one.symbol == symbol)


async def agrees(rig: TradeRig) -> None:
    """Fills, positions, cash and working orders of the session are the venue's, to the cent."""
    told: list[str] = ["nothing was compared"]
    deadline = asyncio.get_running_loop().time() + hand.PATIENCE
    while told:
        told = await eventually(lambda: _differences(rig))
        if told and asyncio.get_running_loop().time() > deadline:
            raise AssertionError("the books disagree: " + "; ".join(told))
        if told:
            await asyncio.sleep(0.02)
    once(rig)


async def _differences(rig: TradeRig) -> list[str]:
    session = rig.session
    await session.reconcile()
    books, fills = await rig.books(), await session.fetch_fills()
    traded: dict[str, float] = {}
    for fill in fills:
        traded[fill.symbol] = round(traded.get(fill.symbol, 0.0) + fill.quantity, 8)
    positions = {one.symbol: one.quantity for one in await session.fetch_positions()}
    orders = await session.fetch_open_orders()
    working = [order for order in orders if not order.held]
    [balance] = await session.fetch_balance()
    told = []
    for what, here, there in (
        ("traded", traded, books.traded),
        ("positions", positions, books.positions),
        ("orders", len(working), books.working),
        ("told fills", {f.trade_id for f in fills}, {f.trade_id for f in _told(rig)}),
    ):
        if here != there:
            told.append(f"{what}: here {here}, there {there}")
    if abs(balance.cash - books.cash) >= CENT:
        told.append(f"cash: here {balance.cash}, there {books.cash}")
    told += [f"{order.client_order_id} is {order.status.value}" for order in _doubtful(orders)]
    return told


def _doubtful(orders: list[Order]) -> list[Order]:
    return [order for order in orders if order.status in _DOUBTFUL]


def _told(rig: TradeRig) -> list[Fill]:
    return [event.fill for event in rig.events if event.fill is not None]


def once(rig: TradeRig) -> None:
    """Every event came once and in order, every fill and every end once, and fills add up."""
    for name in {event.order.client_order_id for event in rig.events}:
        seen = states(rig, name)
        assert not any(OrderStatus(state).is_final for state in seen[:-1]), f"{name}: {seen}"
    numbers = [event.seq for event in rig.events]
    assert numbers == list(range(1, len(numbers) + 1)), numbers
    fills = _told(rig)
    assert len({fill.trade_id for fill in fills}) == len(fills), "a fill was told twice"
    for name in {fill.client_order_id for fill in fills}:
        filled = sum(fill.quantity for fill in fills if fill.client_order_id == name)
        order = last(rig, name)
        assert order is not None
        exactly(order, filled)
