"""How an order's state moves on: what is known of it, and what a venue reports now.

Reports can overtake one another: a fill before the answer to the order itself, an old state after
a newer one. An order only moves forward; a fill counts whenever it comes.
"""

from __future__ import annotations

from livetrader_core.models import Fill, Order, OrderStatus

#: How far each status is on an order's way; it only goes on, except from the server to a venue.
STEP = {
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

    ``known`` is None for an order that somebody else placed. What the client wished stays as it
    wished it, also where the venue got something simpler.
    """
    if known is None:
        return reported
    filled = max(known.filled, reported.filled, fills_sum)
    stale = _stale(known, reported)
    status = _status(known, reported, filled, stale)
    base = known if stale or known.status.is_final else _as_wished(known, reported)
    return base.but(
        client_order_id=known.client_order_id,
        order_id=reported.order_id or known.order_id,
        status=status,
        filled=filled,
        average_price=_average(known, reported, fill, filled),
        reason="" if status is OrderStatus.FILLED else base.reason,
        created_at=known.created_at or reported.created_at,
    )


def _stale(known: Order, reported: Order) -> bool:
    # A held order has not left yet, although it was accepted: being sent is its next step.
    if known.held and not reported.held:
        return False
    return STEP[reported.status] < STEP[known.status]


def _as_wished(known: Order, reported: Order) -> Order:
    wished = reported.but(
        type=known.type,
        time_in_force=known.time_in_force,
        expires_at=reported.expires_at or known.expires_at,
        parent=known.parent,
        oco=known.oco,
    )
    if reported.type is known.type:
        return wished
    return wished.but(
        price=reported.price or known.price,
        stop_price=known.stop_price,
        trail_amount=known.trail_amount,
        trail_percent=known.trail_percent,
    )


def _status(known: Order, reported: Order, filled: float, stale: bool) -> OrderStatus:
    if filled >= known.quantity and filled >= reported.quantity:
        return OrderStatus.FILLED
    if known.status.is_final:
        return known.status
    status = known.status if stale else reported.status
    if filled and STEP[status] < STEP[OrderStatus.PARTIALLY_FILLED]:
        return OrderStatus.PARTIALLY_FILLED
    return status


def _average(known: Order, reported: Order, fill: Fill | None, filled: float) -> float:
    if reported.filled == filled and reported.average_price:
        return reported.average_price
    if fill is not None and filled > known.filled:
        return (known.filled * known.average_price + fill.quantity * fill.price) / filled
    return known.average_price
