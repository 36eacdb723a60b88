"""The adapter for :class:`~tests.crash.venue.PersistentVenue`."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

from livetrader_core.errors import NotConnected, OutcomeUnknown, Unavailable
from livetrader_core.models import Balance, Fill, Order, Position
from livetrader_core.trade.base import TradeBase, VenueEvent
from livetrader_core.trade.events import EventReader, EventStream
from tests.crash.venue import NOW


class PersistentTrade(TradeBase):
    """Trades the market US at the venue on the socket ``path``."""

    markets = ("US",)

    def __init__(self, path: str) -> None:
        self.path = path
        self._events = EventStream()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        try:
            reader, self._writer = await asyncio.open_unix_connection(self.path)
        except OSError as error:
            raise Unavailable(f"{self.path}: {error}") from error
        self._reading = asyncio.get_running_loop().create_task(self._read(reader))

    async def disconnect(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._events.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            if "n" in message:
                answer = self._waiting.pop(message["n"], None)
                if answer is not None and not answer.done():
                    answer.set_result(message["result"])
            else:
                fill = Fill.from_dict(message["fill"]) if message["fill"] else None
                self._events.put(VenueEvent(NOW, Order.from_dict(message["order"]), fill))
        for answer in self._waiting.values():
            answer.set_exception(OutcomeUnknown("the venue hung up"))

    async def _ask(self, do: str, *args: Any) -> Any:
        if self._writer is None or self._writer.is_closing():
            raise NotConnected(f"{do}: there is no line")
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps({"n": number, "do": do, "args": args}).encode() + b"\n")
        return await answer

    async def create_order(self, order: Order) -> Order:
        answer = await self._ask("create", order.to_dict())
        return Order.from_dict(answer)

    async def cancel_order(self, client_order_id: str) -> None:
        await self._ask("cancel", client_order_id)

    async def fetch_order(self, client_order_id: str) -> Order | None:
        found = await self._ask("order", client_order_id)
        return Order.from_dict(found) if found else None

    async def fetch_open_orders(self) -> list[Order]:
        return [Order.from_dict(order) for order in await self._ask("open_orders")]

    async def fetch_fills(self, since: int = 0) -> list[Fill]:
        return [Fill.from_dict(fill) for fill in await self._ask("all_fills", since)]

    async def fetch_positions(self) -> list[Position]:
        position, _ = await self._ask("money")
        return [Position("US.A", position, 100.0)] if position else []

    async def fetch_balance(self) -> list[Balance]:
        _, cash = await self._ask("money")
        return [Balance("crash", "USD", cash, 0.0, cash, cash)]

    def watch_events(self) -> EventReader:
        return self._events.reader()

    def now(self, symbol: str) -> int:
        return NOW
