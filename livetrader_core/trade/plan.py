"""What a venue cannot do by itself, and what it is sent instead.

Decided from the order and the venue's abilities alone, so that a restart decides the same again.
"""

from __future__ import annotations

from livetrader_core.errors import OrderRejected
from livetrader_core.models import Order, OrderStatus, OrderType, TimeInForce
from livetrader_core.trade.base import Abilities, TradeBase

#: What an order of a type that the venue lacks becomes when its moment has come.
_SENT_AS = {
    OrderType.STOP: OrderType.MARKET,
    OrderType.STOP_LIMIT: OrderType.LIMIT,
    OrderType.TRAILING_STOP: OrderType.MARKET,
    OrderType.TRAILING_STOP_LIMIT: OrderType.LIMIT,
    OrderType.CLOSE: OrderType.MARKET,
}
_DEADLINES = (TimeInForce.DAY, TimeInForce.GTD)


def lacks_type(order: Order, abilities: Abilities) -> bool:
    """Whether the venue has no orders of this type."""
    return order.type not in abilities.types


def waits_for_price(order: Order, abilities: Abilities) -> bool:
    """Whether the server waits for a price before it sends the order."""
    return lacks_type(order, abilities) and order.type is not OrderType.CLOSE


def linked_here(order: Order, abilities: Abilities) -> bool:
    """Whether the server minds the order's bracket or OCO group."""
    return bool(order.parent or order.oco) and not abilities.linked


def timed_here(order: Order, abilities: Abilities) -> bool:
    """Whether the server ends the order at its ``expires_at``, also when it works at the venue."""
    if order.type is OrderType.CLOSE and lacks_type(order, abilities):
        return True
    lacking = order.time_in_force not in abilities.times_in_force
    return order.time_in_force in _DEADLINES and lacking


def needs_server(order: Order, abilities: Abilities) -> bool:
    """Whether the venue lacks anything that the order asks for."""
    return (
        lacks_type(order, abilities)
        or order.time_in_force not in abilities.times_in_force
        or linked_here(order, abilities)
    )


def needs_session(order: Order, abilities: Abilities) -> bool:
    """Whether the end of the order's session must be known."""
    if order.type is OrderType.CLOSE:
        return lacks_type(order, abilities)
    return order.time_in_force is TimeInForce.DAY and needs_server(order, abilities)


def check_possible(order: Order, adapter: TradeBase) -> None:
    """Raise OrderRejected for what neither the venue nor the server can do."""
    abilities, venue = adapter.abilities, type(adapter).__name__
    name = f"order {order.client_order_id}"
    if lacks_type(order, abilities):
        if order.type not in _SENT_AS:
            raise OrderRejected(f"{name}: {venue} has no {order.type.value} orders")
        if abilities.linked and (order.parent or order.oco):
            raise OrderRejected(
                f"{name}: {venue} links orders by itself and has no {order.type.value} orders; "
                "send it without parent and oco"
            )
    if order.time_in_force not in (*abilities.times_in_force, *_DEADLINES, TimeInForce.GTC):
        known = ", ".join(sorted(t.value for t in abilities.times_in_force))
        raise OrderRejected(
            f"{name}: {venue} has no {order.time_in_force.value} orders, and the server cannot "
            f"hold one; {venue} has {known}"
        )


def as_sent(order: Order, abilities: Abilities) -> Order:
    """``order`` as the venue gets it: of a type, with a time in force and without links it lacks.

    Its client_order_id is the same; the order itself, in the journal, keeps what the client wished.
    """
    sent = order
    if lacks_type(order, abilities) and order.type in _SENT_AS:
        kind = _SENT_AS[order.type]
        price = order.price if kind is OrderType.LIMIT else 0.0
        sent = sent.but(type=kind, price=price, stop_price=0.0, trail_amount=0.0, trail_percent=0.0)
    if timed_here(order, abilities) or order.time_in_force not in abilities.times_in_force:
        sent = sent.but(time_in_force=_longest(abilities), expires_at=0)
    if linked_here(order, abilities):
        sent = sent.but(parent="", oco="")
    return sent


def _longest(abilities: Abilities) -> TimeInForce:
    # Some exchanges end every order with the day.
    only_day = TimeInForce.GTC not in abilities.times_in_force
    return TimeInForce.DAY if only_day else TimeInForce.GTC


def with_own_end(known: Order | None, reported: Order, adapter: TradeBase, clock: int) -> Order:
    """``reported``, as expired if the server's cancellation at its deadline (UTC ms) ended it."""
    if (
        known is None
        or reported.status is not OrderStatus.CANCELED
        or not timed_here(known, adapter.abilities)
        # The venue's events may be stamped a little behind its clock.
        or max(clock, adapter.now(known.symbol)) < known.expires_at
    ):
        return reported
    return reported.but(status=OrderStatus.EXPIRED, reason=reported.reason or "its time was over")
