"""Which positions an order closes, and what it opens.

SHFE and INE tell positions by the day they were opened: CLOSE is for those of earlier days and
CLOSETODAY for today's. Elsewhere CLOSE is for both. What was opened first is closed first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from livetrader_core.errors import OrderRejected
from livetrader_core.models import Offset, Order, Side, market_of
from livetrader_core.trade.tq.books import Holding, VenueOrder

#: Exchanges that tell today's positions from earlier ones.
BY_DAY = frozenset({"SHFE", "INE"})

OPEN, CLOSE, CLOSE_TODAY = "OPEN", "CLOSE", "CLOSETODAY"


class Part(NamedTuple):
    """What of an order is sent with one offset."""

    offset: str
    volume: int


def split(order: Order, holding: Holding, working: Iterable[VenueOrder]) -> list[Part]:
    """The parts that ``order`` is sent in, closing ones first; ``working``: orders of its symbol.

    Raises OrderRejected if it is to close more than there is to be closed.
    """
    volume = round(order.quantity)
    if order.offset is Offset.OPEN:
        return [Part(OPEN, volume)]
    closable = _closable(order, holding, working)
    if order.offset is Offset.CLOSE_TODAY and market_of(order.symbol) in BY_DAY:
        closable = [part for part in closable if part.offset == CLOSE_TODAY]
    parts = []
    left = volume
    for part in closable:
        taken = min(left, part.volume)
        if taken > 0:
            parts.append(Part(part.offset, taken))
            left -= taken
    if not left:
        return parts
    if order.offset is not Offset.AUTO:
        raise OrderRejected(
            f"order {order.client_order_id}: {order.offset.value} of {volume} lots of "
            f"{order.symbol}, and only {volume - left} can be closed; send it with offset auto"
        )
    return [*parts, Part(OPEN, left)]


def _closable(order: Order, holding: Holding, working: Iterable[VenueOrder]) -> list[Part]:
    """What can be closed, oldest first: what is held less what working orders already close."""
    buys = order.side is Side.BUY
    before = holding.short_before if buys else holding.long_before
    today = holding.short_today if buys else holding.long_today
    direction = "BUY" if buys else "SELL"
    taken = {CLOSE: 0, CLOSE_TODAY: 0}
    for one in working:
        if one.symbol == order.symbol and one.direction == direction and one.closes:
            taken[one.offset] = taken.get(one.offset, 0) + one.left
    if market_of(order.symbol) in BY_DAY:
        return [Part(CLOSE, before - taken[CLOSE]), Part(CLOSE_TODAY, today - taken[CLOSE_TODAY])]
    return [Part(CLOSE, before + today - sum(taken.values()))]
