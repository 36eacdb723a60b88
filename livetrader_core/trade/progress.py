"""How an order's state moves on: what is known of it, and what a venue reports now.

Reports can overtake one another: a fill before the answer to the order itself, an old state after
a newer one. An order only moves forward; a fill counts whenever it comes.
"""

from __future__ import annotations

from livetrader_core.models import Fill, Order, OrderStatus

_STEP = {
    OrderStatus.CREATED: 0,
    OrderStatus.SUBMITTED: 1,
    OrderStatus.UNKNOWN: 2,
    OrderStatus.ACCEPTED: 3,
    OrderStatus.PARTIALLY_FILLED: 4,
    OrderStatus.FILLED: 5,
    OrderStatus.CANCELED: 5,
    OrderStatus.EXPIRED: 5,
    OrderStatus.REJECTED: 5,
}


def combine(
    known: Order | None, reported: Order, fill: Fill | None = None, fills_sum: float = 0.0
) -> Order:
    """The order after ``reported``; ``fills_sum`` is the sum of its fills with ``fill``.

    ``known`` is None for an order that somebody else placed.
    """
    if known is None:
        return reported
    filled = max(known.filled, reported.filled, fills_sum)
    status = _status(known, reported, filled)
    stale = _STEP[reported.status] < _STEP[known.status]
    base = known if stale or known.status.is_final else reported
    return base.but(
        client_order_id=known.client_order_id,
        order_id=reported.order_id or known.order_id,
        status=status,
        filled=filled,
        average_price=_average(known, reported, fill, filled),
        reason="" if status is OrderStatus.FILLED else base.reason,
        created_at=known.created_at or reported.created_at,
    )


def _status(known: Order, reported: Order, filled: float) -> OrderStatus:
    if filled >= known.quantity and filled >= reported.quantity:
        return OrderStatus.FILLED
    if known.status.is_final:
        return known.status
    status = max(known.status, reported.status, key=_STEP.__getitem__)
    if filled and _STEP[status] < _STEP[OrderStatus.PARTIALLY_FILLED]:
        return OrderStatus.PARTIALLY_FILLED
    return status


def _average(known: Order, reported: Order, fill: Fill | None, filled: float) -> float:
    if reported.filled == filled and reported.average_price:
        return reported.average_price
    if fill is not None and filled > known.filled:
        return (known.filled * known.average_price + fill.quantity * fill.price) / filled
    return known.average_price
