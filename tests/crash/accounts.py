"""What a server says of orders, fills and money, held against what the venues' books say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from livetrader_core.models import Fill, Order, OrderStatus, OrderType
from livetrader_core.rpc import AsyncClient
from tests.crash.script import TICKS, Action, orders_of, venue_of


@dataclass(frozen=True)
class View:
    """What a client sees of a server."""

    orders: dict[str, Order]
    fills: dict[str, Fill]
    positions: dict[str, float]
    cash: dict[str, float]


async def view_of(client: AsyncClient) -> View:
    """What ``client`` sees now."""
    orders = await client.fetch_orders()
    fills = await client.fetch_fills()
    positions = await client.fetch_positions()
    balances = await client.fetch_balance()
    by_id = {f"{venue_of(fill.symbol)}:{fill.trade_id}": fill for fill in fills}
    assert len(by_id) == len(fills), "a fill is counted twice"
    return View(
        {order.client_order_id: order for order in orders},
        by_id,
        {position.symbol: position.quantity for position in positions},
        {balance.account: balance.cash for balance in balances},
    )


def differences(books: dict[str, Any], view: View, actions: Sequence[Action]) -> list[str]:
    """What is not the same, in words; without ``actions`` any orders may have been placed."""
    found: list[str] = []
    wished = orders_of(list(actions)) if actions else view.orders
    found += [f"{name} is not accounted for" for name in wished.keys() - view.orders.keys()]
    found += [f"{name} was not ordered" for name in view.orders.keys() - wished.keys()]
    for venue, said in books.items():
        orders = [o for o in view.orders.values() if venue_of(o.symbol) == venue]
        found += _orders(venue, said, orders)
        found += _fills(venue, said, view)
    found += _filled(view)
    held = {symbol: size for said in books.values() for symbol, size in said["positions"].items()}
    if _rounded(held) != _rounded(view.positions):
        found.append(f"positions are {held} at the venues, and {view.positions} here")
    theirs = sorted(round(said["cash"], 2) for said in books.values())
    ours = sorted(round(cash, 2) for cash in view.cash.values())
    if theirs != ours:
        found.append(f"the cash is {theirs} at the venues, and {ours} here")
    return found


def _orders(venue: str, said: dict[str, Any], orders: Sequence[Order]) -> list[str]:
    found = [f"{n} came {c} times to {venue}" for n, c in said["arrived"].items() if c > 1]
    known = {order.client_order_id for order in orders}
    found += [f"{venue} knows {name}, nobody else" for name in said["arrived"].keys() - known]
    levels, waiting = _levels(said), _waiting(orders, said["working"])
    working = {*said["working"], *(n for level in levels for n in waiting.get(level, {}))}
    for level, lots in levels.items():
        there = waiting.get(level, {})
        # Of a ticket that was closed in part, its order keeps the level of what is left.
        if len(lots) < len(there) or sum(lots) > sum(there.values()) + 1e-8:
            found.append(f"{venue} has {lots} lots with the level {level}, orders: {there}")
    for order in orders:
        name, status = order.client_order_id, order.status
        if status in (OrderStatus.UNKNOWN, OrderStatus.SUBMITTED, OrderStatus.CREATED):
            found.append(f"{name} is {status.value} still")
        elif (not status.is_final and not order.held) != (name in working):
            found.append(f"{name} is {status.value}, at {venue} it works: {name in working}")
        elif order.type is OrderType.MARKET and not status.is_final:
            found.append(f"{name} waits for a price")
        elif status is OrderStatus.REJECTED and order.filled:
            found.append(f"{name} is rejected with {order.filled:g} filled")
    return found


#: Orders that wait at a price; of a stop-limit the limit does.
_WAITING = (OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT)
#: A symbol, and a price in its ticks.
Level = tuple[str, int]


def _levels(said: dict[str, Any]) -> dict[Level, list[float]]:
    """The lots of each ticket with a level, by level."""
    found: dict[Level, list[float]] = {}
    for symbol, level, lots in said.get("levels", []):
        found.setdefault((symbol, _tick(symbol, level)), []).append(lots)
    return found


def _waiting(orders: Sequence[Order], pending: Sequence[str]) -> dict[Level, dict[str, float]]:
    """What is open of orders that may work as levels of positions: the lots by level and id."""
    found: dict[Level, dict[str, float]] = {}
    for order in orders:
        waits = order.type in _WAITING and not order.status.is_final
        if waits and not order.held and order.client_order_id not in pending:
            level = order.symbol, _tick(order.symbol, order.price or order.stop_price)
            found.setdefault(level, {})[order.client_order_id] = order.remaining
    return found


def _tick(symbol: str, price: float) -> int:
    return round(price / TICKS[symbol])


def _fills(venue: str, said: dict[str, Any], view: View) -> list[str]:
    ours = {k.partition(":")[2]: f for k, f in view.fills.items() if venue_of(f.symbol) == venue}
    theirs = said["fills"]
    found = [
        f"{venue}'s fill {key} is missing: {theirs[key]} of {view.orders.get(theirs[key][0])}"
        for key in theirs.keys() - ours
    ]
    found += [f"{venue} has no fill {key}: {ours[key]}" for key in ours.keys() - theirs]
    for key in theirs.keys() & ours.keys():
        name, symbol, size, price = theirs[key]
        fill = ours[key]
        same = (
            fill.symbol == symbol
            and abs(fill.side.sign * fill.quantity - size) < 1e-8
            and abs(fill.price - price) < TICKS[symbol] / 2
            and name in ("", fill.client_order_id)
        )
        if not same:
            found.append(f"{venue}'s fill {key} is {theirs[key]}, and here {fill}")
    return found


def _filled(view: View) -> list[str]:
    """Orders whose filled quantity is not that of their fills, or beyond their own."""
    total = {name: 0.0 for name, order in view.orders.items() if order.filled}
    for fill in view.fills.values():
        total[fill.client_order_id] = total.get(fill.client_order_id, 0.0) + fill.quantity
    return [
        f"{name} is filled {view.orders[name].filled:g}, its fills are {size:g}"
        for name, size in total.items()
        if abs(view.orders[name].filled - size) > 1e-8 or size > view.orders[name].quantity + 1e-8
    ]


def _rounded(sizes: dict[str, float]) -> dict[str, float]:
    return {symbol: round(size, 6) for symbol, size in sizes.items() if round(size, 6)}
