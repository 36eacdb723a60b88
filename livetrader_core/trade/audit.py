"""Audit: whether a journal holds together, told in sentences.

What must be true of any journal, whatever was traded: numbers without holes, orders that only move
forward, fills that belong to an order and add up to what it says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from livetrader_core.errors import InvalidRequest, StorageError
from livetrader_core.models import Fill, Order, OrderStatus, TradeEvent, market_of
from livetrader_core.trade.journal_copy import JournalCopy
from livetrader_core.trade.progress import STEP

#: Quantities are sums of decimal fractions.
_DUST = 1e-9


@dataclass
class Audit:
    """Takes events in order; :attr:`faults` says what is wrong with them.

    ``missing`` are fills that venues told the sum of, and that a server which died did not get to
    write: the next start asks for them.
    """

    faults: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    orders: dict[str, Order] = field(default_factory=dict)
    fills: dict[tuple[str, str], Fill] = field(default_factory=dict)
    events: int = 0
    _seq: int = 0
    _filled: dict[str, float] = field(default_factory=dict)

    def take(self, event: TradeEvent) -> None:
        """Look at the next event."""
        self.events += 1
        if event.seq != self._seq + 1:
            self._fault(event, f"follows event {self._seq}: numbers must have no hole")
        self._seq = event.seq
        if event.fill is not None:
            self._take_fill(event, event.fill)
        self._take_order(event)

    def _take_fill(self, event: TradeEvent, fill: Fill) -> None:
        key = market_of(fill.symbol), fill.trade_id
        if key in self.fills:
            self._fault(event, f"trade {fill.trade_id} of {key[0]} was booked before")
            return
        self.fills[key] = fill
        order = event.order
        if fill.client_order_id != order.client_order_id:
            self._fault(event, f"its fill belongs to order {fill.client_order_id}")
        if (fill.symbol, fill.side) != (order.symbol, order.side):
            self._fault(event, f"its fill is a {fill.side.value} of {fill.symbol}")
        if not fill.quantity > 0:
            self._fault(event, f"its fill is of {fill.quantity:g}")
        name = fill.client_order_id
        self._filled[name] = self._filled.get(name, 0.0) + fill.quantity

    def _take_order(self, event: TradeEvent) -> None:
        order, known = event.order, self.orders.get(event.order.client_order_id)
        if known is not None:
            if (known.symbol, known.side) != (order.symbol, order.side):
                self._fault(event, f"it was a {known.side.value} of {known.symbol} before")
            if order.filled < known.filled - _DUST:
                self._fault(event, f"filled falls from {known.filled:g} to {order.filled:g}")
            if known.status.is_final and order.status not in (known.status, OrderStatus.FILLED):
                self._fault(event, f"goes from {known.status.value} to {order.status.value}")
            elif STEP[order.status] < STEP[known.status] and not known.held:
                self._fault(event, f"goes back from {known.status.value} to {order.status.value}")
        if order.filled > order.quantity + _DUST:
            self._fault(event, f"{order.filled:g} filled of {order.quantity:g}")
        if order.status is OrderStatus.FILLED and order.filled < order.quantity - _DUST:
            self._fault(event, f"is filled, but {order.filled:g} of {order.quantity:g} only")
        self.orders[order.client_order_id] = order

    def end(self) -> None:
        """All events were taken: what can only be said now."""
        for name, order in self.orders.items():
            booked = self._filled.get(name, 0.0)
            if order.status.is_final and booked < order.filled - _DUST:
                self.missing.append(
                    f"order {name}: {order.filled:g} filled, but its fills add up to {booked:g}"
                )
            elif booked > order.filled + _DUST:
                self.faults.append(
                    f"order {name}: its fills add up to {booked:g}, more than the {order.filled:g} "
                    "that it says"
                )

    def _fault(self, event: TradeEvent, what: str) -> None:
        self.faults.append(f"event {event.seq}, order {event.order.client_order_id}: {what}")


def audit_events(events: Iterable[TradeEvent]) -> Audit:
    """The audit of all events of a journal."""
    audit = Audit()
    for event in events:
        audit.take(event)
    audit.end()
    return audit


def audit_file(
    copy: JournalCopy, watch: Callable[[Iterator[TradeEvent]], Iterable[TradeEvent]] = iter
) -> Audit:
    """The audit of a journal's file: its events, and what is derived from them.

    The events are taken through ``watch``, which may tell how far it is.
    """
    audit = Audit()
    try:
        audit.faults += [f"the file is damaged: {told}" for told in copy.damage()]
        for event in watch(_events(copy, audit)):
            try:
                audit.take(event)
            except (InvalidRequest, TypeError) as error:  # a field that cannot be what it is
                audit.faults.append(f"event {event.seq} makes no sense: {error}")
        audit.end()
        _compare_orders(copy, audit)
        _compare_fills(copy, audit)
    except StorageError as error:  # where SQLite itself cannot go on
        audit.faults.append(str(error))
    return audit


def _events(copy: JournalCopy, audit: Audit) -> Iterator[TradeEvent]:
    for seq, body in copy.bodies("events", "seq"):
        try:
            event = TradeEvent.from_dict(json.loads(body))
        except (ValueError, TypeError, KeyError, InvalidRequest) as error:
            audit.faults.append(f"event {seq} cannot be read: {error}")
            continue
        if event.seq != seq:
            audit.faults.append(f"event {seq} calls itself {event.seq}")
        yield replace(event, seq=seq)


def _compare_orders(copy: JournalCopy, audit: Audit) -> None:
    left = dict(audit.orders)
    for number, body in copy.bodies("orders", "number"):
        try:
            order = Order.from_dict(json.loads(body))
        except (ValueError, TypeError, KeyError, InvalidRequest) as error:
            audit.faults.append(f"row {number} of the orders cannot be read: {error}")
            continue
        last = left.pop(order.client_order_id, None)
        if last is None:
            audit.faults.append(f"order {order.client_order_id}: no event tells of it")
        elif last != order:
            audit.faults.append(f"order {order.client_order_id}: differs from its last event")
    audit.faults += [f"order {name}: told of by events, but not among the orders" for name in left]


def _compare_fills(copy: JournalCopy, audit: Audit) -> None:
    left = dict(audit.fills)
    for seq, body in copy.bodies("fills", "seq"):
        try:
            fill = Fill.from_dict(json.loads(body))
            booked = left.pop((market_of(fill.symbol), fill.trade_id), None)
        except (ValueError, TypeError, KeyError, InvalidRequest) as error:
            audit.faults.append(f"the fill of event {seq} cannot be read: {error}")
            continue
        if booked != fill:
            audit.faults.append(f"trade {fill.trade_id}: differs from its event {seq}")
    for code, trade_id in left:
        audit.faults.append(f"trade {trade_id} of {code}: told of by an event, but not booked")
