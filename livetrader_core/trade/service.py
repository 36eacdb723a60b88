"""TradeService: several venues behind one face, with the journal in front of them.

An order is in the journal before it leaves, and every change of it before anybody hears of it.
What the venue did not answer is UNKNOWN until the venue says what became of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from livetrader_core.errors import (
    InvalidRequest,
    LiveTraderError,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
    UnknownSymbol,
)
from livetrader_core.models import (
    Balance,
    Fill,
    KillState,
    Order,
    OrderStatus,
    Position,
    Reconciliation,
    TradeEvent,
    market_of,
)
from livetrader_core.service import MarketService
from livetrader_core.trade import plan
from livetrader_core.trade.admission import Desk
from livetrader_core.trade.background import background
from livetrader_core.trade.base import TradeBase, VenueEvent
from livetrader_core.trade.books import Books
from livetrader_core.trade.comparing import Comparing
from livetrader_core.trade.daily import keep_counting
from livetrader_core.trade.gate import Gate
from livetrader_core.trade.held import HeldOrders
from livetrader_core.trade.inquiry import CLOCK_SKEW_MS, Inquiry, in_doubt
from livetrader_core.trade.journal import Journal
from livetrader_core.trade.kill import KillDesk, Killing, KillSwitch
from livetrader_core.trade.ledger import Listener, OrderLedger
from livetrader_core.trade.lines import Lines
from livetrader_core.trade.reconcile import Ledger, Reconciler
from livetrader_core.trade.request import check_id, check_number, check_order
from livetrader_core.trade.risk import RiskChecks, RiskLimits
from livetrader_core.trade.sending import Sender

log = logging.getLogger(__name__)

#: Rounds of asking the venues between two attempts to close positions.
_FLATTEN_EVERY = 10

#: What a client_order_id stands for; a repeated request must agree in it.
_WISH = (
    "symbol",
    "side",
    "type",
    "quantity",
    "price",
    "stop_price",
    "trail_amount",
    "trail_percent",
    "time_in_force",
    "offset",
    "parent",
)


class TradeService:
    """Orders, positions and accounts of one or several venues, routed by MARKET.

    ``journal`` is a Journal, or the path of one; without it the journal is in memory and does not
    outlive the service. Every ``ask_every`` seconds the venues are asked about orders whose fate
    is unknown; that a venue never saw one counts from ``settle_after`` seconds after it was sent.
    ``market`` gives prices and sessions for what a venue cannot do and the server therefore holds
    (:class:`~livetrader_core.trade.held.HeldOrders`); without it such orders are refused.

    ``risk`` limits what may leave. Books are reconciled with the venues at the start, after every
    reconnect, every ``reconcile_every`` seconds and on demand. While those of the start disagree,
    new orders are refused, unless ``require_reconciled`` is off.

    The trading methods are those of :class:`~livetrader_core.session.Session`.
    """

    def __init__(
        self,
        trade: TradeBase | Sequence[TradeBase],
        journal: Journal | str | Path | None = None,
        ask_every: float = 5.0,
        settle_after: float = 3.0,
        market: MarketService | None = None,
        risk: RiskLimits | None = None,
        require_reconciled: bool = True,
        reconcile_every: float = 60.0,
    ) -> None:
        self.adapters = [trade] if isinstance(trade, TradeBase) else list(trade)
        self.ask_every = ask_every
        self.settle_after = settle_after
        self._own_journal = not isinstance(journal, Journal)
        self.journal = journal if isinstance(journal, Journal) else Journal(journal or ":memory:")
        self._route()  # two adapters for one market are an error at once
        self._ledger = OrderLedger(self.journal, min(ask_every, 1.0))
        self._sender = Sender(self._ledger)
        self._inquiry = Inquiry(
            self._ledger, self._sender, self._adapter_or_none, lambda: self.settle_after
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._connected = False
        self._held = HeldOrders(self._desk(), market, min(ask_every, 0.25), min(ask_every, 1.0))
        self._books = Books(self.journal)
        self._kill = KillSwitch(self.journal)
        self._killing = Killing(self._kill, self._kill_desk())
        self._risk = None if risk is None else RiskChecks(risk)
        self._gate = Gate(self._kill, self._risk, self._books, market, self._ledger.open_orders)
        reconciler = Reconciler(self._reconciled(), self._books, CLOCK_SKEW_MS)
        self._comparing = Comparing(self.adapters, reconciler, self._books)
        self._lines = Lines(self.adapters, self._catch_up)
        self.require_reconciled = require_reconciled
        self.reconcile_every = reconcile_every
        self._ledger.add_listener(self._books.on_event)
        self._ledger.add_listener(self._held.on_event)

    def _reconciled(self) -> Ledger:
        return Ledger(
            find=self._ledger.find,
            has_fill=self._ledger.has_fill,
            change=self._ledger.change,
            last_fill_at=self.journal.last_fill_at,
            seq=lambda: self._ledger.known_seq,
        )

    def _desk(self) -> Desk:
        return Desk(
            find=self._ledger.find,
            open_orders=self._ledger.open_orders,
            linked_orders=self._ledger.linked_orders,
            adapter=self._adapter,
            change=self._ledger.change,
            release=self._release,
            cancel=self.cancel_order,
        )

    def _kill_desk(self) -> KillDesk:
        return KillDesk(
            self.adapters,
            self._ledger.open_orders,
            self._ledger.find,
            self.cancel_order,
            self._let_out,
        )

    def _route(self) -> dict[str, TradeBase]:
        # Made anew each time: some adapters learn what they serve only later.
        routes: dict[str, TradeBase] = {}
        for adapter in self.adapters:
            for code in adapter.markets:
                if code in routes:
                    raise InvalidRequest(f"two trade adapters serve the market {code}")
                routes[code] = adapter
        return routes

    @property
    def markets(self) -> Mapping[str, TradeBase]:
        """The adapter that trades each MARKET."""
        return MappingProxyType(self._route())

    # ---- life

    async def connect(self) -> None:
        """Connect every venue and settle what an earlier run left open.

        Raises Unavailable, StorageError.
        """
        if self._connected:
            return
        self._killing.begin()
        self.journal.open()
        self._books.load()
        self._kill.load()
        try:
            await asyncio.gather(*(adapter.connect() for adapter in self.adapters))
            self._connected = True
            # Readers first: what happens while the venues are asked must not fall between.
            for adapter in self.adapters:
                self._tasks.append(background(self._follow(adapter, adapter.watch_events())))
            await self._inquiry.settle(self._ledger.open_orders())
            await self._comparing.start(self.require_reconciled)
            self._gate.start()
            self._held.start()
        except BaseException:
            await self.stop()
            raise
        self._tasks.append(background(self._keep_asking()))
        self._tasks.append(background(self._comparing.keep_on(self.reconcile_every)))
        self._tasks.append(background(self._lines.keep_on(min(self.ask_every, 1.0))))
        if self._risk is not None and self._risk.limits.max_daily_loss:
            counting = keep_counting(
                self._risk, self.journal, self.fetch_balance, self._latest, self.ask_every
            )
            self._tasks.append(background(counting))
        self._ledger.start()

    def stop(self) -> asyncio.Task[None]:
        """Disconnect; may be awaited, and called more than once.

        An order that is on its way keeps its place in the journal: the next start asks about it.
        """
        tasks: list[asyncio.Task[None] | asyncio.Task[Order]] = [
            *self._tasks,
            *self._sender.tasks,
        ]
        self._tasks, self._connected = [], False
        return asyncio.get_running_loop().create_task(self._stop(tasks))

    async def _stop(self, tasks: Sequence[asyncio.Task[None] | asyncio.Task[Order]]) -> None:
        self._gate.stop()
        await self._held.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for adapter in self.adapters:
            await adapter.disconnect()
        await self._ledger.stop()
        if self._own_journal and self.journal.path != ":memory:":
            self.journal.close()

    # ---- events

    @property
    def seq(self) -> int:
        """Number of the last trade event; 0 before the first."""
        return self.journal.seq

    def events_after(self, seq: int, limit: int | None = None) -> list[TradeEvent]:
        """Events numbered above ``seq``, the first ``limit`` of them (None: all).

        Raises StorageError.
        """
        return self.journal.events_after(seq, limit)

    def add_listener(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every later event; returns what removes it."""
        return self._ledger.add_listener(listener)

    # ---- orders

    async def create_order(self, order: Order) -> Order:
        """Place ``order``; a known client_order_id returns that order instead of a second one.

        Raises OrderRejected, OutcomeUnknown, InvalidRequest, StorageError, NotConnected. After a
        StorageError the order did not leave.
        """
        check_order(order)
        known = await self._known(order.client_order_id)
        if known is not None:
            self._check_same(order)
            return known
        adapter = self._adapter(order.symbol)
        order = order.but(held=False)
        await self._gate.learn(order.symbol)
        if plan.needs_server(order, adapter.abilities):
            order = await self._held.prepare(adapter, order)
        if (known := await self._known(order.client_order_id)) is not None:
            return known
        if not self._connected:
            raise NotConnected("the trade service is not connected; call connect() first")
        if reason := self._comparing.blocked_by(adapter) or self._gate.refusal(order):
            self._refuse(adapter, order, reason)
        return await self._let_out(adapter, order)

    async def _let_out(self, adapter: TradeBase, order: Order) -> Order:
        if plan.needs_server(order, adapter.abilities):
            order = self._held.admit(adapter, order)
        submitted = self._sender.submit(adapter, order)
        if submitted.held:
            return submitted
        sending = self._sender.begin(adapter, submitted)
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            if not sending.cancelled():
                raise
        raise OutcomeUnknown(
            f"order {order.client_order_id}: the service was stopped while it was on its way"
        )

    def _check_same(self, order: Order) -> None:
        """Raise InvalidRequest if ``order`` is not what its client_order_id stood for at first."""
        first = self.journal.first(order.client_order_id)
        if first is None:
            return
        other = [name for name in _WISH if getattr(first, name) != getattr(order, name)]
        if other:
            raise InvalidRequest(
                f"client_order_id {order.client_order_id} was used before, for an order with "
                f"another {', '.join(other)}; ids are never used twice"
            )

    def _refuse(self, adapter: TradeBase, order: Order, reason: str) -> NoReturn:
        """Journal ``order`` as rejected. Raises OrderRejected, StorageError."""
        self._end_new(adapter, order, reason)
        raise OrderRejected(f"order {order.client_order_id}: {reason}")

    def _end_new(self, adapter: TradeBase, order: Order, reason: str) -> None:
        now = adapter.now(order.symbol)
        self._ledger.write_first(
            order.but(status=OrderStatus.REJECTED, reason=reason, created_at=now, updated_at=now)
        )

    async def give_up_order(self, order: Order) -> Order:
        """For a client that does not know whether ``order`` arrived: it is not to be sent anymore.

        Returns the order if it is known; else it is journaled as rejected, so that it is refused
        should it arrive late. Raises InvalidRequest, StorageError.
        """
        check_order(order)
        known = await self._known(order.client_order_id)
        if known is None:
            self._end_new(self._adapter(order.symbol), order, "given up: it did not arrive")
            known = self._ledger.find(order.client_order_id) or order
        return known

    async def _known(self, client_order_id: str) -> Order | None:
        sending = self._sender.wait(client_order_id)
        if sending is not None:
            await sending
        return self._ledger.find(client_order_id)

    def _release(self, order: Order) -> None:
        """Send a held order, unless it ended meanwhile.

        Its risk was checked when it was taken. Raises StorageError, OrderRejected: it stays.
        """
        known = self._ledger.find(order.client_order_id)
        if known is None or known.status.is_final or not known.held:
            return
        adapter = self._adapter(order.symbol)
        if reason := self._kill.refusal or self._comparing.blocked_by(adapter):
            raise OrderRejected(reason)
        self._sender.leave(adapter, order)

    async def cancel_order(self, client_order_id: str) -> None:
        """Ask to cancel; the outcome comes as an event. Raises OrderRejected, InvalidRequest."""
        order = await self._existing(client_order_id)
        if order.held:
            self._held.cancel(order)
        else:
            await self._adapter(order.symbol).cancel_order(client_order_id)
            await _let_tell()

    async def modify_order(
        self,
        client_order_id: str,
        quantity: float | None = None,
        price: float | None = None,
        stop_price: float | None = None,
    ) -> Order:
        """Change a working order. Raises OrderRejected, InvalidRequest."""
        for name, value in (("quantity", quantity), ("price", price), ("stop_price", stop_price)):
            if value is not None:
                check_number(f"order {client_order_id}: {name}", value)
        order = await self._existing(client_order_id)
        await self._gate.learn(order.symbol)
        wish = order.but(
            quantity=order.quantity if quantity is None else quantity,
            price=order.price if price is None else price,
            stop_price=order.stop_price if stop_price is None else stop_price,
        )
        if reason := self._gate.refusal_of_change(wish):
            raise OrderRejected(f"order {client_order_id}: {reason}")
        if order.held:
            return self._held.modify(order, quantity, price, stop_price)
        adapter = self._adapter(order.symbol)
        changed = await adapter.modify_order(client_order_id, quantity, price, stop_price)
        self._ledger.change(adapter, changed)
        await _let_tell()
        return self._ledger.find(client_order_id) or changed

    async def _existing(self, client_order_id: str) -> Order:
        check_id(client_order_id)
        order = await self._known(client_order_id)
        if order is None:
            raise InvalidRequest(f"there is no order {client_order_id}")
        if order.status.is_final:
            raise OrderRejected(f"order {client_order_id} is {order.status.value} already")
        return order

    # ---- what is known

    async def fetch_order(self, client_order_id: str) -> Order | None:
        """The order as the journal has it; None if it never arrived."""
        return self._ledger.find(client_order_id)

    async def fetch_orders(self, offset: int = 0, limit: int | None = None) -> list[Order]:
        """All orders, oldest first; ``limit`` of them after ``offset``."""
        return self._ledger.overlay(await asyncio.to_thread(self.journal.orders, offset, limit))

    async def fetch_open_orders(self) -> list[Order]:
        """Orders that are not final, oldest first."""
        return self._ledger.open_orders()

    async def fetch_fills(
        self, since: int = 0, offset: int = 0, limit: int | None = None
    ) -> list[Fill]:
        """Executions at or after ``since`` (UTC ms), oldest first; ``limit`` after ``offset``."""
        found = await asyncio.to_thread(self.journal.fills, since, offset, limit)
        if limit is not None and len(found) == limit:
            return found
        return found + self._ledger.unwritten_fills(since)

    async def fetch_positions(self, market: str | None = None) -> list[Position]:
        """Net positions that are not flat: of all venues, or of the one that trades ``market``.

        Raises UnknownSymbol, and what a venue that cannot be asked raises.
        """
        lists = await asyncio.gather(*(a.fetch_positions() for a in self._venues(market)))
        return [position for positions in lists for position in positions]

    async def fetch_balance(self, market: str | None = None) -> list[Balance]:
        """The accounts, one for each venue and currency, as :meth:`fetch_positions`."""
        lists = await asyncio.gather(*(a.fetch_balance() for a in self._venues(market)))
        return [balance for balances in lists for balance in balances]

    def _venues(self, market: str | None) -> Sequence[TradeBase]:
        return self.adapters if market is None else [self._venue(market)]

    def _adapter(self, symbol: str) -> TradeBase:
        return self._venue(market_of(symbol))

    def _venue(self, market: str) -> TradeBase:
        routes = self._route()
        try:
            return routes[market]
        except KeyError:
            served = ", ".join(sorted(routes)) or "none"
            raise UnknownSymbol(f"{market} is not traded here; traded: {served}") from None

    def _adapter_or_none(self, symbol: str) -> TradeBase | None:
        return self._route().get(market_of(symbol))

    # ---- the kill switch

    async def kill(self, flatten: bool = False, reason: str = "") -> KillState:
        """Refuse new orders until :meth:`lift`, and cancel all that work.

        ``flatten``: then close every position by a market order. The switch survives a restart, and
        what could not be done is tried again as long as it is on.
        Raises StorageError if it could not be written down; it is on all the same.
        """
        try:
            self._kill.throw(reason, flatten)
        finally:
            # What is on its way is cancelled when it has arrived; a slow venue is not waited for.
            if tasks := list(self._sender.tasks):
                await asyncio.wait(tasks, timeout=self.ask_every)
            await self._killing.enforce(flatten, self.ask_every)
        return self._kill.state

    async def lift(self) -> KillState:
        """Take new orders again. Raises StorageError."""
        self._killing.lift()
        return self._kill.state

    async def kill_state(self) -> KillState:
        """Whether the kill switch is on."""
        return self._kill.state

    # ---- reconciliation

    async def reconcile(self, accept: bool = False) -> Reconciliation:
        """Compare the books with the venues now, and bring in what was missed.

        ``accept``: what the venues hold is right from now on, whatever the journal expected.
        """
        await self._comparing.compare_all(accept)
        return self.reconciliation

    async def venue_orders(self) -> list[Order]:
        """Orders that work at the venues and were not placed here; they are left alone."""
        await self.reconcile()
        return self._comparing.foreign

    @property
    def reconciliation(self) -> Reconciliation:
        """What the last comparison of each venue found."""
        return self._comparing.found

    @property
    def lost(self) -> Mapping[str, str]:
        """By MARKET, why nothing can be sent to its venue at the moment; empty: all lines stand."""
        return self._lines.lost

    def _latest(self) -> int:
        return max(adapter.now(f"{adapter.markets[0]}.") for adapter in self.adapters)

    # ---- what happens

    async def _follow(self, adapter: TradeBase, events: AsyncIterator[VenueEvent]) -> None:
        """Take the events of ``adapter`` for as long as it gives them."""
        while True:
            try:
                async for event in events:
                    self._ledger.on_event(adapter, event)
                return
            except LiveTraderError as error:
                log.warning("events of %s broke off: %s", type(adapter).__name__, error)
            finally:
                close = getattr(events, "aclose", None)
                if close is not None:
                    await close()
            await asyncio.sleep(self.ask_every)
            events = adapter.watch_events()
            await self._catch_up(adapter)

    async def _catch_up(self, adapter: TradeBase) -> None:
        """Ask a venue that was away what became of its orders, and compare the books."""
        await self._inquiry.settle_open(lambda order: market_of(order.symbol) in adapter.markets)
        await self._comparing.compare(adapter)

    async def _keep_asking(self) -> None:
        while True:
            await asyncio.sleep(self.ask_every)
            await self._inquiry.settle_open(in_doubt)
            await self._killing.go_on(_FLATTEN_EVERY * self.ask_every)


async def _let_tell() -> None:
    """Let events that a venue in this process has told be journaled.

    Else they came after what the caller asks for next, and would be taken for later news.
    """
    for _ in range(2):
        await asyncio.sleep(0)
