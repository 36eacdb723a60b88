"""How long a server takes to start on a journal of many orders and compare it with its venue."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
import time
from collections.abc import AsyncIterator

from benchmarks.harness import Limit, Row
from benchmarks.wire import folder
from livetrader_core.models import Balance, Fill, Order, OrderStatus, OrderType, Position, Side
from livetrader_core.trade import Journal, TradeService
from livetrader_core.trade.base import TradeBase, VenueEvent
from livetrader_core.trade.events import EventStream

ORDERS = 10_000
#: Every so many orders, one is still open.
_OPEN = 20
_BEGAN = 1_767_225_600_000


class StandingTrade(TradeBase):
    """A venue that has these orders and fills, and answers at once."""

    markets = ("US",)

    def __init__(self, orders: list[Order], fills: list[Fill]) -> None:
        self._orders = {order.client_order_id: order for order in orders}
        self._fills = fills
        self._events = EventStream()

    async def connect(self) -> None:
        """It is there."""

    async def disconnect(self) -> None:
        """Tell no more."""
        self._events.close()

    async def create_order(self, order: Order) -> Order:
        """Takes it."""
        return order.but(status=OrderStatus.ACCEPTED)

    async def cancel_order(self, client_order_id: str) -> None:
        """Does nothing."""

    async def fetch_order(self, client_order_id: str) -> Order | None:
        """The order."""
        return self._orders.get(client_order_id)

    async def fetch_open_orders(self) -> list[Order]:
        """Those that work."""
        return [order for order in self._orders.values() if not order.status.is_final]

    async def fetch_fills(self, since: int = 0) -> list[Fill]:
        """Executions at or after ``since``."""
        return [fill for fill in self._fills if fill.datetime >= since]

    async def fetch_positions(self) -> list[Position]:
        """What the fills add up to."""
        size = sum(fill.side.sign * fill.quantity for fill in self._fills)
        return [Position("US.A", size, 100.0)] if size else []

    async def fetch_balance(self) -> list[Balance]:
        """Nothing."""
        return []

    def watch_events(self) -> AsyncIterator[VenueEvent]:
        """Nothing happens."""
        return self._events.reader()


def restart(quick: bool) -> list[Row]:
    """From ``connect()`` to reconciled books, beside only reading the rows of the journal."""
    count, rounds = (500, 1) if quick else (ORDERS, 5)
    with folder() as path:
        file = f"{path}/journal"
        orders, fills = _write(file, count)
        bare = [_read(file) for _ in range(rounds)]
        ours = [asyncio.run(_start(file, StandingTrade(orders, fills))) for _ in range(rounds)]
    values = {"read the rows": statistics.median(bare), "ours": statistics.median(ours)}
    name = f"restart and reconcile, {count:,} orders"
    return [Row(name, "ms", values, [Limit("ours", 2000.0, "ms")])]


def _write(file: str, count: int) -> tuple[list[Order], list[Fill]]:
    """A journal of ``count`` orders, three events each, and what the venue has of them."""
    orders, fills = [], []
    journal = Journal(file)
    journal._usable().execute("PRAGMA synchronous=OFF")
    for number in range(count):
        now = _BEGAN + number * 1000
        side = Side.BUY if number % 2 else Side.SELL
        order = Order(f"o-{number}", "US.A", side, OrderType.LIMIT, 1.0, price=100.0)
        order = order.but(status=OrderStatus.SUBMITTED, created_at=now, updated_at=now)
        journal.append(now, order)
        order = order.but(status=OrderStatus.ACCEPTED, order_id=f"v-{number}")
        journal.append(now, order)
        if number % _OPEN:
            fill = Fill(f"t-{number}", f"o-{number}", "US.A", side, 1.0, 100.0, 0.0, now)
            order = order.but(status=OrderStatus.FILLED, filled=1.0, average_price=100.0)
            journal.append(now, order, fill)
            fills.append(fill)
        orders.append(order)
    journal.close()
    return orders, fills


def _read(file: str) -> float:
    """Milliseconds to read and decode all events, and no more."""
    before = time.perf_counter()
    connection = sqlite3.connect(file)
    for (body,) in connection.execute("SELECT body FROM events"):
        json.loads(body)
    connection.close()
    return (time.perf_counter() - before) * 1000


async def _start(file: str, venue: StandingTrade) -> float:
    """Milliseconds from a service that knows nothing to one that takes orders."""
    before = time.perf_counter()
    service = TradeService(venue, file)
    await service.connect()
    spent = (time.perf_counter() - before) * 1000
    differences = (await service.reconcile()).differences
    await service.stop()
    if differences:
        raise RuntimeError(f"the books differ: {differences}")
    return spent
