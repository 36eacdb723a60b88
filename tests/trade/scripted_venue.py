"""A venue that answers as a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from livetrader_core.models import Balance, Fill, Order, OrderStatus, OrderType, Position, Side
from livetrader_core.trade.base import TradeBase, VenueEvent
from livetrader_core.trade.events import EventReader, EventStream

NOW = 1_736_121_600_000


def order(client_order_id: str = "a-1", symbol: str = "US.A", quantity: float = 10.0) -> Order:
    return Order(client_order_id, symbol, Side.BUY, OrderType.MARKET, quantity)


class ScriptedVenue(TradeBase):
    """Takes every order, unless ``on_create`` does something else with it."""

    def __init__(self, market: str = "US") -> None:
        self.markets = (market,)
        self.on_create: Callable[[Order], Awaitable[None]] | None = None
        self.on_ask: Callable[[str], None] | None = None
        self.orders: dict[str, Order] = {}
        self.fills: list[Fill] = []
        self.arrived: list[str] = []
        self.asked: list[str] = []
        self.connected = False
        self.events = EventStream()

    async def connect(self) -> None:
        self.connected = True

    async def disconnect(self) -> None:
        self.connected = False
        self.events.close()

    async def create_order(self, order: Order) -> Order:
        self.arrived.append(order.client_order_id)
        if self.on_create is not None:
            await self.on_create(order)
        return self.take(order)

    def take(self, order: Order) -> Order:
        """The venue has the order from now on."""
        taken = order.but(order_id=f"v-{order.client_order_id}", status=OrderStatus.ACCEPTED)
        self.orders[order.client_order_id] = taken
        return taken

    def fill(self, client_order_id: str, quantity: float, trade_id: str, tell: bool = True) -> Fill:
        """Fill a part of an order at 100, and tell the readers of events unless told not to."""
        before = self.orders[client_order_id]
        filled = before.filled + quantity
        done = filled >= before.quantity
        status = OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED
        after = before.but(filled=filled, average_price=100.0, status=status)
        made = Fill(
            trade_id,
            client_order_id,
            before.symbol,
            before.side,
            quantity,
            100.0,
            0.0,
            self.now(before.symbol),
        )
        self.orders[client_order_id] = after
        self.fills.append(made)
        if tell:
            self.events.put(VenueEvent(self.now(before.symbol), after, made))
        return made

    def tell(self, order: Order, fill: Fill | None = None) -> None:
        """Give the readers of events any report."""
        self.events.put(VenueEvent(self.now(order.symbol), order, fill))

    async def told(self) -> None:
        """Everything that was told has been taken."""
        await self.events.drained()

    async def cancel_order(self, client_order_id: str) -> None:
        canceled = self.orders[client_order_id].but(status=OrderStatus.CANCELED)
        self.orders[client_order_id] = canceled
        self.tell(canceled)

    async def modify_order(
        self,
        client_order_id: str,
        quantity: float | None = None,
        price: float | None = None,
        stop_price: float | None = None,
    ) -> Order:
        before = self.orders[client_order_id]
        after = before.but(quantity=quantity or before.quantity, price=price or before.price)
        self.orders[client_order_id] = after
        self.tell(after)
        return after

    async def fetch_order(self, client_order_id: str) -> Order | None:
        self.asked.append(client_order_id)
        if self.on_ask is not None:
            self.on_ask(client_order_id)
        return self.orders.get(client_order_id)

    async def fetch_open_orders(self) -> list[Order]:
        return [order for order in self.orders.values() if not order.status.is_final]

    async def fetch_fills(self, since: int = 0) -> list[Fill]:
        return [fill for fill in self.fills if fill.datetime >= since]

    async def fetch_positions(self) -> list[Position]:
        sizes: dict[str, float] = {}
        for fill in self.fills:
            signed = fill.side.sign * fill.quantity
            sizes[fill.symbol] = sizes.get(fill.symbol, 0.0) + signed
        return [Position(symbol, size, 100.0) for symbol, size in sizes.items() if size]

    async def fetch_balance(self) -> list[Balance]:
        return []

    def watch_events(self) -> EventReader:
        return self.events.reader()

    def now(self, symbol: str) -> int:
        return NOW


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for ``condition``; fails when it does not come true in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)
