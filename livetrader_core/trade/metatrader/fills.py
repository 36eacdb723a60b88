"""An order after one more fill."""

from __future__ import annotations

from livetrader_core.models import Fill, Order, OrderStatus


def with_fill(order: Order, fill: Fill) -> Order:
    """``order`` with ``fill`` counted: filled, or filled in part."""
    filled = round(order.filled + fill.quantity, 8)
    cost = order.filled * order.average_price + fill.quantity * fill.price
    return order.but(
        status=_status(order, filled),
        filled=filled,
        average_price=cost / filled,
        reason=order.reason if order.status is OrderStatus.CANCELED else "",
    )


def _status(order: Order, filled: float) -> OrderStatus:
    if filled >= order.quantity - 1e-9:
        return OrderStatus.FILLED
    # It may be told of what was done before the end after it.
    return OrderStatus.CANCELED if order.status.is_final else OrderStatus.PARTIALLY_FILLED
