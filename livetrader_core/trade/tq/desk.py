"""Our orders as the venue's books show them, and the events that changes of the books make."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from livetrader_core.clock import Clock
from livetrader_core.models import Contract, Fill, Order, OrderStatus, Side
from livetrader_core.trade.base import VenueEvent
from livetrader_core.trade.tq.books import Books, VenueOrder, VenueTrade
from livetrader_core.trade.tq.parts import join, read_id, refused


class Desk:
    """Keeps ``books``, and what is known of our orders beyond them."""

    def __init__(self, books: Books, contracts: Mapping[str, Contract], clock: Clock) -> None:
        self.books = books
        #: client_order_ids of orders that we asked to cancel.
        self.cancelling: set[str] = set()
        self._contracts = contracts
        self._clock = clock
        self._wished: dict[str, Order] = {}
        self._sending: set[str] = set()
        self._parts: dict[str, list[str]] = {}
        #: Ids of parts that have worked at the exchange, so that they were not refused.
        self._worked: set[str] = set()

    def begin(self, order: Order) -> None:
        """``order`` is about to be sent."""
        self._wished[order.client_order_id] = order
        self._sending.add(order.client_order_id)

    def end(self, client_order_id: str) -> None:
        """All parts that will be sent were sent."""
        self._sending.discard(client_order_id)

    def forget(self) -> None:
        """The account has ended, and its books with it."""
        self.books.orders.clear()
        self.books.trades.clear()
        self._parts.clear()

    # ---- orders

    def names(self, working: bool = False) -> list[str]:
        """client_order_ids, and ids of others' orders; ``working``: of those with live parts."""
        if not working:
            return list(self._parts)
        return [name for name in self._parts if self.alive(name)]

    def alive(self, name: str) -> list[str]:
        """Ids of the parts that are not finished."""
        parts = self._parts.get(name, ())
        return [key for key in parts if not self.books.orders[key].finished]

    def working(self) -> list[VenueOrder]:
        """All orders at the venue that are not finished."""
        return [order for order in self.books.orders.values() if not order.finished]

    def symbols(self) -> set[str]:
        """Symbols that were ordered or traded."""
        orders, trades = self.books.orders.values(), self.books.trades.values()
        return {order.symbol for order in orders} | {trade.symbol for trade in trades}

    def to_cancel(self) -> list[str]:
        """Ids of parts that still work although we asked to cancel them."""
        return [key for name in self.cancelling for key in self.alive(name)]

    def missing(self, listed: Collection[str]) -> list[VenueOrder]:
        """Working orders that are not among ``listed``."""
        return [order for order in self.working() if order.order_id not in listed]

    def order(self, name: str) -> Order | None:
        """An order by its client_order_id, or another's by its id; None if it is not there."""
        return self._order(name, None)

    def _order(self, name: str, trades: Sequence[VenueTrade] | None) -> Order | None:
        keys = self._parts.get(name)
        if not keys:
            return None
        parts = [self.books.orders[key] for key in sorted(keys)]
        if trades is None:
            trades = self.books.trades_of(keys)
        wished, sending = self._wished.get(name), name in self._sending
        return join(name, parts, trades, wished, sending, self._ended(name, parts))

    def _ended(self, name: str, parts: Sequence[VenueOrder]) -> OrderStatus | None:
        """What an order is that ended without being filled; None if it never worked."""
        left = [part for part in parts if part.left]
        if not left or not any(part.finished for part in left):
            return None
        worked = [part for part in left if part.order_id in self._worked or not refused(part)]
        if not worked:
            return None
        if name not in self.cancelling and all(self.day_is_over(part) for part in worked):
            return OrderStatus.EXPIRED
        return OrderStatus.CANCELED

    def day_is_over(self, order: VenueOrder) -> bool:
        """Whether the trading day of ``order`` has ended."""
        contract = self._contracts.get(order.symbol)
        if contract is None:
            return False
        day = contract.sessions.trading_date(order.inserted)
        return self._clock.now() >= contract.sessions.close_of(day)

    # ---- events

    def take(self, news: Books) -> Iterator[VenueEvent]:
        """Take ``news`` into the books; what has changed of our orders by it."""
        orders, trades = self.books.merge(news)
        for order in orders:
            self._note(order)
        changed = dict.fromkeys(_name(order.order_id) for order in orders)
        yield from self._fills(trades, changed)
        for name in changed:
            if (order_ := self._ours(name)) is not None:
                yield VenueEvent(self._clock.now(), order_)

    def _note(self, order: VenueOrder) -> None:
        keys = self._parts.setdefault(_name(order.order_id), [])
        if order.order_id not in keys:
            keys.append(order.order_id)
        if not order.finished and order.answered:
            self._worked.add(order.order_id)

    def _fills(
        self, trades: Sequence[VenueTrade], changed: dict[str, None]
    ) -> Iterator[VenueEvent]:
        for index, trade in enumerate(trades):
            name = _name(trade.order_id)
            later = {one.trade_id for one in trades[index + 1 :]}
            come = self.books.trades_of(self._parts.get(name, ()))
            order = self._order(name, [one for one in come if one.trade_id not in later])
            if order is None or not _is_ours(name, self._parts[name]):
                continue
            changed.setdefault(name)
            if any(one.order_id in self._parts[name] for one in trades[index + 1 :]):
                order = order.but(status=OrderStatus.PARTIALLY_FILLED, reason="")
            yield VenueEvent(trade.datetime, order, self.fill(trade))

    def _ours(self, name: str) -> Order | None:
        return self.order(name) if _is_ours(name, self._parts.get(name, ())) else None

    def fill(self, trade: VenueTrade) -> Fill:
        """``trade`` as a fill; its commission is the vendor's figure if the venue gives none."""
        commission = trade.commission
        if commission is None:
            contract = self._contracts.get(trade.symbol)
            commission = contract.commission_of(trade.volume, trade.price) if contract else 0.0
        order = self.books.orders.get(trade.order_id)
        return Fill(
            trade.trade_id,
            _name(trade.order_id),
            trade.symbol,
            Side.BUY if trade.direction == "BUY" else Side.SELL,
            float(trade.volume),
            trade.price,
            commission,
            trade.datetime,
            order_id=order.exchange_order_id if order else "",
        )


def _name(order_id: str) -> str:
    """The client_order_id behind an id of the venue; that id itself if the order is not ours."""
    part = read_id(order_id)
    return order_id if part is None else part.client_order_id


def _is_ours(name: str, order_ids: Sequence[str]) -> bool:
    return bool(order_ids) and order_ids[0] != name
