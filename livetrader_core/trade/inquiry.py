"""Inquiry: what became of orders is asked of the venues, and never guessed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from livetrader_core.errors import LiveTraderError, StorageError
from livetrader_core.models import Order, OrderStatus
from livetrader_core.trade.base import TradeBase
from livetrader_core.trade.ledger import OrderLedger
from livetrader_core.trade.sending import Sender

log = logging.getLogger(__name__)

#: How far a venue's clock may be behind ours when it is asked for an order's fills.
CLOCK_SKEW_MS = 3_600_000


def in_doubt(order: Order) -> bool:
    """Whether it was sent and not answered."""
    return order.status in (OrderStatus.UNKNOWN, OrderStatus.SUBMITTED)


class Inquiry:
    """Asks about orders that are not on their way any more.

    ``adapter_of`` gives the adapter of a symbol, None if nothing trades it here. That a venue never
    saw an order counts from ``settle_after()`` seconds after it was sent.
    """

    def __init__(
        self,
        ledger: OrderLedger,
        sender: Sender,
        adapter_of: Callable[[str], TradeBase | None],
        settle_after: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._sender = sender
        self._adapter_of = adapter_of
        self._settle_after = settle_after

    async def settle_open(self, which: Callable[[Order], bool]) -> None:
        """Ask about the open orders that ``which`` chooses."""
        try:
            await self.settle([order for order in self._ledger.open_orders() if which(order)])
        except StorageError as error:
            log.error("open orders could not be asked about: %s", error)

    async def settle(self, orders: Sequence[Order]) -> None:
        """Ask the venues what became of ``orders``; who cannot be asked now is asked again."""
        for order in orders:
            if order.held or order.client_order_id in self._sender:
                continue
            adapter = self._adapter_of(order.symbol)
            if adapter is None:
                log.warning("order %s: %s is not traded here", order.client_order_id, order.symbol)
                continue
            try:
                await self._ask(adapter, order)
            except Exception as error:
                self._not_told(adapter, order, error)

    def _not_told(self, adapter: TradeBase, order: Order, error: Exception) -> None:
        log.warning(
            "order %s: the venue could not be asked: %s",
            order.client_order_id,
            error,
            exc_info=not isinstance(error, LiveTraderError),
        )
        if order.status is OrderStatus.SUBMITTED:
            unknown = order.but(status=OrderStatus.UNKNOWN, reason=str(error))
            self._ledger.change(adapter, unknown)

    async def _ask(self, adapter: TradeBase, order: Order) -> None:
        client_order_id = order.client_order_id
        reported = await adapter.fetch_order(client_order_id)
        if reported is None:
            self._never_arrived(adapter, order)
            return
        for fill in await adapter.fetch_fills(max(0, order.created_at - CLOCK_SKEW_MS)):
            if fill.client_order_id == client_order_id and not self._ledger.has_fill(fill):
                known = self._ledger.find(client_order_id) or order
                partly = known.but(status=OrderStatus.PARTIALLY_FILLED)
                self._ledger.change(adapter, partly, fill, fill.datetime)
        self._ledger.change(adapter, reported)

    def _never_arrived(self, adapter: TradeBase, order: Order) -> None:
        if not in_doubt(order):
            reason = "the venue no longer has it"
            self._ledger.change(adapter, order.but(status=OrderStatus.CANCELED, reason=reason))
            return
        # Shortly after it was sent, the order may still be on its way.
        written_at = self._ledger.journal.last_written_at(order.client_order_id)
        if time.time_ns() // 1_000_000 - written_at < self._settle_after() * 1000:
            if order.status is OrderStatus.SUBMITTED:
                reason = "sent, and not seen by the venue yet"
                self._ledger.change(adapter, order.but(status=OrderStatus.UNKNOWN, reason=reason))
            return
        reason = "it never arrived at the venue"
        self._ledger.change(adapter, order.but(status=OrderStatus.REJECTED, reason=reason))
