"""HeldOrders: what a venue cannot do by itself, done by the server, so that it outlives a client.

A held order is in the journal as ACCEPTED with ``held``, and nowhere else. When its moment comes,
the journal first says that it leaves (SUBMITTED, no longer ``held``), then it is sent; what a crash
left between the two is asked about like any other order, and never sent again. All moments are the
venue's (:meth:`TradeBase.now`).
"""

from __future__ import annotations

import asyncio
import logging

from livetrader_core.errors import LiveTraderError, OrderRejected, StorageError
from livetrader_core.models import Contract, Kline, Order, OrderStatus, OrderType, Tick, TradeEvent
from livetrader_core.service import MarketService
from livetrader_core.trade import plan
from livetrader_core.trade.admission import Admission, Desk
from livetrader_core.trade.base import Abilities, TradeBase
from livetrader_core.trade.links import Links
from livetrader_core.trade.prices import PriceFeeds
from livetrader_core.trade.request import check_order
from livetrader_core.trade.trigger import look, reached, trailed

log = logging.getLogger(__name__)

#: How long before the end of its session a CLOSE order is sent.
CLOSE_LEAD_MS = 60_000
#: How often the journal hears of a trailing stop that moves, at most.
_TRAIL_EVERY_MS = 1_000

_WORKING = (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED)


class HeldOrders:
    """The orders of a trade service that need the server until they end.

    ``market`` gives the prices and the sessions. Deadlines are looked at every ``check_every``
    seconds. What a venue certainly did not get is sent again after ``retry_every`` seconds, what it
    did not cancel is cancelled again after five times that.
    """

    def __init__(
        self,
        desk: Desk,
        market: MarketService | None,
        check_every: float = 0.25,
        retry_every: float = 1.0,
    ) -> None:
        self._desk = desk
        self._market = market
        self._check_every = check_every
        self._retry_every = retry_every
        self._book: dict[str, Order] = {}
        self._links = Links()
        self._admission = Admission(desk, market, self._links)
        self._waiting: dict[str, list[str]] = {}
        self._written_at: dict[str, int] = {}
        self._unwritten: set[str] = set()
        self._not_before: dict[tuple[str, str], float] = {}
        self._told: dict[str, str] = {}
        self._canceling: dict[str, asyncio.Task[None]] = {}
        self._feeds = None if market is None else PriceFeeds(market, self._on_quote, retry_every)
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    @property
    def symbols(self) -> list[str]:
        """Symbols whose prices it follows."""
        return [] if self._feeds is None else self._feeds.symbols

    # ---- life

    def start(self) -> None:
        """Take up what the journal holds. Raises StorageError."""
        linked = [order for order in self._desk.linked_orders("") if self._linked_here(order)]
        named = {name for order in linked for name in (order.parent, order.oco) if name}
        found = [self._desk.find(name) for name in named - {o.client_order_id for o in linked}]
        self._links.load([*linked, *(order for order in found if order is not None)])
        for order in self._desk.open_orders():
            if self._minds(order):
                self._book[order.client_order_id] = order
        self._warn_of_blind()
        self._wake = asyncio.Event()  # a service may be started again in another event loop
        self._wake.set()
        self._worker = asyncio.get_running_loop().create_task(self._run())

    def _warn_of_blind(self) -> None:
        blind = [name for name, order in self._book.items() if self._waits_for_price(order)]
        if self._market is None and blind:
            log.error(
                "held orders wait for prices, and this server has no market data: %s; serve their "
                "markets, or cancel them",
                ", ".join(blind),
            )

    async def stop(self) -> None:
        """Do nothing more; the journal keeps the orders."""
        tasks = list(self._canceling.values())
        if self._worker is not None:
            tasks.append(self._worker)
            try:
                self._flush_trails(all_of_them=True)
            except StorageError as error:
                log.error("trailing stops keep their place of a second ago: %s", error)
        self._worker = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._feeds is not None:
            await self._feeds.stop()
        self._links.clear()
        self._book, self._waiting = {}, {}
        self._written_at, self._unwritten = {}, set()
        self._not_before, self._told = {}, {}

    def _minds(self, order: Order) -> bool:
        if order.held or order.client_order_id in self._links:
            return True
        if not order.expires_at:
            return False
        abilities = self._abilities(order)
        return abilities is not None and plan.timed_here(order, abilities)

    def _linked_here(self, order: Order) -> bool:
        if not (order.parent or order.oco):
            return False
        if order.held:
            return True
        abilities = self._abilities(order)
        return abilities is not None and plan.linked_here(order, abilities)

    def _abilities(self, order: Order) -> Abilities | None:
        try:
            return self._desk.adapter(order.symbol).abilities
        except LiveTraderError:  # of an earlier run, and not traded here any more
            return None

    # ---- new orders

    async def prepare(self, adapter: TradeBase, order: Order) -> Order:
        """As :meth:`Admission.prepare`."""
        return await self._admission.prepare(adapter, order)

    def admit(self, adapter: TradeBase, order: Order) -> Order:
        """As :meth:`Admission.admit`."""
        return self._admission.admit(adapter, order)

    # ---- what the client asks for

    def cancel(self, order: Order) -> None:
        """End a held order."""
        self._end(order, OrderStatus.CANCELED, "")

    def modify(
        self, order: Order, quantity: float | None, price: float | None, stop_price: float | None
    ) -> Order:
        """Change a held order. Raises InvalidRequest for a value that cannot be."""
        known = self._book.get(order.client_order_id, order)
        asked = {"quantity": quantity, "price": price, "stop_price": stop_price}
        changed = known.but(**{name: float(v) for name, v in asked.items() if v is not None})
        check_order(changed)
        self._change(changed)
        return changed

    # ---- what happens

    def on_event(self, event: TradeEvent) -> None:
        """Take a change of any order, after it was journaled."""
        order = event.order
        name = order.client_order_id
        if self._worker is None:  # the start finds it in the journal
            return
        if order.status.is_final:
            self._told.pop(name, None)
            self._not_before.pop(("send", name), None)
            self._not_before.pop(("cancel", name), None)
        if self._linked_here(order) or name in self._links:
            self._links.add(order)
            for named in self._links.named_by(order):
                self._book.setdefault(named.client_order_id, named)
        if self._minds(order) and not order.status.is_final:
            self._book[name] = order
        elif name in self._book:
            self._forget(name)
        elif name not in self._links:
            return
        if order.status.is_final:
            self._links.forget(name)
        self._wake.set()

    def _forget(self, name: str) -> None:
        del self._book[name]
        self._unwritten.discard(name)
        self._written_at.pop(name, None)

    def _on_quote(self, quote: Tick | Kline, contract: Contract, live_since: int) -> None:
        now = self._desk.adapter(quote.symbol).now(quote.symbol)
        if not contract.sessions.is_open(now):  # some venues repeat their last quote all weekend
            return
        for name in self._waiting.get(quote.symbol, ()):
            order = self._book.get(name)
            if order is None or not order.held:
                continue
            try:
                if not self._review(order):
                    self._try(order, quote, contract, live_since)
            except Exception:  # one order must not keep the price from the others
                log.exception("held order %s could not be tried on %r", name, quote)

    def _try(self, order: Order, quote: Tick | Kline, contract: Contract, live_since: int) -> None:
        since = max(order.as_of or order.created_at, self._links.woke_at(order))
        seen = look(quote, order.side, since, live_since)
        if seen is None:
            return
        if reached(order, seen):
            self._release(order)
            return
        moved = trailed(order, seen, contract)
        if moved is not order:
            self._book[order.client_order_id] = moved
            self._unwritten.add(order.client_order_id)
            self._flush_trail(order.client_order_id)

    # ---- the worker

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                self._review_all()
            except Exception:
                log.exception("held orders could not be looked after; they are again soon")
            # Not wait_for, which can swallow a cancellation that comes with the event.
            timer = asyncio.get_running_loop().call_later(self._check_every, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    def _review_all(self) -> None:
        self._flush_trails()
        for name in list(self._book):
            try:
                self._attend(name)
            except Exception:  # one order must not keep the server from the others
                log.exception("held order %s could not be looked after; it is again soon", name)
        waiting: dict[str, list[str]] = {}
        for order in self._book.values():
            if self._waits_for_price(order):
                waiting.setdefault(order.symbol, []).append(order.client_order_id)
        self._waiting = waiting
        if self._feeds is not None:
            self._feeds.want(waiting)

    def _attend(self, name: str) -> None:
        order = self._book.get(name)
        if order is None or self._review(order):
            return
        if order.held and (_has_way(order) or self._is_due(order)):
            self._release(order)

    def _review(self, order: Order) -> bool:
        """End ``order`` if it must end; whether it must."""
        if reason := self._links.doom(order, self._others_made_way(order)):
            self._end(order, OrderStatus.CANCELED, reason)
            return True
        if self._is_over(order):
            self._end(order, OrderStatus.EXPIRED, "its time was over")
            return True
        return False

    def _is_over(self, order: Order) -> bool:
        if not order.expires_at:
            return False
        abilities = self._abilities(order)
        if abilities is None:
            return False
        mine = order.held or plan.timed_here(order, abilities)
        return mine and self._now(order) >= order.expires_at

    def _is_due(self, order: Order) -> bool:
        """Whether a held order waits for no price and may leave now."""
        abilities = self._abilities(order)
        if abilities is None or self._links.sleeps(order):
            return False
        if order.type is OrderType.CLOSE and plan.lacks_type(order, abilities):
            return self._now(order) >= order.expires_at - CLOSE_LEAD_MS
        return not plan.waits_for_price(order, abilities)

    def _waits_for_price(self, order: Order) -> bool:
        abilities = self._abilities(order)
        if abilities is None or not order.held or self._links.sleeps(order):
            return False
        return plan.waits_for_price(order, abilities)

    def _now(self, order: Order) -> int:
        return self._desk.adapter(order.symbol).now(order.symbol)

    # ---- sending and ending

    def _release(self, order: Order) -> None:
        name = order.client_order_id
        if any(self._trades_now(fellow) for fellow in self._links.fellows(order)):
            return
        if self._waits_for_way(order):
            return
        if not self._may("send", name, self._retry_every):
            return
        try:
            self._desk.release(order)
        except LiveTraderError as error:
            if self._told.get(name) != str(error):  # not at every price
                self._told[name] = str(error)
                log.error("held order %s waits: %s", name, error)

    def _waits_for_way(self, order: Order) -> bool:
        """Whether others of its group must leave the venue before it can close anything there."""
        abilities = self._abilities(order)
        if abilities is None or not abilities.closing_reserves:
            return False
        working = [f for f in self._links.fellows(order) if not (f.held or f.status.is_final)]
        if working and not _has_way(order):
            # In the journal first: a restart must not take their cancellation for the group's end.
            names = ", ".join(fellow.client_order_id for fellow in working)
            self._change(order.but(reason=f"{_WAY}{names}"))
        for fellow in working:
            self._cancel_at_venue(fellow, f"it makes way for {order.client_order_id}")
        return bool(working)

    def _others_made_way(self, order: Order) -> bool:
        """Whether it was triggered where others of its group had to be cancelled for it."""
        abilities = self._abilities(order)
        if abilities is None or not abilities.closing_reserves:
            return False
        return _has_way(order) or (plan.lacks_type(order, abilities) and not order.held)

    def _trades_now(self, order: Order) -> bool:
        # Until such an order has ended, another one of its group could be filled beside it.
        abilities = self._abilities(order)
        if abilities is None or order.held or order.status.is_final:
            return False
        return plan.as_sent(order, abilities).type is OrderType.MARKET

    def _end(self, order: Order, status: OrderStatus, reason: str) -> None:
        if order.held:
            self._change(order.but(status=status, held=False, reason=reason))
        elif order.status in _WORKING and order.client_order_id not in self._canceling:
            self._cancel_at_venue(order, reason)

    def _change(self, order: Order) -> None:
        self._desk.change(self._desk.adapter(order.symbol), order)
        self._unwritten.discard(order.client_order_id)

    def _cancel_at_venue(self, order: Order, reason: str) -> None:
        name = order.client_order_id
        if not self._may("cancel", name, 5 * self._retry_every):
            return
        log.info("order %s is cancelled: %s", name, reason)
        task = asyncio.get_running_loop().create_task(self._cancel(name))
        self._canceling[name] = task
        task.add_done_callback(lambda _: self._canceling.pop(name, None))

    async def _cancel(self, name: str) -> None:
        try:
            await self._desk.cancel(name)
        except OrderRejected as error:
            log.info("order %s could not be cancelled: %s", name, error)
        except Exception as error:
            unforeseen = not isinstance(error, LiveTraderError)
            log.warning("order %s is cancelled again: %s", name, error, exc_info=unforeseen)

    def _may(self, what: str, name: str, pause: float) -> bool:
        """Whether ``what`` may be tried now; if so, not again before ``pause`` seconds."""
        now = asyncio.get_running_loop().time()
        if now < self._not_before.get((what, name), 0.0):
            return False
        self._not_before[what, name] = now + pause
        return True

    # ---- trailing stops

    def _flush_trails(self, all_of_them: bool = False) -> None:
        for name in list(self._unwritten):
            self._flush_trail(name, all_of_them)

    def _flush_trail(self, name: str, at_once: bool = False) -> None:
        order = self._book[name]
        now = self._now(order)
        # A clock that was set back must not silence it.
        if at_once or abs(now - self._written_at.get(name, 0)) >= _TRAIL_EVERY_MS:
            self._written_at[name] = now
            self._change(order)


#: How the reason of a held order begins that was triggered, and goes on with who makes way for it.
_WAY = "triggered; first canceled: "


def _has_way(order: Order) -> bool:
    return order.held and order.reason.startswith(_WAY)


def reason_of_leaving(order: Order, failure: str = "") -> str:
    """The reason of a held order that leaves, or that is held on after a ``failure`` to send it.

    That others made way for it must not be forgotten until its venue has it.
    """
    way = order.reason.partition(" / ")[0] if order.reason.startswith(_WAY) else ""
    return " / ".join(part for part in (way, failure) if part)
