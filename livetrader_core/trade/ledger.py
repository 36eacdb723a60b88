"""OrderLedger: the journal, and before it what could not be written yet.

Everything that happens to an order goes through here: it is written down first, and told after.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from livetrader_core.errors import StorageError
from livetrader_core.models import Fill, Order, TradeEvent, market_of
from livetrader_core.trade import plan
from livetrader_core.trade.background import background
from livetrader_core.trade.base import TradeBase, VenueEvent
from livetrader_core.trade.journal import Journal
from livetrader_core.trade.progress import combine

log = logging.getLogger(__name__)

Listener = Callable[[TradeEvent], None]


@dataclass(frozen=True)
class _Unwritten:
    """A change that the journal could not take yet."""

    clock: int
    order: Order
    fill: Fill | None


class OrderLedger:
    """Orders and fills as they are known now.

    ``retry_every``: seconds between two attempts to write what the disk refused.
    """

    def __init__(self, journal: Journal, retry_every: float) -> None:
        self.journal = journal
        self._retry_every = retry_every
        self._unwritten: deque[_Unwritten] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._listeners: list[Listener] = []

    # ---- life

    def start(self) -> None:
        """Go on writing what an earlier run left."""
        if self._unwritten:
            self._ensure_writing()

    async def stop(self) -> None:
        """Try once more to write what waits; what can't be is lost, and told to the log."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        if lost := self.write_unwritten():
            log.error("%d trade events are not in the journal: %s", len(self._unwritten), lost)

    # ---- what is known

    def find(self, client_order_id: str) -> Order | None:
        """The order as it is known; None if it is not. Raises StorageError."""
        for change in reversed(self._unwritten):
            if change.order.client_order_id == client_order_id:
                return change.order
        return self.journal.order(client_order_id)

    def open_orders(self) -> list[Order]:
        """Orders that are not final, oldest first. Raises StorageError."""
        orders = self.overlay(self.journal.open_orders())
        return [order for order in orders if not order.status.is_final]

    def linked_orders(self, client_order_id: str) -> list[Order]:
        """Orders that name this one as parent or group, or any if it is empty."""
        return self.overlay(self.journal.linked_orders(client_order_id))

    def overlay(self, orders: list[Order]) -> list[Order]:
        """``orders`` of the journal, as they are known now."""
        newer = {c.order.client_order_id: c.order for c in self._unwritten}
        return [newer.get(order.client_order_id, order) for order in orders]

    def unwritten_fills(self, since: int) -> list[Fill]:
        """Fills at or after ``since`` that the journal does not have yet."""
        return [c.fill for c in self._unwritten if c.fill and c.fill.datetime >= since]

    def has_fill(self, fill: Fill) -> bool:
        """Whether it is known, by its market and the venue's trade id."""
        key = (market_of(fill.symbol), fill.trade_id)
        waiting = (c.fill for c in self._unwritten if c.fill)
        if any((market_of(f.symbol), f.trade_id) == key for f in waiting):
            return True
        return self.journal.has_fill(fill)

    def _filled(self, client_order_id: str) -> float:
        waiting = (c.fill for c in self._unwritten if c.fill)
        unwritten = sum(f.quantity for f in waiting if f.client_order_id == client_order_id)
        return self.journal.filled(client_order_id) + unwritten

    @property
    def known_seq(self) -> int:
        """Number of the last event, with those that wait to be written."""
        return self.journal.seq + len(self._unwritten)

    # ---- what happens

    def on_event(self, adapter: TradeBase, event: VenueEvent) -> None:
        """Take what ``adapter`` tells; one bad event must not end the stream."""
        try:
            self.change(adapter, event.order, event.fill, event.clock)
        except Exception:
            log.exception("an event of %s could not be taken: %r", type(adapter).__name__, event)

    def change(
        self,
        adapter: TradeBase,
        reported: Order,
        fill: Fill | None = None,
        clock: int | None = None,
    ) -> None:
        """Journal and publish what a venue reports, if it says anything new."""
        known = self.find(reported.client_order_id)
        if fill is not None and self.has_fill(fill):
            fill = None
        filled = self._filled(reported.client_order_id) + fill.quantity if fill else 0.0
        if clock is None:
            clock = adapter.now(reported.symbol)
        reported = plan.with_own_end(known, reported, adapter, clock)
        order = combine(known, reported, fill, round(filled, 10))
        if fill is None and known is not None and _same(order, known):
            return
        self._record(_Unwritten(clock, order.but(updated_at=clock), fill))

    def write_first(self, order: Order) -> None:
        """Journal and publish ``order`` before it leaves. Raises StorageError: it must not."""
        if waiting := self.write_unwritten():
            raise StorageError(
                f"{waiting}; {len(self._unwritten)} changes wait to be written; "
                f"order {order.client_order_id} was not sent"
            ) from waiting
        try:
            event = self.journal.append(order.updated_at, order)
        except StorageError as error:
            raise StorageError(f"{error}; order {order.client_order_id} was not sent") from error
        self._publish(event)

    # ---- writing

    def _record(self, change: _Unwritten) -> None:
        behind_others = bool(self._unwritten)
        self._unwritten.append(change)
        if behind_others:
            return
        if error := self.write_unwritten():
            log.error("trade events wait to be journaled: %s", error)
            self._ensure_writing()

    def _ensure_writing(self) -> None:
        if self._writing is None:
            self._writing = background(self._keep_writing())

    def write_unwritten(self) -> StorageError | None:
        """Write what waits, in order; why it still waits, if it does."""
        while self._unwritten:
            change = self._unwritten[0]
            try:
                event = self.journal.append(change.clock, change.order, change.fill)
            except StorageError as error:
                return error
            self._unwritten.popleft()
            self._publish(event)
        return None

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(self._retry_every)
            if self.write_unwritten() is None:
                break
        self._writing = None
        log.info("the journal %s is written again", self.journal.path)

    # ---- telling

    def add_listener(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every later event; returns what removes it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _publish(self, event: TradeEvent) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:
                log.exception("a listener failed on trade event %d", event.seq)


def _same(order: Order, known: Order) -> bool:
    return order.but(updated_at=known.updated_at) == known
