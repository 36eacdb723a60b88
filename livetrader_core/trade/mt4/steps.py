"""Steps of orders: each is written down before it is sent, and its events are taken after."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace

from livetrader_core.errors import LiveTraderError, OutcomeUnknown
from livetrader_core.market.mt4.messages import Argument
from livetrader_core.trade.metatrader.memory import Record
from livetrader_core.trade.mt4.books import STEP, OrderBooks
from livetrader_core.trade.mt4.operations import Operations


class Steps:
    """``sync`` takes every event that there is, or raises Unavailable."""

    def __init__(
        self, books: OrderBooks, operations: Operations, sync: Callable[[], Awaitable[None]]
    ) -> None:
        self._books = books
        self._operations = operations
        self._sync = sync

    async def do(
        self, record: Record, method: str, operation: str, *arguments: Argument, again: bool = True
    ) -> None:
        """One step, and the events that it makes.

        ``again`` as in :meth:`Operations.do`. Raises OrderRejected, OutcomeUnknown, NotConnected.
        """
        name = f"order {record.order.client_order_id}"
        self._books.begin(replace(record, operation=operation))
        await self._operations.do(name, method, operation, *arguments, again=again)
        try:
            await self._sync()
        except LiveTraderError as error:
            raise OutcomeUnknown(f"{name}: what became of it could not be seen: {error}") from error

    async def change(self, record: Record, ticket: int, *arguments: float) -> None:
        """Change a ticket of an order that works.

        ``arguments``: price, stop-loss, take-profit, expiration (server seconds). Raises
        OrderRejected, OutcomeUnknown, NotConnected.
        """
        name = record.order.client_order_id
        await self._operations.do(
            f"change of order {name}", "modify", self.unique(name), ticket, *arguments
        )

    async def delete(self, record: Record) -> None:
        """Take a pending order away. Raises OrderRejected, OutcomeUnknown, NotConnected."""
        name = record.order.client_order_id
        await self._operations.do(
            f"cancel of order {name}", "delete", self.unique(name), record.ticket
        )

    @staticmethod
    def unique(client_order_id: str) -> str:
        """The name of a step that is never taken again."""
        return f"{client_order_id}{STEP}{secrets.token_hex(4)}"
