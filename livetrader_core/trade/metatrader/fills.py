"""An order after one more fill."""

from __future__ import annotations

from livetrader_core.models import Fill, Order, OrderStatus


def with_fill(order: Order, fill: Fill) -> Order:
    """``order`` with ``fill`` counted: filled, or filled in part."""
    filled = round(order.filled + fill.quantity, 8)
    cost = order.filled * order.average_price + fill.quantity * fill.price
    done = filled >= order.quantity - 1e-9
    return order.but(
        status=OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED,
        filled=filled,
        average_price=cost / filled,
        reason="",
    )
