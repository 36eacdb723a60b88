"""A venue on a socket: it notes when an order arrives, and fills it at once.

The venue lives in the process that measures; what trades with it may live in another. Both read
the same monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from livetrader_core.errors import OutcomeUnknown
from livetrader_core.models import Balance, Fill, Order, OrderStatus, Position, Side
from livetrader_core.trade.base import TradeBase, VenueEvent
from livetrader_core.trade.events import EventReader, EventStream


class SocketVenue:
    """Takes orders as lines of JSON on a Unix socket; answers each with its fill."""

    def __init__(self, path: str) -> None:
        self.path = path
        #: When (``time.perf_counter()``) each order came, and when its fill went.
        self.arrived: dict[str, float] = {}
        self.filled: dict[str, float] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        # Who only writes leaves without having read the fills.
        with suppress(ConnectionError), connection, connection.makefile("rb") as lines:
            for line in lines:
                now = time.perf_counter()
                order = json.loads(line)
                self.arrived[order["client_order_id"]] = now
                self.filled[order["client_order_id"]] = time.perf_counter()
                connection.sendall(line)

    def close(self) -> None:
        """Wait for whoever traded to leave."""
        self._thread.join()
        self._listener.close()
        Path(self.path).unlink()


def line_of(client_order_id: str, **fields: Any) -> bytes:
    """An order as the venue reads it."""
    return json.dumps({"client_order_id": client_order_id, **fields}).encode() + b"\n"


class SocketTrade(TradeBase):
    """The adapter for :class:`SocketVenue` at ``path``."""

    markets = ("US",)
    paper = True

    def __init__(self, path: str) -> None:
        self.path = path
        self._events = EventStream()
        self._orders: dict[str, Order] = {}
        self._fills: list[Fill] = []
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Reach the venue."""
        reader, self._writer = await asyncio.open_unix_connection(self.path)
        self._reading = asyncio.get_running_loop().create_task(self._read(reader))

    async def disconnect(self) -> None:
        """Leave it."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        self._events.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self._on_fill(self._orders[json.loads(line)["client_order_id"]])

    def _on_fill(self, order: Order) -> None:
        now = time.time_ns() // 1_000_000
        done = order.but(status=OrderStatus.FILLED, filled=order.quantity, average_price=100.0)
        name = order.client_order_id
        fill = Fill(f"f-{name}", name, order.symbol, order.side, order.quantity, 100.0, 0.0, now)
        self._orders[name] = done
        self._fills.append(fill)
        self._events.put(VenueEvent(now, done, fill))

    async def create_order(self, order: Order) -> Order:
        """Write it to the socket."""
        if self._writer is None:
            raise OutcomeUnknown(f"order {order.client_order_id}: no line")
        taken = order.but(status=OrderStatus.ACCEPTED, order_id=order.client_order_id)
        self._orders[order.client_order_id] = taken
        self._writer.write(line_of(order.client_order_id, quantity=order.quantity))
        return taken

    async def cancel_order(self, client_order_id: str) -> None:
        """Everything is filled already."""

    async def fetch_order(self, client_order_id: str) -> Order | None:
        """As the venue knows it."""
        return self._orders.get(client_order_id)

    async def fetch_open_orders(self) -> list[Order]:
        """None stays open for long."""
        return [order for order in self._orders.values() if not order.status.is_final]

    async def fetch_fills(self, since: int = 0) -> list[Fill]:
        """Everything."""
        return [fill for fill in self._fills if fill.datetime >= since]

    async def fetch_positions(self) -> list[Position]:
        """The sum of the fills."""
        size = sum(fill.quantity * fill.side.sign for fill in self._fills)
        return [Position("US.A", size, 100.0)] if size else []

    async def fetch_balance(self) -> list[Balance]:
        """An account that is never short of money."""
        return [Balance("bench", "USD", 1e9, 0.0, 1e9, 1e9)]

    def watch_events(self) -> EventReader:
        """Fills."""
        return self._events.reader()


def sides(number: int) -> Side:
    """Buys and sells in turns, so that no position grows."""
    return Side.SELL if number % 2 else Side.BUY
