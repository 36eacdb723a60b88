"""Admission: which new orders the server can hold, and what it must know of them first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from livetrader_core.errors import InvalidRequest, OrderRejected
from livetrader_core.models import Contract, Order, TimeInForce
from livetrader_core.service import MarketService
from livetrader_core.trade import plan
from livetrader_core.trade.base import TradeBase
from livetrader_core.trade.links import Links


@dataclass(frozen=True)
class Desk:
    """What the trade service does for the orders it holds."""

    find: Callable[[str], Order | None]
    open_orders: Callable[[], list[Order]]
    #: Orders that name this one as parent or group, or any if it is empty.
    linked_orders: Callable[[str], list[Order]]
    adapter: Callable[[str], TradeBase]
    #: Journals and publishes a change.
    change: Callable[[TradeBase, Order], None]
    #: Journals that a held order leaves, and sends it. An error says that it did not leave.
    release: Callable[[Order], None]
    #: Asks the venue to cancel.
    cancel: Callable[[str], Awaitable[None]]


class Admission:
    """Takes new orders that need the server, or says why it cannot help them."""

    def __init__(self, desk: Desk, market: MarketService | None, links: Links) -> None:
        self._desk = desk
        self._market = market
        self._links = links

    async def prepare(self, adapter: TradeBase, order: Order) -> Order:
        """``order`` with the deadline at which the server ends it.

        Raises OrderRejected for what cannot be held, and what the market raises.
        """
        plan.check_possible(order, adapter)
        timed = plan.needs_session(order, adapter.abilities)
        if timed or plan.waits_for_price(order, adapter.abilities):
            contract = await self._market_for(order).get_contract(order.symbol)
            if timed:
                order = order.but(expires_at=_deadline(order, contract, adapter.now(order.symbol)))
        if 0 < order.expires_at <= adapter.now(order.symbol):
            raise OrderRejected(f"order {order.client_order_id}: its expires_at is over already")
        return order

    def _market_for(self, order: Order) -> MarketService:
        if self._market is None:
            raise OrderRejected(
                f"order {order.client_order_id}: the server would have to hold this "
                f"{order.type.value} {order.time_in_force.value} order, and has no market data of "
                f"{order.symbol}; serve its market beside its trading"
            )
        return self._market

    def admit(self, adapter: TradeBase, order: Order) -> Order:
        """``order`` as part of its bracket and OCO group; ``held`` says that it does not leave yet.

        Raises OrderRejected if its bracket or group is over, InvalidRequest if there is none.
        """
        held = plan.lacks_type(order, adapter.abilities)
        if plan.linked_here(order, adapter.abilities):
            order = self._join(order)
            # It joins for good when it is in the journal.
            self._links.add(order)
            reason, asleep = self._links.doom(order), self._links.sleeps(order)
            self._links.remove(order)
            if reason:
                self._links.forget(order.parent, order.oco)
                raise OrderRejected(f"order {order.client_order_id}: {reason}")
            held = held or asleep
        return order.but(held=held)

    def _join(self, order: Order) -> Order:
        if order.oco:
            order = order.but(oco=self._leader(order))
        for name in (order.parent, order.oco):
            if name and name not in self._links:
                self._look_up(order, name)
        return order

    def _look_up(self, order: Order, name: str) -> None:
        named = self._desk.find(name)
        if named is None or name == order.client_order_id:
            raise InvalidRequest(
                f"order {order.client_order_id} names {name}, which is not known here: "
                "create the parent, or the first of the group, before the others"
            )
        self._links.add(named)
        if named.status.is_final:
            # Its other orders may have ended and been forgotten, too.
            for other in self._desk.linked_orders(name):
                self._links.add(other)

    def _leader(self, order: Order) -> str:
        name = order.oco
        while (named := self._desk.find(name)) is not None and named.oco and named.oco != name:
            name = named.oco
        return name


def _deadline(order: Order, contract: Contract, now: int) -> int:
    """When the session of ``order`` ends, or its own ``expires_at`` before that (UTC ms)."""
    end = contract.sessions.close_of(contract.sessions.trading_date(now))
    if order.time_in_force is TimeInForce.GTD and order.expires_at:
        return min(end, order.expires_at)
    return end
