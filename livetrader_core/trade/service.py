"""TradeService: several venues behind one face, with the journal in front of them.

An order is in the journal before it leaves, and every change of it before anybody hears of it.
What the venue did not answer is UNKNOWN until the venue says what became of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from livetrader_core.errors import (
    InvalidRequest,
    LiveTraderError,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
    StorageError,
    TooBusy,
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
from livetrader_core.trade.base import TradeBase, VenueEvent
from livetrader_core.trade.books import Books
from livetrader_core.trade.gate import Gate
from livetrader_core.trade.held import HeldOrders, reason_of_leaving
from livetrader_core.trade.journal import Journal
from livetrader_core.trade.kill import KillDesk, KillSwitch, cancel_all
from livetrader_core.trade.kill import flatten as flatten_all
from livetrader_core.trade.progress import combine
from livetrader_core.trade.reconcile import Findings, Ledger, Reconciler, account_of
from livetrader_core.trade.request import check_id, check_number, check_order
from livetrader_core.trade.risk import DailyLoss, RiskChecks, RiskLimits

log = logging.getLogger(__name__)

Listener = Callable[[TradeEvent], None]

#: How far a venue's clock may be behind ours when it is asked for an order's fills.
_CLOCK_SKEW_MS = 3_600_000

#: Rounds of asking the venues between two attempts to close positions.
_FLATTEN_EVERY = 10

#: Errors that say that the venue could not be reached, so that it did not see the order.
_NOT_REACHED = (NotConnected, TooBusy)

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

#: Errors that say for certain that the order did not reach the venue.
_NOT_SENT = (OrderRejected, InvalidRequest, NotConnected, TooBusy)


@dataclass(frozen=True)
class _Unwritten:
    """A change that the journal could not take yet."""

    clock: int
    order: Order
    fill: Fill | None


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
        self._sending: dict[str, asyncio.Task[Order]] = {}
        self._unwritten: deque[_Unwritten] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._writing: asyncio.Task[None] | None = None
        self._connected = False
        self._held = HeldOrders(self._desk(), market, min(ask_every, 0.25), min(ask_every, 1.0))
        self._books = Books(self.journal)
        self._kill = KillSwitch(self.journal)
        self._kill_desk = KillDesk(
            self.adapters, self._open_orders, self._find, self.cancel_order, self._let_out
        )
        self._flattened_at = float("-inf")
        self._flattening = asyncio.Lock()
        self._risk = None if risk is None else RiskChecks(risk)
        self._gate = Gate(self._kill, self._risk, self._books, market, self._open_orders)
        self._reconciler = Reconciler(self._ledger(), self._books, _CLOCK_SKEW_MS)
        self.require_reconciled = require_reconciled
        self.reconcile_every = reconcile_every
        self._findings: dict[TradeBase, Findings] = {}
        self._blocked: set[TradeBase] = set()
        self._listeners: list[Listener] = [self._books.on_event, self._held.on_event]

    def _ledger(self) -> Ledger:
        return Ledger(
            find=self._find,
            has_fill=self._has_fill,
            change=self._change,
            last_fill_at=self.journal.last_fill_at,
            seq=lambda: self.seq + len(self._unwritten),
        )

    def _desk(self) -> Desk:
        return Desk(
            find=self._find,
            open_orders=self._open_orders,
            linked_orders=lambda name: self._overlay(self.journal.linked_orders(name)),
            adapter=self._adapter,
            change=self._change,
            release=self._release,
            cancel=self.cancel_order,
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
        self._flattening = asyncio.Lock()  # in this event loop
        self.journal.open()
        self._books.load()
        self._kill.load()
        try:
            await asyncio.gather(*(adapter.connect() for adapter in self.adapters))
            self._connected = True
            # Readers first: what happens while the venues are asked must not fall between.
            for adapter in self.adapters:
                self._tasks.append(self._task(self._follow(adapter, adapter.watch_events())))
            await self._settle(self._open_orders())
            for adapter in self.adapters:
                await self._reconcile_start(adapter)
            self._gate.start()
            self._held.start()
        except BaseException:
            await self.stop()
            raise
        self._tasks.append(self._task(self._keep_asking()))
        self._tasks.append(self._task(self._keep_reconciling()))
        if self._risk is not None and self._risk.limits.max_daily_loss:
            self._tasks.append(self._task(self._keep_counting(self._risk)))
        if self._unwritten:
            self._ensure_writing()

    def stop(self) -> asyncio.Task[None]:
        """Disconnect; may be awaited, and called more than once.

        An order that is on its way keeps its place in the journal: the next start asks about it.
        """
        tasks: list[asyncio.Task[None] | asyncio.Task[Order]] = [
            *self._tasks,
            *self._sending.values(),
        ]
        if self._writing is not None:
            tasks.append(self._writing)
        self._tasks, self._writing, self._connected = [], None, False
        return asyncio.get_running_loop().create_task(self._stop(tasks))

    async def _stop(self, tasks: Sequence[asyncio.Task[None] | asyncio.Task[Order]]) -> None:
        self._gate.stop()
        await self._held.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for adapter in self.adapters:
            await adapter.disconnect()
        if lost := self._write_unwritten():
            log.error("%d trade events are not in the journal: %s", len(self._unwritten), lost)
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
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

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
        if reason := self._blocked_by(adapter) or self._gate.refusal(order):
            self._refuse(adapter, order, reason)
        return await self._let_out(adapter, order)

    async def _let_out(self, adapter: TradeBase, order: Order) -> Order:
        if plan.needs_server(order, adapter.abilities):
            order = self._held.admit(adapter, order)
        submitted = self._submit(adapter, order)
        if submitted.held:
            return submitted
        sending = self._begin_sending(adapter, submitted)
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
        self._write_first(
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
            known = self._find(order.client_order_id) or order
        return known

    async def _known(self, client_order_id: str) -> Order | None:
        sending = self._sending.get(client_order_id)
        if sending is not None:
            await asyncio.wait([sending])
        return self._find(client_order_id)

    def _submit(self, adapter: TradeBase, order: Order) -> Order:
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
        self._write_first(submitted)
        return submitted

    def _write_first(self, order: Order) -> None:
        """Journal and publish ``order`` before it leaves. Raises StorageError: it must not."""
        if waiting := self._write_unwritten():
            raise StorageError(
                f"{waiting}; {len(self._unwritten)} changes wait to be written; "
                f"order {order.client_order_id} was not sent"
            ) from waiting
        try:
            event = self.journal.append(order.updated_at, order)
        except StorageError as error:
            raise StorageError(f"{error}; order {order.client_order_id} was not sent") from error
        self._publish(event)

    def _begin_sending(
        self, adapter: TradeBase, order: Order, held_before: bool = False
    ) -> asyncio.Task[Order]:
        # A task of its own: whoever gives up waiting does not leave an order half sent.
        work = self._send(adapter, order, held_before)
        sending = asyncio.get_running_loop().create_task(work)
        self._sending[order.client_order_id] = sending
        sending.add_done_callback(lambda _: self._sending.pop(order.client_order_id, None))
        sending.add_done_callback(_retrieve)
        return sending

    def _release(self, order: Order) -> None:
        """Send a held order, unless it ended meanwhile.

        Its risk was checked when it was taken. Raises StorageError, OrderRejected: it stays.
        """
        known = self._find(order.client_order_id)
        if known is None or known.status.is_final or not known.held:
            return
        adapter = self._adapter(order.symbol)
        if reason := self._kill.refusal or self._blocked_by(adapter):
            raise OrderRejected(reason)
        now = adapter.now(order.symbol)
        leaving = order.but(
            held=False,
            status=OrderStatus.SUBMITTED,
            reason=reason_of_leaving(order),
            updated_at=now,
        )
        self._write_first(leaving)
        self._begin_sending(adapter, leaving, held_before=True)

    async def _send(self, adapter: TradeBase, order: Order, held_before: bool) -> Order:
        client_order_id = order.client_order_id
        try:
            taken = await adapter.create_order(plan.as_sent(order, adapter.abilities))
        except _NOT_SENT as error:
            if held_before and isinstance(error, _NOT_REACHED):
                log.warning("order %s is held on: %s", client_order_id, error)
                reason = reason_of_leaving(order, str(error))
                held = order.but(status=OrderStatus.ACCEPTED, held=True, reason=reason)
                self._change(adapter, held)
                return held
            self._end_unsent(adapter, order, str(error))
            raise
        except Exception as error:
            reason = str(error) or type(error).__name__
            if not isinstance(error, LiveTraderError):
                log.exception("order %s: %s", client_order_id, type(adapter).__name__)
            self._change(adapter, order.but(status=OrderStatus.UNKNOWN, reason=reason))
            if isinstance(error, OutcomeUnknown):
                raise
            raise OutcomeUnknown(
                f"order {client_order_id}: not known whether it reached the venue: {reason}"
            ) from error
        self._change(adapter, taken)
        return self._find(client_order_id) or taken

    def _end_unsent(self, adapter: TradeBase, order: Order, reason: str) -> None:
        self._change(adapter, order.but(status=OrderStatus.REJECTED, reason=reason))

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
        self._change(adapter, changed)
        await _let_tell()
        return self._find(client_order_id) or changed

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
        return self._find(client_order_id)

    async def fetch_orders(self, offset: int = 0, limit: int | None = None) -> list[Order]:
        """All orders, oldest first; ``limit`` of them after ``offset``."""
        return self._overlay(await asyncio.to_thread(self.journal.orders, offset, limit))

    async def fetch_open_orders(self) -> list[Order]:
        """Orders that are not final, oldest first."""
        return self._open_orders()

    async def fetch_fills(
        self, since: int = 0, offset: int = 0, limit: int | None = None
    ) -> list[Fill]:
        """Executions at or after ``since`` (UTC ms), oldest first; ``limit`` after ``offset``."""
        found = await asyncio.to_thread(self.journal.fills, since, offset, limit)
        if limit is not None and len(found) == limit:
            return found
        waiting = [c.fill for c in self._unwritten if c.fill and c.fill.datetime >= since]
        return found + waiting

    async def fetch_positions(self) -> list[Position]:
        """Net positions of all venues that are not flat."""
        lists = await asyncio.gather(*(a.fetch_positions() for a in self.adapters))
        return [position for positions in lists for position in positions]

    async def fetch_balance(self) -> list[Balance]:
        """The accounts, one for each venue and currency."""
        lists = await asyncio.gather(*(a.fetch_balance() for a in self.adapters))
        return [balance for balances in lists for balance in balances]

    def _find(self, client_order_id: str) -> Order | None:
        for change in reversed(self._unwritten):
            if change.order.client_order_id == client_order_id:
                return change.order
        return self.journal.order(client_order_id)

    def _open_orders(self) -> list[Order]:
        orders = self._overlay(self.journal.open_orders())
        return [order for order in orders if not order.status.is_final]

    def _overlay(self, orders: list[Order]) -> list[Order]:
        newer = {c.order.client_order_id: c.order for c in self._unwritten}
        return [newer.get(order.client_order_id, order) for order in orders]

    def _adapter(self, symbol: str) -> TradeBase:
        code, routes = market_of(symbol), self._route()
        try:
            return routes[code]
        except KeyError:
            served = ", ".join(sorted(routes)) or "none"
            raise UnknownSymbol(f"{symbol}: {code} is not traded here; traded: {served}") from None

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
            await asyncio.gather(*self._sending.values(), return_exceptions=True)
            await self._enforce_kill(flatten, self.ask_every)
        return self._kill.state

    async def _enforce_kill(self, flatten: bool, pause: float) -> None:
        """Cancel all; ``flatten``, unless that was begun less than ``pause`` seconds ago."""
        await cancel_all(self._kill_desk)
        if not flatten:
            return
        async with self._flattening:  # two at once would each close the same positions
            # A venue's positions may lag behind its fills: closing is not tried again at once.
            if (now := asyncio.get_running_loop().time()) >= self._flattened_at + pause:
                self._flattened_at = now
                await flatten_all(self._kill_desk, self._kill.state.since)

    async def _go_on_killing(self) -> None:
        if self._kill.state.on:
            await self._enforce_kill(self._kill.state.flatten, _FLATTEN_EVERY * self.ask_every)

    async def lift(self) -> KillState:
        """Take new orders again. Raises StorageError."""
        self._kill.lift()
        self._flattened_at = float("-inf")
        return self._kill.state

    async def kill_state(self) -> KillState:
        """Whether the kill switch is on."""
        return self._kill.state

    # ---- reconciliation

    async def reconcile(self, accept: bool = False) -> Reconciliation:
        """Compare the books with the venues now, and bring in what was missed.

        ``accept``: what the venues hold is right from now on, whatever the journal expected.
        """
        for adapter in self.adapters:
            await self._reconcile(adapter, accept)
        return self.reconciliation

    async def venue_orders(self) -> list[Order]:
        """Orders that work at the venues and were not placed here; they are left alone."""
        await self.reconcile()
        return [order for found in self._findings.values() for order in found.foreign]

    @property
    def reconciliation(self) -> Reconciliation:
        """What the last comparison of each venue found."""
        found = list(self._findings.values())
        return Reconciliation(
            time.time_ns() // 1_000_000,
            tuple(told for findings in found for told in findings.differences),
            tuple(order for findings in found for order in findings.foreign),
            bool(self._blocked),
        )

    def _blocked_by(self, adapter: TradeBase) -> str:
        if adapter not in self._blocked:
            return ""
        told = "; ".join(self._findings[adapter].differences)
        return (
            f"not reconciled: {told}. Look at both sides, then take what the venue holds for right "
            "with `livetrader reconcile --accept`"
        )

    async def _reconcile_start(self, adapter: TradeBase) -> None:
        first = not (adapter.keeps_books and self._books.knows(account_of(adapter)))
        await self._reconcile(adapter, accept=first)
        if self.require_reconciled and self._findings[adapter].differences:
            self._blocked.add(adapter)

    async def _reconcile(self, adapter: TradeBase, accept: bool = False) -> None:
        try:
            await self._reconciler.take_fills(adapter)
            if accept:
                await self._reconciler.open(adapter)
            found = await self._reconciler.compare(adapter)
        except LiveTraderError as error:
            found = Findings((f"{type(adapter).__name__} could not be asked: {error}",))
        before = self._findings.get(adapter, Findings())
        self._findings[adapter] = found
        if not found.differences:
            self._blocked.discard(adapter)
        for told in set(found.differences) - set(before.differences):
            log.error("the books disagree: %s", told)

    async def _keep_reconciling(self) -> None:
        while True:
            await asyncio.sleep(self.reconcile_every)
            for adapter in self.adapters:
                await self._reconcile(adapter)

    async def _keep_counting(self, risk: RiskChecks) -> None:
        """Keep the day's loss up to date."""
        noted = self.journal.noted("daily_loss")
        daily = DailyLoss(risk.limits.max_daily_loss, noted)
        while True:
            try:
                day = datetime.fromtimestamp(self._latest() / 1000, timezone.utc).date()
                risk.lost = daily.take(day.isoformat(), await self.fetch_balance())
                if (note := daily.to_note()) != noted:
                    self.journal.note("daily_loss", note)
                    noted = note
            except LiveTraderError as error:
                log.warning("the day's loss is not known: %s", error)
            await asyncio.sleep(self.ask_every)

    def _latest(self) -> int:
        return max(adapter.now(f"{adapter.markets[0]}.") for adapter in self.adapters)

    # ---- what happens

    async def _follow(self, adapter: TradeBase, events: AsyncIterator[VenueEvent]) -> None:
        """Take the events of ``adapter`` for as long as it gives them."""
        while True:
            try:
                async for event in events:
                    self._on_event(adapter, event)
                return
            except LiveTraderError as error:
                log.warning("events of %s broke off: %s", type(adapter).__name__, error)
            finally:
                close = getattr(events, "aclose", None)
                if close is not None:
                    await close()
            await asyncio.sleep(self.ask_every)
            events = adapter.watch_events()
            await self._settle_open(lambda order: True)
            await self._reconcile(adapter)

    def _on_event(self, adapter: TradeBase, event: VenueEvent) -> None:
        try:
            self._change(adapter, event.order, event.fill, event.clock)
        except Exception:  # one bad event must not end the stream
            log.exception("an event of %s could not be taken: %r", type(adapter).__name__, event)

    def _change(
        self,
        adapter: TradeBase,
        reported: Order,
        fill: Fill | None = None,
        clock: int | None = None,
    ) -> None:
        """Journal and publish what a venue reports, if it says anything new."""
        known = self._find(reported.client_order_id)
        if fill is not None and self._has_fill(fill):
            fill = None
        filled = self._filled(reported.client_order_id) + fill.quantity if fill else 0.0
        if clock is None:
            clock = adapter.now(reported.symbol)
        reported = plan.with_own_end(known, reported, adapter, clock)
        order = combine(known, reported, fill, round(filled, 10))
        if fill is None and known is not None and _same(order, known):
            return
        self._record(_Unwritten(clock, order.but(updated_at=clock), fill))

    def _has_fill(self, fill: Fill) -> bool:
        key = (market_of(fill.symbol), fill.trade_id)
        waiting = (c.fill for c in self._unwritten if c.fill)
        if any((market_of(f.symbol), f.trade_id) == key for f in waiting):
            return True
        return self.journal.has_fill(fill)

    def _filled(self, client_order_id: str) -> float:
        waiting = (c.fill for c in self._unwritten if c.fill)
        unwritten = sum(f.quantity for f in waiting if f.client_order_id == client_order_id)
        return self.journal.filled(client_order_id) + unwritten

    def _record(self, change: _Unwritten) -> None:
        behind_others = bool(self._unwritten)
        self._unwritten.append(change)
        if behind_others:
            return
        if error := self._write_unwritten():
            log.error("trade events wait to be journaled: %s", error)
            self._ensure_writing()

    def _ensure_writing(self) -> None:
        if self._writing is None:
            self._writing = self._task(self._keep_writing())

    def _write_unwritten(self) -> StorageError | None:
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
            await asyncio.sleep(min(self.ask_every, 1.0))
            if self._write_unwritten() is None:
                break
        self._writing = None
        log.info("the journal %s is written again", self.journal.path)

    def _publish(self, event: TradeEvent) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:
                log.exception("a listener failed on trade event %d", event.seq)

    # ---- what is not known

    async def _keep_asking(self) -> None:
        while True:
            await asyncio.sleep(self.ask_every)
            await self._settle_open(_in_doubt)
            await self._go_on_killing()

    async def _settle_open(self, which: Callable[[Order], bool]) -> None:
        try:
            await self._settle([order for order in self._open_orders() if which(order)])
        except StorageError as error:
            log.error("open orders could not be asked about: %s", error)

    async def _settle(self, orders: Sequence[Order]) -> None:
        """Ask the venues what became of ``orders``; who cannot be asked now is asked again."""
        for order in orders:
            if order.held or order.client_order_id in self._sending:
                continue
            adapter = self._route().get(market_of(order.symbol))
            if adapter is None:
                log.warning("order %s: %s is not traded here", order.client_order_id, order.symbol)
                continue
            try:
                await self._ask(adapter, order)
            except Exception as error:
                unforeseen = not isinstance(error, LiveTraderError)
                log.warning(
                    "order %s: the venue could not be asked: %s",
                    order.client_order_id,
                    error,
                    exc_info=unforeseen,
                )
                if order.status is OrderStatus.SUBMITTED:
                    self._change(adapter, order.but(status=OrderStatus.UNKNOWN, reason=str(error)))

    async def _ask(self, adapter: TradeBase, order: Order) -> None:
        client_order_id = order.client_order_id
        reported = await adapter.fetch_order(client_order_id)
        if reported is None:
            self._never_arrived(adapter, order)
            return
        for fill in await adapter.fetch_fills(max(0, order.created_at - _CLOCK_SKEW_MS)):
            if fill.client_order_id == client_order_id and not self._has_fill(fill):
                known = self._find(client_order_id) or order
                partly = known.but(status=OrderStatus.PARTIALLY_FILLED)
                self._change(adapter, partly, fill, fill.datetime)
        self._change(adapter, reported)

    def _never_arrived(self, adapter: TradeBase, order: Order) -> None:
        if not _in_doubt(order):
            reason = "the venue no longer has it"
            self._change(adapter, order.but(status=OrderStatus.CANCELED, reason=reason))
            return
        # Shortly after it was sent, the order may still be on its way.
        age_ms = time.time_ns() // 1_000_000 - self.journal.last_written_at(order.client_order_id)
        if age_ms < self.settle_after * 1000:
            if order.status is OrderStatus.SUBMITTED:
                reason = "sent, and not seen by the venue yet"
                self._change(adapter, order.but(status=OrderStatus.UNKNOWN, reason=reason))
            return
        self._end_unsent(adapter, order, "it never arrived at the venue")

    # ---- tasks

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_log_failure)
        return task


async def _let_tell() -> None:
    """Let events that a venue in this process has told be journaled.

    Else they came after what the caller asks for next, and would be taken for later news.
    """
    for _ in range(2):
        await asyncio.sleep(0)


def _in_doubt(order: Order) -> bool:
    return order.status in (OrderStatus.UNKNOWN, OrderStatus.SUBMITTED)


def _same(order: Order, known: Order) -> bool:
    return order.but(updated_at=known.updated_at) == known


def _retrieve(task: asyncio.Task[Order]) -> None:
    # The caller may have gone; the outcome is in the journal.
    if not task.cancelled():
        task.exception()


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("a task of the trade service ended on an error", exc_info=error)
