"""A venue that outlives the server: it counts what arrives and forgives nothing.

It runs in a thread of its own and is reached over a Unix socket by lines of JSON. It does not know
that an order came twice: that is for the test to find.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from typing import Any

from livetrader_core.models import Fill, Order, OrderStatus, OrderType

#: The moment at which everything happens, UTC ms.
NOW = 1_767_600_000_000
CASH = 1_000_000.0


class PersistentVenue:
    """Takes orders; fills market orders in one or two parts, and keeps limit orders."""

    def __init__(self, path: str, seed: int = 0) -> None:
        self.path = path
        self.arrived: Counter[str] = Counter()
        self.orders: dict[str, Order] = {}
        self.fills: list[Fill] = []
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._ready.wait()

    # ---- what a test asks

    def position(self) -> float:
        """The net position, by its own fills."""
        return round(sum(fill.side.sign * fill.quantity for fill in self.fills), 10)

    def cash(self) -> float:
        """What is left of the money, by its own fills."""
        return CASH - sum(f.side.sign * f.quantity * f.price for f in self.fills)

    def close(self) -> None:
        """Stop."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    # ---- the socket

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        self._handlers: set[asyncio.Task[None]] = set()
        server = await asyncio.start_unix_server(self._on_client, self.path)
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for writer in list(self._writers):
            writer.close()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                if not line.endswith(b"\n"):
                    break  # whoever wrote it was killed half way
                await self._answer(writer, json.loads(line))
        except ConnectionError:
            return
        finally:
            self._writers.discard(writer)
            self._handlers.discard(task)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
        result = getattr(self, f"_{request['do']}")(*request["args"])
        if request["do"] != "create":
            self._write(writer, {"n": request["n"], "result": result})
            return
        # Before, between and after the fills, as it happens.
        steps = [lambda: self._write(writer, {"n": request["n"], "result": result})]
        steps += self._fill_steps(result["client_order_id"])
        if self._random.random() < 0.3:
            steps[0], steps[-1] = steps[-1], steps[0]
        for step in steps:
            step()
            if self._random.random() < 0.5:
                await asyncio.sleep(self._random.random() * 0.003)

    @staticmethod
    def _write(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        if not writer.is_closing():
            writer.write(json.dumps(message).encode() + b"\n")

    # ---- orders

    def _create(self, fields: dict[str, Any]) -> dict[str, Any]:
        order = Order.from_dict(fields).but(
            status=OrderStatus.ACCEPTED, order_id=f"v-{len(self.orders)}"
        )
        self.arrived[order.client_order_id] += 1
        self.orders[order.client_order_id] = order
        return order.to_dict()

    def _fill_steps(self, name: str) -> list[Any]:
        order = self.orders[name]
        if order.type is not OrderType.MARKET:
            return []
        if order.quantity < 2 or self._random.random() < 0.5:
            return [lambda: self._fill(name, order.quantity)]
        return [lambda: self._fill(name, 1.0), lambda: self._fill(name, order.quantity - 1.0)]

    def _fill(self, name: str, quantity: float) -> None:
        before = self.orders[name]
        filled = before.filled + quantity
        done = filled >= before.quantity
        price = 100.0 + len(self.fills) % 7 / 100
        fill = Fill(
            f"t-{len(self.fills)}", name, before.symbol, before.side, quantity, price, 0.0, NOW
        )
        spent = before.filled * before.average_price + quantity * price
        after = before.but(
            filled=filled,
            average_price=spent / filled,
            status=OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED,
        )
        self.fills.append(fill)
        self._tell(after, fill)

    def _tell(self, order: Order, fill: Fill | None = None) -> None:
        self.orders[order.client_order_id] = order
        message = {"order": order.to_dict(), "fill": fill.to_dict() if fill else None}
        for writer in self._writers:
            self._write(writer, message)

    def _cancel(self, name: str) -> None:
        order = self.orders.get(name)
        if order is not None and not order.status.is_final:
            self._tell(order.but(status=OrderStatus.CANCELED))

    def _order(self, name: str) -> dict[str, Any] | None:
        order = self.orders.get(name)
        return order.to_dict() if order else None

    def _open_orders(self) -> list[dict[str, Any]]:
        return [o.to_dict() for o in self.orders.values() if not o.status.is_final]

    def _all_fills(self, since: int) -> list[dict[str, Any]]:
        return [fill.to_dict() for fill in self.fills if fill.datetime >= since]

    def _money(self) -> list[float]:
        return [self.position(), self.cash()]
