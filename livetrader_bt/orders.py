"""The orders of one broker: what the venues tell of them, told on as backtrader has it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import backtrader as bt

from livetrader_bt.account import Account, TradeSums
from livetrader_bt.terms import TRAILING, bt_prices, change_terms
from livetrader_bt.times import to_num
from livetrader_core.models import Fill, Order, OrderStatus, TradeEvent

if TYPE_CHECKING:
    from livetrader_bt.feed import LiveTraderData

log = logging.getLogger(__name__)


@dataclass
class Known:
    """An order as backtrader has it, and as the venue told of it last."""

    order: bt.Order
    wire: Order


class Orders:
    """Orders by client_order_id.

    ``notify`` is called with an order of which there is something to tell.
    """

    def __init__(self, account: Account, notify: Callable[[bt.Order], None]) -> None:
        self._account = account
        self._notify = notify
        self._known: dict[str, Known] = {}
        self.trades = TradeSums()

    def add(self, order: bt.Order, wire: Order) -> None:
        """Follow ``order``, which leaves as ``wire``."""
        self._known[wire.client_order_id] = Known(order, wire)

    def get(self, order: bt.Order) -> Known | None:
        """What is known of ``order``; None if it never left."""
        known = self._known.get(order.info.get("client_order_id"))
        return known if known is not None and known.order.ref == order.ref else None

    def alive(self) -> list[Known]:
        """Those that still work."""
        return [known for known in self._known.values() if known.order.alive()]

    # ---- what is told

    def follow(self, event: TradeEvent) -> None:
        """Take an event of the account."""
        known = self._known.get(event.order.client_order_id)
        if event.fill is not None:
            self._fill(known, event.fill)
        if known is None or not known.order.alive():
            return
        order, before, known.wire = known.order, known.wire, event.order
        if event.order.reason:
            order.addinfo(reason=event.order.reason)
        changed = self._take_terms(order, before, event.order)
        if self._take_status(order, event.order) or changed:
            self._notify(order)

    def _take_terms(self, order: bt.Order, before: Order, after: Order) -> bool:
        """Take changed terms over; whether the strategy should hear of it."""
        terms = (after.quantity, after.price, after.stop_price)
        if terms == (before.quantity, before.price, before.stop_price):
            return False
        change_terms(order, after.quantity, *bt_prices(order.exectype, after))
        return after.quantity != before.quantity or order.exectype not in TRAILING

    @staticmethod
    def _take_status(order: bt.Order, wire: Order) -> bool:
        """Move ``order`` to the venue's status; whether that is new."""
        status = wire.status
        if status is OrderStatus.ACCEPTED and order.status == bt.Order.Submitted:
            order.accept(order.broker)
        elif status is OrderStatus.CANCELED:
            order.cancel()
        elif status is OrderStatus.EXPIRED:
            bt.order.OrderBase.expire(order)
            order.executed.dt = order.data.datetime[0] if len(order.data) else 0.0
        elif status is OrderStatus.REJECTED and wire.reason == "margin":
            order.margin()
        elif status is OrderStatus.REJECTED:
            order.reject(order.broker)
        elif status is OrderStatus.FILLED and not order.executed.remsize:
            order.completed()  # the venue made it as small as what was filled
        else:
            return status is OrderStatus.UNKNOWN
        return True

    def _fill(self, known: Known | None, fill: Fill) -> None:
        size = fill.side.sign * fill.quantity
        done = self._account.apply(fill.symbol, size, fill.price, fill.commission)
        if known is None:
            return  # another client's order: the position is the account's all the same
        order = known.order
        info = self._account.commission(fill.symbol)
        closed, opened = self.trades.exact(order, done.closed, done.opened)
        order.execute(
            _stamp(order.data, fill),
            done.size,
            done.price,
            closed,
            done.closed_value,
            done.closed_commission,
            opened,
            done.opened_value,
            done.opened_commission,
            info.margin,
            done.profit,
            done.position_size,
            done.position_price,
        )
        _settle_rest(order)
        order.addcomminfo(info)
        self._notify(order)

    # ---- what became of requests

    def reject(self, wire: Order, reason: str) -> None:
        """An order certainly never reached a venue."""
        known = self._known.get(wire.client_order_id)
        if known is not None and known.order.alive():
            known.order.addinfo(reason=reason)
            known.order.reject(known.order.broker)
            self._notify(known.order)

    def note(self, client_order_id: str, reason: str) -> None:
        """Something to know of an order that still works."""
        known = self._known.get(client_order_id)
        if known is not None and known.order.alive():
            known.order.addinfo(reason=reason)
            self._notify(known.order)


def _settle_rest(order: bt.Order) -> None:
    """What is left of the order, without what rounding leaves of a sum of fractions."""
    order.executed.remsize = order.data.contract.snap_quantity(order.executed.remsize)
    if not order.executed.remsize:
        order.completed()


def _stamp(feed: LiveTraderData, fill: Fill) -> float:
    """The stamp of the bar that ``fill`` fell in."""
    return to_num(feed.stamp_of(fill.kline) if fill.kline else fill.datetime)
