"""The orders of one terminal: what was done of each, told by comparing it with what is open now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from livetrader_core.market.specs import default_contract
from livetrader_core.models import Fill, Order, OrderStatus, OrderType, Side
from livetrader_core.trade.base import VenueEvent
from livetrader_core.trade.dwx.closing import executed
from livetrader_core.trade.dwx.guard_books import GuardBooks
from livetrader_core.trade.dwx.guards import Guard
from livetrader_core.trade.dwx.memory import Memory, Record, Step
from livetrader_core.trade.dwx.messages import Account, Trade

log = logging.getLogger(__name__)

Trades = Mapping[int, Trade]
GONE = "no longer at the terminal: deleted or expired there, or filled and closed between two looks"
#: Orders of which another step should have followed.
_UNDER_WAY = (OrderStatus.SUBMITTED, OrderStatus.PARTIALLY_FILLED)


class OrderBooks:
    """Keeps the records in ``memory`` true, and tells of every change."""

    def __init__(
        self,
        memory: Memory,
        magic: int,
        currency: str,
        symbol_of: Callable[[str], str],
        moment_of: Callable[[int], int],
        now: Callable[[], int],
        tell: Callable[[VenueEvent], None],
    ) -> None:
        self.memory = memory
        self._magic = magic
        self._currency = currency
        self._symbol_of = symbol_of
        self._moment_of = moment_of
        self._now = now
        self._tell = tell
        self._guards = GuardBooks(memory, currency, now, tell)
        #: What our own closes brought since the balance was noted.
        self._explained = 0.0

    def order(self, client_order_id: str) -> Record | None:
        """What is known of an order."""
        return self.memory.records.get(client_order_id)

    def ours(self, trade: Trade) -> bool:
        """Whether we opened ``trade``."""
        return trade.magic == self._magic

    @property
    def busy(self) -> bool:
        """Whether an order works or is in doubt."""
        return any(_unsettled(record) for record in self.memory.records.values())

    # ---- what is done

    def begin(self, order: Order, step: Step, ticket: int = 0) -> Record:
        """Write down ``step`` before it is sent."""
        record = Record(order, ticket, step)
        self.memory.write(record)
        return record

    def take(self, record: Record, trades: Trades, account: Account, asked: float = 0.0) -> Record:
        """See in ``trades`` and ``account`` whether the step of ``record`` was done."""
        step = record.step
        assert step is not None
        if not step.ticket:
            return self._take_open(record, trades)
        if step.ticket in trades:
            return self._write(Record(record.order, record.ticket))
        rest = sum(trade.lots for trade in trades.values() if trade.rest_of == step.ticket)
        return self._take_close(record, step, round(step.lots - rest, 8), account, asked)

    def _take_open(self, record: Record, trades: Trades) -> Record:
        trade = self._opened(record.order, trades)
        if trade is None:
            return self._write(Record(record.order, 0))
        return self._progress(Record(record.order, trade.ticket), trade)

    def _take_close(
        self, record: Record, step: Step, lots: float, account: Account, asked: float
    ) -> Record:
        order = record.order
        gained = round(account.balance - step.balance, 2)
        self._explained += gained
        contract = default_contract(order.symbol)
        price, commission = executed(step, lots, asked, gained, contract, self._currency)
        fill = Fill(
            f"{step.ticket}-close",
            order.client_order_id,
            order.symbol,
            order.side,
            lots,
            price,
            commission,
            self._now(),
            order_id=str(step.ticket),
        )
        return self._filled(Record(order, record.ticket), fill)

    def guard(self, order: Order, guard: Guard) -> Record:
        """Write down that ``order`` is to be a level of tickets, before it is set."""
        record = Record(order, guard=guard)
        self.memory.write(record)
        return record

    def guards(self, order: Order, guard: Guard) -> None:
        """``order`` works as a level of tickets."""
        ticket = str(guard.tickets[0].ticket)
        working = order.but(status=OrderStatus.ACCEPTED, order_id=ticket, reason="")
        self._write(Record(working, guard=guard), told=True)

    def end(self, record: Record, status: OrderStatus, reason: str) -> Record:
        """An order that ends without its last fill; told only if it was told of before."""
        ended = replace(record, order=record.order.but(status=status, reason=reason), step=None)
        return self._write(ended, told=status is not OrderStatus.REJECTED)

    # ---- what is seen

    def compare(self, trades: Trades, account: Account) -> None:
        """Bring every order up to date with what is open at the terminal."""
        for record in list(self.memory.records.values()):
            if record.step is not None:
                self._settle(self.take(record, trades, account))
            elif record.order.status in _UNDER_WAY and record.guard is None:
                self._settle(record)  # its process ended between two steps
        known = {record.ticket for record in self.memory.records.values()}
        for trade in trades.values():
            if self.ours(trade) and trade.client_order_id and trade.ticket not in known:
                self._adopt(trade)
        self.look(trades)
        before, explained = self.memory.balance, self._explained
        self._explained = 0.0
        gained = None if before is None else round(account.balance - before - explained, 2)
        self._guards.look(trades, gained)
        self.memory.note_balance(account.balance)

    def misses(self, trades: Trades) -> bool:
        """Whether a ticket with a level of ours is not open any more."""
        return self._guards.misses(trades)

    def look(self, trades: Trades) -> None:
        """See which working orders are filled or gone; what is under way is left to its step."""
        for record in list(self.memory.records.values()):
            if record.ticket and not record.order.status.is_final:
                self._look(record, trades.get(record.ticket))

    def _settle(self, record: Record) -> None:
        """What was in doubt is known now; what was not done is not done later."""
        order = record.order
        if order.status.is_final or (record.ticket and order.type is not OrderType.MARKET):
            return
        if order.filled:
            done = f"{order.filled:g} of {order.quantity:g} done"
            reason = f"stopped when the terminal did not answer: {done}"
            self.end(record, OrderStatus.CANCELED, reason)
        else:
            unsent = order.but(status=OrderStatus.UNKNOWN, reason="not seen by the terminal")
            self.memory.write(Record(unsent))

    def _adopt(self, trade: Trade) -> None:
        """A trade with our comment that is in no record: it came late, or the file was lost."""
        record = self.memory.records.get(trade.client_order_id)
        if record is None:
            record = Record(self.found(trade))
            self.memory.records[trade.client_order_id] = record
        log.warning("order %s was found at the terminal by its comment", trade.client_order_id)
        self._progress(Record(record.order, trade.ticket), trade)

    def _look(self, record: Record, trade: Trade | None) -> None:
        if trade is None:
            self.end(record, OrderStatus.CANCELED, GONE)
        else:
            self._progress(record, trade)

    def _progress(self, record: Record, trade: Trade) -> Record:
        """``trade`` is what the order opened: it waits, or is filled."""
        order = record.order.but(order_id=str(trade.ticket))
        if trade.pending:
            working = Record(order.but(status=OrderStatus.ACCEPTED, reason=""), trade.ticket)
            if working == record:
                return record
            return self._write(working, told=True)
        fill = Fill(
            f"{trade.ticket}-open",
            order.client_order_id,
            order.symbol,
            order.side,
            trade.lots,
            trade.price,
            0.0,
            self._moment_of(trade.opened),
            order_id=str(trade.ticket),
        )
        return self._filled(Record(order, trade.ticket), fill)

    def _filled(self, record: Record, fill: Fill) -> Record:
        """Count ``fill`` once."""
        if fill.trade_id in self.memory.fills:
            return self._write(record)
        order = record.order
        filled = round(order.filled + fill.quantity, 8)
        done = filled >= order.quantity - 1e-9
        after = order.but(
            status=OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED,
            filled=filled,
            average_price=(order.filled * order.average_price + fill.quantity * fill.price)
            / filled,
            reason="",
        )
        changed = Record(after, record.ticket)
        self.memory.write(changed, [fill])
        self._tell(VenueEvent(fill.datetime, after, fill))
        return changed

    def _write(self, record: Record, told: bool = False) -> Record:
        self.memory.write(record)
        if told:
            self._tell(VenueEvent(self._now(), record.order))
        return record

    def _opened(self, order: Order, trades: Trades) -> Trade | None:
        for trade in trades.values():
            if self.ours(trade) and trade.client_order_id == order.client_order_id:
                return trade
        return None

    # ---- what is not ours

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


def _unsettled(record: Record) -> bool:
    works = bool(record.ticket) or record.guard is not None
    working = works and not record.order.status.is_final
    return record.step is not None or working


def opposing(trades: Trades, name: str, side: Side, magic: int) -> list[Trade]:
    """Positions of ours that an order to ``side`` would close, the oldest first."""
    return [
        trade
        for trade in trades.values()
        if trade.name == name
        and trade.magic == magic
        and not trade.pending
        and trade.side is not side
    ]
