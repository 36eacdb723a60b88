"""Sender: an order leaves, once, and what the venue answers is written down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from livetrader_core.errors import (
    InvalidRequest,
    LiveTraderError,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
    TooBusy,
)
from livetrader_core.models import Order, OrderStatus
from livetrader_core.trade import plan
from livetrader_core.trade.base import TradeBase
from livetrader_core.trade.held import reason_of_leaving
from livetrader_core.trade.ledger import OrderLedger

log = logging.getLogger(__name__)

#: Errors that say that the venue could not be reached, so that it did not see the order.
_NOT_REACHED = (NotConnected, TooBusy)

#: Errors that say for certain that the order did not reach the venue.
_NOT_SENT = (OrderRejected, InvalidRequest, NotConnected, TooBusy)


class Sender:
    """Orders that are on their way. Each is in the ``ledger`` before it leaves."""

    def __init__(self, ledger: OrderLedger) -> None:
        self._ledger = ledger
        self._under_way: dict[str, asyncio.Task[Order]] = {}

    def __contains__(self, client_order_id: str) -> bool:
        return client_order_id in self._under_way

    @property
    def tasks(self) -> list[asyncio.Task[Order]]:
        """One for each order that is on its way."""
        return list(self._under_way.values())

    def wait(self, client_order_id: str) -> Awaitable[object] | None:
        """What ends when an order is no longer on its way; None if it is not."""
        sending = self._under_way.get(client_order_id)
        return None if sending is None else asyncio.wait([sending])

    def submit(self, adapter: TradeBase, order: Order) -> Order:
        """Write down that a new order leaves, or is held. Raises StorageError: it must not."""
        now = adapter.now(order.symbol)
        submitted = order.but(
            quantity=float(order.quantity),
            price=float(order.price),
            stop_price=float(order.stop_price),
            order_id="",
            status=OrderStatus.ACCEPTED if order.held else OrderStatus.SUBMITTED,
            filled=0.0,
            average_price=0.0,
            reason="",
            created_at=now,
            updated_at=now,
        )
        self._ledger.write_first(submitted)
        return submitted

    def leave(self, adapter: TradeBase, order: Order) -> None:
        """Write down that a held order leaves, and send it. Raises StorageError: it does not."""
        leaving = order.but(
            held=False,
            status=OrderStatus.SUBMITTED,
            reason=reason_of_leaving(order),
            updated_at=adapter.now(order.symbol),
        )
        self._ledger.write_first(leaving)
        self.begin(adapter, leaving, held_before=True)

    def begin(
        self, adapter: TradeBase, order: Order, held_before: bool = False
    ) -> asyncio.Task[Order]:
        """Send what was written down.

        A task of its own: whoever gives up waiting does not leave an order half sent.
        """
        work = self._send(adapter, order, held_before)
        sending = asyncio.get_running_loop().create_task(work)
        self._under_way[order.client_order_id] = sending
        sending.add_done_callback(lambda _: self._under_way.pop(order.client_order_id, None))
        sending.add_done_callback(_retrieve)
        return sending

    async def _send(self, adapter: TradeBase, order: Order, held_before: bool) -> Order:
        client_order_id = order.client_order_id
        try:
            taken = await adapter.create_order(plan.as_sent(order, adapter.abilities))
        except _NOT_SENT as error:
            if held_before and isinstance(error, _NOT_REACHED):
                log.warning("order %s is held on: %s", client_order_id, error)
                reason = reason_of_leaving(order, str(error))
                held = order.but(status=OrderStatus.ACCEPTED, held=True, reason=reason)
                self._ledger.change(adapter, held)
                return held
            self._end_unsent(adapter, order, str(error))
            raise
        except Exception as error:
            reason = str(error) or type(error).__name__
            if not isinstance(error, LiveTraderError):
                log.exception("order %s: %s", client_order_id, type(adapter).__name__)
            unknown = order.but(status=OrderStatus.UNKNOWN, reason=reason)
            self._ledger.change(adapter, unknown)
            if isinstance(error, OutcomeUnknown):
                raise
            raise OutcomeUnknown(
                f"order {client_order_id}: not known whether it reached the venue: {reason}"
            ) from error
        self._ledger.change(adapter, taken)
        return self._ledger.find(client_order_id) or taken

    def _end_unsent(self, adapter: TradeBase, order: Order, reason: str) -> None:
        self._ledger.change(adapter, order.but(status=OrderStatus.REJECTED, reason=reason))


def _retrieve(task: asyncio.Task[Order]) -> None:
    # The caller may have gone; the outcome is in the journal.
    if not task.cancelled():
        task.exception()
