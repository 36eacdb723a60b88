"""Order requests on their way to the venues, in the store's background thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from livetrader_core.errors import LiveTraderError, OutcomeUnknown, Unavailable
from livetrader_core.models import Order, OrderStatus

if TYPE_CHECKING:
    from livetrader_bt.store import LiveTraderStore
    from livetrader_core.session import Session

log = logging.getLogger(__name__)

#: Called in the background with a client_order_id and a reason.
Report = Callable[[Order, str], None]

_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


class Requests:
    """Sends, cancels and changes orders, and finds out what became of those nobody answered.

    An order is sent when those it is linked to have arrived, and is cancelled or changed when it
    has. Where fills happen on bars (``in_order``) requests begin in the order of their making, so
    that they also arrive in it; elsewhere a cancel does not wait behind another, slow order.

    ``on_rejected`` is told of an order that certainly never reached a venue, ``on_doubt`` of one
    whose fate is being asked for, ``on_refused`` of a cancel or change that was not done.
    """

    def __init__(
        self,
        store: LiveTraderStore,
        in_order: bool,
        on_rejected: Report,
        on_doubt: Report,
        on_refused: Callable[[str, str], None],
    ) -> None:
        self._store = store
        self._in_order = in_order
        self._on_rejected = on_rejected
        self._on_doubt = on_doubt
        self._on_refused = on_refused
        #: Orders whose arrival is open, each with what ends that.
        self._arriving: dict[str, asyncio.Event] = {}
        #: Orders whose cancel was asked for, and not refused.
        self._canceling: set[str] = set()
        #: Orders that never arrived.
        self._failed: set[str] = set()
        self._open: dict[concurrent.futures.Future[Any], str] = {}

    # ---- backtrader's thread

    def send(self, orders: Sequence[Order]) -> None:
        """Send ``orders``, which all go to one place, one after the other."""
        for order in orders:
            self._arriving[order.client_order_id] = asyncio.Event()
        session = self._store.session(orders[0].symbol)
        names = ", ".join(f"order {order.client_order_id}" for order in orders)
        self._post(lambda: self._send_all(session, orders), names)

    def cancel(self, order: Order) -> None:
        """Ask to cancel ``order``."""
        session, name = self._store.session(order.symbol), order.client_order_id
        if name in self._canceling:
            return
        self._canceling.add(name)
        self._post(
            lambda: self._ask(session, name, "cancel", lambda: session.cancel_order(name)),
            f"the cancel of order {name}",
        )

    def modify(
        self,
        order: Order,
        quantity: float | None,
        price: float | None,
        stop_price: float | None,
    ) -> None:
        """Ask to change ``order``, if no cancel was asked for; None leaves a term as it is."""
        session, name = self._store.session(order.symbol), order.client_order_id
        if name in self._canceling:
            return
        self._post(
            lambda: self._ask(
                session,
                name,
                "change",
                lambda: session.modify_order(name, quantity, price, stop_price),
            ),
            f"the change of order {name}",
        )

    def _post(self, work: Callable[[], Coroutine[Any, Any, None]], what: str) -> None:
        post = self._store.post_in_order if self._in_order else self._store.post
        future = post(work)
        if future is None:
            log.error("the store is closed: %s did not leave", what)
            return
        self._open[future] = what
        future.add_done_callback(lambda done: self._open.pop(done, None))

    def wait(self, seconds: float) -> list[str]:
        """Wait until everything is answered, at most ``seconds``; returns what is not."""
        deadline = time.monotonic() + seconds
        while (left := list(self._open)) and (rest := deadline - time.monotonic()) > 0:
            concurrent.futures.wait(left, rest)
        return [what for future, what in list(self._open.items()) if not future.done()]

    # ---- the background thread

    async def _send_all(self, session: Session, orders: Sequence[Order]) -> None:
        for order in orders:
            await self._wait_for_links(order)
            await self._send(session, order)

    async def _wait_for_links(self, order: Order) -> None:
        for link in (order.parent, order.oco):
            await self._arrival(link)

    async def _arrival(self, client_order_id: str) -> None:
        arriving = self._arriving.get(client_order_id)
        if arriving is not None:
            await arriving.wait()

    async def _send(self, session: Session, order: Order) -> None:
        if order.parent in self._failed:
            self._end(order, "its parent never reached a venue")
            return
        try:
            await session.create_order(order)
        except OutcomeUnknown as error:
            self._on_doubt(order, f"unknown: {error}")
            self._post_settling(session, order)
        except LiveTraderError as error:
            self._end(order, str(error))
        else:
            self._arrived(order)

    def _arrived(self, order: Order) -> None:
        arriving = self._arriving.pop(order.client_order_id, None)
        if arriving is not None:
            arriving.set()

    def _end(self, order: Order, reason: str) -> None:
        self._failed.add(order.client_order_id)
        self._on_rejected(order, reason)
        self._arrived(order)

    def _post_settling(self, session: Session, order: Order) -> None:
        # On its own: others do not wait for a server that may be down for long.
        future = self._store.post(lambda: self._settle(session, order))
        if future is not None:
            self._open[future] = f"whether order {order.client_order_id} reached the server"
            future.add_done_callback(lambda done: self._open.pop(done, None))

    async def _settle(self, session: Session, order: Order) -> None:
        """Ask until the server says whether it has ``order``; if not, it never will."""
        pause = _PAUSE
        while True:
            try:
                known = await session.fetch_order(order.client_order_id)
                if known is None:
                    known = await session.give_up_order(order)
                break
            except Unavailable as error:
                log.info("order %s cannot be asked about: %s", order.client_order_id, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        if known.status is OrderStatus.REJECTED:
            self._end(order, known.reason)
        else:
            self._arrived(order)  # what becomes of it comes as events

    async def _ask(
        self,
        session: Session,
        client_order_id: str,
        what: str,
        ask: Callable[[], Coroutine[Any, Any, Any]],
    ) -> None:
        """Ask for a cancel or a change, again as long as nobody is there to answer."""
        await self._arrival(client_order_id)
        if client_order_id in self._failed:
            return
        pause = _PAUSE
        while True:
            try:
                await ask()
            except (Unavailable, OutcomeUnknown) as error:
                log.info("%s of order %s is asked again: %s", what, client_order_id, error)
            except LiveTraderError as error:
                await self._refuse(session, client_order_id, f"the {what} was refused: {error}")
                return
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _refuse(self, session: Session, client_order_id: str, reason: str) -> None:
        self._canceling.discard(client_order_id)
        try:
            known = await session.fetch_order(client_order_id)
        except LiveTraderError as error:
            log.info("order %s cannot be asked about: %s", client_order_id, error)
            known = None
        if known is None or not known.status.is_final:  # else its end is told anyway
            self._on_refused(client_order_id, reason)
