"""The orders of one terminal: what became of each, told by the expert advisor's events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from livetrader_core.models import Fill, Order, OrderStatus, OrderType
from livetrader_core.trade.base import VenueEvent
from livetrader_core.trade.metatrader.fills import with_fill
from livetrader_core.trade.metatrader.guards import Guard, Guarded, level_of
from livetrader_core.trade.metatrader.memory import Memory, Record
from livetrader_core.trade.metatrader.trades import Trade
from livetrader_core.trade.mt4.messages import OrderEvent, Ticket

log = logging.getLogger(__name__)

CLOSED = "the position that it would have closed is closed"
TAKEN_AWAY = "its level was taken away at the terminal"
#: Between an order's id and the number of a step of it, in the names of operations.
STEP = "/"


@dataclass(frozen=True)
class _Change:
    record: Record
    fill: Fill | None = None


class OrderBooks:
    """Keeps the records in ``memory`` true, and tells of every change, in the order of events.

    ``symbol_of`` and ``moment_of`` make ours of the terminal's symbols and server times (ms),
    ``costs_of`` the contract's currency of the account's: of a symbol, a price and an amount.
    """

    def __init__(
        self,
        memory: Memory,
        symbol_of: Callable[[str], str],
        moment_of: Callable[[int], int],
        costs_of: Callable[[str, float, float], float],
        now: Callable[[], int],
        tell: Callable[[VenueEvent], None],
    ) -> None:
        self.memory = memory
        self._symbol_of = symbol_of
        self._moment_of = moment_of
        self._costs_of = costs_of
        self._now = now
        self._tell = tell

    def order(self, client_order_id: str) -> Record | None:
        """What is known of an order."""
        return self.memory.records.get(client_order_id)

    def has_fill_of(self, record: Record, ticket: int) -> bool:
        """Whether what the last step of ``record`` did to ``ticket`` was told."""
        opens = record.operation == record.order.client_order_id
        return f"{ticket}-{'open' if opens else 'close'}" in self.memory.fills

    @property
    def working(self) -> list[Record]:
        """The records whose orders are not over."""
        return [r for r in self.memory.records.values() if not r.order.status.is_final]

    # ---- what is done

    def begin(self, record: Record) -> Record:
        """Write down what is about to be sent."""
        self.memory.write(record)
        return record

    def end(self, record: Record, status: OrderStatus, reason: str) -> None:
        """An order that ends without its last fill; a rejection is told by an error."""
        self._write(replace(record, order=record.order.but(status=status, reason=reason)))

    def accept(self, record: Record, ticket: int) -> None:
        """``record`` works: at the terminal it is ``ticket``, or a level of that one."""
        order = record.order.but(status=OrderStatus.ACCEPTED, order_id=str(ticket), reason="")
        self._write(replace(record, order=order))

    def forget(self, record: Record) -> None:
        """``record`` never arrived, as far as the terminal tells."""
        unsent = record.order.but(status=OrderStatus.UNKNOWN, reason="not seen by the terminal")
        self.memory.write(Record(unsent))

    def _write(self, record: Record) -> None:
        self.memory.write(record)
        if record.order.status is not OrderStatus.REJECTED:
            self._tell(VenueEvent(self._now(), record.order))

    def adopt(self, ticket: Ticket) -> None:
        """An order of ours that is in no record: the file was lost."""
        trade = ticket.trade
        if trade.client_order_id in self.memory.records:
            return
        log.warning("order %s was found at the terminal by its name", trade.client_order_id)
        record = Record(self.found(trade), trade.ticket)
        changes = [_Change(record)] if trade.pending else self._opened(record, ticket)
        self._keep(changes, None)

    # ---- what is told

    def take(self, event: OrderEvent, ours: bool) -> None:
        """Take the next ``event``; one that is not ``ours`` counts as taken."""
        self._keep(self._changes(event) if ours else [], event.number)

    def see(self, event: OrderEvent) -> None:
        """Take what was found by looking, as if it had been told; its number does not count."""
        self._keep(self._changes(event), None)

    def _changes(self, event: OrderEvent) -> list[_Change]:
        handle = {
            "opened": self._on_opened,
            "filled": self._on_opened,
            "placed": self._on_placed,
            "modified": self._on_modified,
            "parted": self._on_closed,
            "closed": self._on_closed,
            "deleted": self._on_deleted,
        }[event.kind]
        return handle(event)

    def _keep(self, changes: Sequence[_Change], number: int | None) -> None:
        last = {c.record.order.client_order_id: c.record for c in changes}
        fills = [change.fill for change in changes if change.fill]
        self.memory.write_all(list(last.values()), fills, number)
        for change in changes:
            moment = change.fill.datetime if change.fill else self._now()
            self._tell(VenueEvent(moment, change.record.order, change.fill))

    def _on_opened(self, event: OrderEvent) -> list[_Change]:
        trade = event.ticket.trade
        record = self._opener(trade)
        return [] if record is None else self._opened(record, event.ticket)

    def _opener(self, trade: Trade) -> Record | None:
        name = trade.client_order_id
        if not name:
            return None
        known = self.memory.records.get(name)
        return Record(self.found(trade), trade.ticket) if known is None else known

    def _opened(self, record: Record, ticket: Ticket) -> list[_Change]:
        trade = ticket.trade
        order = record.order.but(order_id=record.order.order_id or str(trade.ticket))
        fill = Fill(
            f"{ticket.root}-open",
            order.client_order_id,
            order.symbol,
            order.side,
            trade.lots,
            trade.price,
            0.0,
            self._moment_of(trade.opened),
            order_id=str(trade.ticket),
        )
        if fill.trade_id in self.memory.fills:
            return []
        filled = replace(record, order=with_fill(order, fill), ticket=trade.ticket)
        return [_Change(filled, fill)]

    def _on_placed(self, event: OrderEvent) -> list[_Change]:
        trade = event.ticket.trade
        record = self._opener(trade)
        if record is None:
            return []
        order = record.order.but(status=OrderStatus.ACCEPTED, order_id=str(trade.ticket), reason="")
        return [_Change(replace(record, order=order, ticket=trade.ticket))]

    def _on_modified(self, event: OrderEvent) -> list[_Change]:
        trade = event.ticket.trade
        changes = []
        for record in self.working:
            if record.guard is not None:
                changes += self._levels_of(record, record.guard, trade)
            elif record.ticket == trade.ticket and trade.pending:
                changes += _repriced(record, trade.price)
        return changes

    def _levels_of(self, record: Record, guard: Guard, trade: Trade) -> list[_Change]:
        """What a changed ticket means for an order that is a level of it."""
        if trade.ticket not in [one.ticket for one in guard.tickets]:
            return []
        level = level_of(trade, guard.gain)
        if record.order.status in (OrderStatus.SUBMITTED, OrderStatus.UNKNOWN):
            return []  # whether it is set on all of its tickets is for who sent it to say
        if level:
            moved = replace(record, guard=replace(guard, level=level))
            return [] if level == guard.level else _repriced(moved, level)
        left = [one for one in guard.tickets if one.ticket != trade.ticket]
        return [self._after(record, guard.but(left), TAKEN_AWAY)]

    # ---- what is closed

    def _on_closed(self, event: OrderEvent) -> list[_Change]:
        changes: list[_Change] = []
        closer = self._closer(event)
        if event.reason == "unknown":
            changes += self._untold(event, closer)
        elif closer is not None:
            fill = self._close_fill(closer.order, event.ticket)
            if fill.trade_id not in self.memory.fills:
                changes.append(_Change(replace(closer, order=with_fill(closer.order, fill)), fill))
        now = {change.record.order.client_order_id: change.record for change in changes}
        for known in self.working:
            record = now.get(known.order.client_order_id, known)
            if record.guard is not None and not record.order.status.is_final:
                changes += self._follow(record, record.guard, event)
        return changes

    def _untold(self, event: OrderEvent, closer: Record | None) -> list[_Change]:
        """A position that is gone, and the terminal has nothing of it in its history."""
        reason = (
            f"ticket {event.ticket.trade.ticket} is closed, and the terminal does not tell at what "
            "price: show All History there, and compare the books"
        )
        log.error("%s", reason)
        if closer is None or closer.order.status.is_final:
            return []
        ended = closer.order.but(status=OrderStatus.CANCELED, reason=reason)
        return [_Change(replace(closer, order=ended))]

    def _closer(self, event: OrderEvent) -> Record | None:
        """The order that closed it: by an operation, or because it is a level of the ticket."""
        if event.by:
            return self.memory.records.get(event.by.rpartition(STEP)[0])
        if event.reason not in ("sl", "tp"):
            return None
        number, gain = event.ticket.trade.ticket, event.reason == "tp"
        for record in self.working:
            guard = record.guard
            if guard is None or guard.gain is not gain:
                continue
            if number in [one.ticket for one in guard.tickets]:
                return record
        return None

    def _close_fill(self, order: Order, ticket: Ticket) -> Fill:
        trade = ticket.trade
        return Fill(
            f"{trade.ticket}-close",
            order.client_order_id,
            order.symbol,
            order.side,
            trade.lots,
            ticket.close_price,
            self._costs_of(order.symbol, ticket.close_price, ticket.costs),
            self._moment_of(ticket.closed),
            order_id=str(trade.ticket),
        )

    def _follow(self, record: Record, guard: Guard, event: OrderEvent) -> list[_Change]:
        """The level goes with what a part leaves; without a ticket the order is over."""
        closed = event.ticket.trade
        held = [one for one in guard.tickets if one.ticket == closed.ticket]
        if not held:
            return []
        left = [one for one in guard.tickets if one.ticket != closed.ticket]
        lots = round(held[0].lots - closed.lots, 8)
        if event.rest and lots > 0:
            left.append(Guarded(event.rest, lots, held[0].price, held[0].sign))
        after = self._after(record, guard.but(left), CLOSED)
        return [] if after.record == record else [after]

    def _after(self, record: Record, guard: Guard, reason: str) -> _Change:
        order = record.order
        if not guard.tickets and not order.status.is_final:
            order = order.but(status=OrderStatus.CANCELED, reason=reason)
        return _Change(replace(record, order=order, guard=guard))

    def _on_deleted(self, event: OrderEvent) -> list[_Change]:
        number = event.ticket.trade.ticket
        for record in self.working:
            if record.guard is None and record.ticket == number:
                expired = event.reason == "expiration"
                status = OrderStatus.EXPIRED if expired else OrderStatus.CANCELED
                reason = "" if event.by or expired else "deleted at the terminal"
                order = record.order.but(status=status, reason=reason)
                return [_Change(replace(record, order=order))]
        return []

    # ---- what is not known here

    def found(self, trade: Trade) -> Order:
        """The order behind ``trade``, as far as the terminal tells."""
        stop = trade.type is OrderType.STOP
        price = 0.0 if trade.type is OrderType.MARKET else trade.price
        moment = self._moment_of(trade.opened)
        return Order(
            trade.client_order_id or f"mt4:{trade.ticket}",
            self._symbol_of(trade.name),
            trade.side,
            trade.type,
            trade.lots,
            price=0.0 if stop else price,
            stop_price=price if stop else 0.0,
            order_id=str(trade.ticket),
            status=OrderStatus.ACCEPTED,
            created_at=moment,
            updated_at=moment,
        )


def _repriced(record: Record, price: float) -> list[_Change]:
    order = record.order
    field = "stop_price" if order.type is OrderType.STOP else "price"
    if getattr(order, field) == price:
        return []
    changed = order.but(stop_price=price) if field == "stop_price" else order.but(price=price)
    return [_Change(replace(record, order=changed))]
