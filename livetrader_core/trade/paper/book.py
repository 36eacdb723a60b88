"""The order book of the paper venue: which orders a round of klines tries, and what comes of each.

The rules, and the order in which things happen, are those of backtrader's BackBroker as
:class:`~livetrader_bt.backtest.LiveTraderBackBroker` has it, so that paper trading and a backtest
agree on every fill and every word of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from livetrader_core.models import Contract, Fill, Kline, Order, OrderStatus, OrderType, TimeInForce
from livetrader_core.trade.paper.account import Account
from livetrader_core.trade.paper.links import Links
from livetrader_core.trade.paper.matching import Slippage, fillable, match
from livetrader_core.trade.trigger import Seen, trailed

#: Reports a change of an order at a moment (UTC ms), with the fill that it is.
Tell = Callable[[Order, int, Fill | None], None]

_TRAILING = (OrderType.TRAILING_STOP, OrderType.TRAILING_STOP_LIMIT)
_AT_ONCE = (TimeInForce.IOC, TimeInForce.FOK)


@dataclass(frozen=True)
class Bar:
    """A closed kline and the moment it closed (UTC ms)."""

    kline: Kline
    end: int


@dataclass
class Working:
    """An order in the book, and what only the venue knows of it.

    A stop-limit that was ``triggered`` stays so. One that is not ``awake`` waits for its parent. A
    close order notes the kline that it was tried on last, and its close if the session went on.
    """

    order: Order
    contract: Contract
    awake: bool = True
    triggered: bool = False
    last: Bar | None = None
    noted_close: float | None = None


@dataclass(frozen=True)
class Rules:
    """How fills are made; see :class:`~livetrader_core.trade.paper.PaperTrade`."""

    slippage: Slippage
    volume_limit: float = 0.0
    check_margin: bool = False


@dataclass(frozen=True)
class _Price:
    """A price at which an order fills, and the kline whose price it is."""

    value: float
    bar: Bar


class PaperBook:
    """Orders in the order of their arrival; fills are booked in ``account`` and told to ``tell``.

    ``trade_id`` makes the number of the next trade.
    """

    def __init__(
        self, account: Account, rules: Rules, tell: Tell, trade_id: Callable[[], str]
    ) -> None:
        self.rules = rules
        self.account = account
        self._tell = tell
        self._trade_id = trade_id
        self._orders: dict[str, Working] = {}
        self._links = Links()
        #: Orders that this round still has to try, then None, then those it has tried.
        self._round: deque[Working | None] = deque()

    def __len__(self) -> int:
        return len(self._orders)

    @property
    def working(self) -> list[Working]:
        """All orders, in the order of arrival."""
        return list(self._orders.values())

    def find(self, client_order_id: str) -> Working | None:
        """The order, if it works."""
        return self._orders.get(client_order_id)

    # ---- entry and end

    def refusal(self, order: Order, find: Callable[[str], Order | None]) -> str:
        """Why ``order`` cannot be linked as it asks; ``find`` gives orders of the past, too."""
        for name in (order.parent, order.oco):
            if name and find(name) is None:
                return f"it names {name}, which is not known here; send that one first"
        parent = find(order.parent) if order.parent else None
        if parent is not None and parent.status.is_final and not _is_filled(parent):
            return f"its parent {order.parent} is {parent.status.value}"
        return ""

    def add(self, order: Order, contract: Contract, find: Callable[[str], Order | None]) -> None:
        """Take a new order."""
        parent = find(order.parent) if order.parent else None
        # Also where the parent is filled already it wakes in the next round only.
        self._orders[order.client_order_id] = Working(order, contract, awake=parent is None)
        self._links.add(order, parent_filled=parent is not None and _is_filled(parent))

    def drop(self, order: Order) -> None:
        """Undo :meth:`add` of an order that nobody has heard of."""
        del self._orders[order.client_order_id]
        self._links.drop(order.client_order_id)

    def restore(self, working: Iterable[Working], links: Links) -> None:
        """Take what an earlier run had."""
        self._orders = {one.order.client_order_id: one for one in working}
        self._links = links

    @property
    def links(self) -> Links:
        """What links the orders."""
        return self._links

    def cancel(self, working: Working, clock: int) -> None:
        """End an order, and those that it takes with it."""
        self._end(working, OrderStatus.CANCELED, clock)
        self._end_linked(working, clock)

    def change(self, working: Working, order: Order) -> None:
        """Give a working order other terms; it keeps its place."""
        working.order = order
        self._tell(order, order.updated_at, None)

    # ---- the round

    def run(self, bars: Sequence[Bar]) -> None:
        """Try every order on the kline of its symbol and timeframe, if there is a new one."""
        by_stream = {(bar.kline.symbol, bar.kline.timeframe): bar for bar in bars}
        for name in self._links.wake():
            if name in self._orders:
                self._orders[name].awake = True
        bars_of: dict[str, Bar] = {}
        for name, working in self._orders.items():
            bar = by_stream.get((working.order.symbol, working.order.timeframe))
            if bar is not None and bar.kline.datetime >= working.order.as_of:
                bars_of[name] = bar
        self._round = deque([*(self._orders[name] for name in bars_of), None])
        while (one := self._round.popleft()) is not None:
            self._attend(one, bars_of[one.order.client_order_id])
        self._round.clear()
        self._links.forget_all_but(self._orders)

    def _attend(self, working: Working, bar: Bar) -> None:
        order = working.order
        if order.type is not OrderType.MARKET and 0 < order.expires_at < bar.end:
            self._end(working, OrderStatus.EXPIRED, bar.end)
            self._end_linked(working, bar.end)
            return
        if working.awake:
            self._try(working, bar)
        if self._works(working):
            self._round.append(working)
        elif _is_filled(working.order):
            self._bracket(working, bar.end, is_over=False)

    def _try(self, working: Working, bar: Bar) -> None:
        was_triggered = working.triggered
        price = self._price(working, bar)
        if price is not None:
            self._fill(working, price, bar.end)
        if not self._works(working):
            return
        if working.order.time_in_force in _AT_ONCE:
            self._end(working, OrderStatus.CANCELED, bar.end, "what was left of it")
            self._end_linked(working, bar.end)
        elif not was_triggered:
            self._trail(working, bar)

    def _price(self, working: Working, bar: Bar) -> _Price | None:
        if working.order.type is OrderType.CLOSE:
            return _closing_price(working, bar)
        matched = match(working.order, bar.kline, working.triggered, self.rules.slippage)
        working.triggered = matched.triggered
        return None if matched.price is None else _Price(matched.price, bar)

    def _trail(self, working: Working, bar: Bar) -> None:
        order, close = working.order, bar.kline.close
        if order.type not in _TRAILING:
            return
        moved = trailed(order, Seen(close, close, close), working.contract)
        if moved is not order:
            self.change(working, moved.but(updated_at=bar.end))

    # ---- fills

    def _fill(self, working: Working, price: _Price, clock: int) -> None:
        order, contract = working.order, working.contract
        step = contract.quantity_step
        kline = price.bar.kline
        wanted = fillable(order.remaining, kline, self.rules.volume_limit, step)
        is_whole = order.time_in_force is TimeInForce.FOK
        if is_whole and wanted < order.remaining:
            return
        if not wanted:
            return
        check_margin = self.rules.check_margin and not _is_margin_call(order)
        signed = order.side.sign * wanted
        booking = self.account.trade(contract, signed, price.value, check_margin, is_whole)
        if booking.quantity:
            self._book_fill(working, price, booking.quantity, booking.commission, clock)
            self._group(working, clock)
        if booking.refused:
            self._end(working, OrderStatus.REJECTED, clock, "margin")
            self._end_linked(working, clock)

    def _book_fill(
        self, working: Working, price: _Price, quantity: float, commission: float, clock: int
    ) -> None:
        before = working.order
        fill = Fill(
            trade_id=self._trade_id(),
            client_order_id=before.client_order_id,
            symbol=before.symbol,
            side=before.side,
            quantity=quantity,
            price=price.value,
            commission=commission,
            datetime=price.bar.end,
            kline=price.bar.kline.datetime,
            order_id=before.order_id,
        )
        filled = round(before.filled + quantity, 10)
        spent = before.filled * before.average_price + quantity * price.value
        is_done = filled >= before.quantity
        working.order = before.but(
            filled=filled,
            average_price=spent / filled,
            status=OrderStatus.FILLED if is_done else OrderStatus.PARTIALLY_FILLED,
            updated_at=clock,
        )
        if is_done:
            self._remove(working)
        self._tell(working.order, clock, fill)

    # ---- ends, and what they take with them

    def _works(self, working: Working) -> bool:
        return working.order.client_order_id in self._orders

    def _remove(self, working: Working) -> None:
        del self._orders[working.order.client_order_id]

    def _end(self, working: Working, status: OrderStatus, clock: int, reason: str = "") -> None:
        self._remove(working)
        working.order = working.order.but(status=status, reason=reason, updated_at=clock)
        self._tell(working.order, clock, None)

    def _end_linked(self, working: Working, clock: int) -> None:
        self._group(working, clock)
        self._bracket(working, clock, is_over=True)

    def _group(self, working: Working, clock: int) -> None:
        """An order of an OCO group has ended, or was filled in part: the rest is canceled."""
        names = self._links.leave_group(working.order.client_order_id)
        ended = [
            other
            for other in self._backwards()
            if other is not working and other.order.client_order_id in names
        ]
        for other in ended:
            self._take_out(other)
            self._end(other, OrderStatus.CANCELED, clock)
        for other in ended:
            self._bracket(other, clock, is_over=True)

    def _bracket(self, working: Working, clock: int, is_over: bool) -> None:
        """An order of a bracket has ended; ``is_over``: otherwise than by being filled."""
        for name in self._links.end_in_bracket(working.order.client_order_id, is_over):
            other = self._orders.get(name)
            if other is not None and other is not working:
                self._take_out(other)
                self._end(other, OrderStatus.CANCELED, clock)
                self._group(other, clock)

    def _backwards(self) -> list[Working]:
        """Orders as BackBroker looks through them for a group's: its queue from the end.

        Those that have no part in this round come last, in the order of their arrival.
        """
        here = [one for one in reversed(self._round) if one is not None]
        if not self._round:
            return list(reversed(self._orders.values()))
        names = {one.order.client_order_id for one in here}
        return here + [one for name, one in self._orders.items() if name not in names]

    def _take_out(self, working: Working) -> None:
        self._round = deque(one for one in self._round if one is not working)

    # ---- the venue's own orders

    def call_margin(self, order: Order, contract: Contract) -> None:
        """Take the venue's own order, which closes a position; nothing refuses it."""
        self._orders[order.client_order_id] = Working(order, contract)
        self._links.add(order, parent_filled=False)
        self._tell(order, order.updated_at, None)


#: What orders of the venue's own say.
MARGIN_CALL = "margin call"


def _is_margin_call(order: Order) -> bool:
    return order.reason == MARGIN_CALL


def _is_filled(order: Order) -> bool:
    return order.status is OrderStatus.FILLED


def _closing_price(working: Working, bar: Bar) -> _Price | None:
    """The close of the session that the order was made in, once that is known.

    BackBroker knows it at the kline that ends the session. If that never comes, it takes the last
    close that it noted; if it noted none, the first close after the session.
    """
    sessions = working.contract.sessions
    ends_at = sessions.close_of(sessions.trading_date(working.order.as_of))
    last, working.last = working.last, bar
    if bar.end < ends_at:
        working.noted_close = bar.kline.close
        return None
    if working.noted_close is not None and last is not None and bar.end > ends_at:
        return _Price(working.noted_close, last)
    return _Price(bar.kline.close, bar)
