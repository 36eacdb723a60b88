"""What every order must fulfil before anybody asks a venue."""

from __future__ import annotations

import math

from livetrader_core.errors import InvalidRequest
from livetrader_core.models import Offset, Order, OrderType, Side, TimeInForce, market_of
from livetrader_core.timeframe import duration_ms

#: Longest client_order_id that every venue carries.
MAX_ID_LENGTH = 20

_NEEDS_PRICE = (OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP_LIMIT)
_TRAILING = (OrderType.TRAILING_STOP, OrderType.TRAILING_STOP_LIMIT)
_NEEDS_STOP = (OrderType.STOP, OrderType.STOP_LIMIT, *_TRAILING)
_NUMBERS = ("quantity", "price", "stop_price", "trail_amount", "trail_percent")
_MOMENTS = ("expires_at", "as_of")
_ENUMS = {"side": Side, "type": OrderType, "time_in_force": TimeInForce, "offset": Offset}


def check_id(client_order_id: object) -> None:
    """Raise InvalidRequest unless it is 1 to 20 printable ASCII characters without ``;``."""
    usable = (
        isinstance(client_order_id, str)
        and 1 <= len(client_order_id) <= MAX_ID_LENGTH
        and all("!" <= character <= "~" and character != ";" for character in client_order_id)
    )
    if not usable:
        raise InvalidRequest(
            f"client_order_id {client_order_id!r} must be 1 to {MAX_ID_LENGTH} printable ASCII "
            "characters without space and ';'"
        )


def check_order(order: Order) -> None:
    """Raise InvalidRequest, naming the field, unless ``order`` is complete and makes sense."""
    check_id(order.client_order_id)
    market_of(order.symbol)
    duration_ms(order.timeframe)
    name = f"order {order.client_order_id}"
    for field, kind in _ENUMS.items():
        if not isinstance(getattr(order, field), kind):
            raise InvalidRequest(f"{name}: {field} must be a {kind.__name__}")
    for field in _NUMBERS:
        check_number(f"{name}: {field}", getattr(order, field))
    for field in _MOMENTS:
        _check_moment(f"{name}: {field}", getattr(order, field))
    if not order.quantity:
        raise InvalidRequest(f"{name}: quantity must be above 0")
    if order.type in _NEEDS_PRICE and not order.price:
        raise InvalidRequest(f"{name}: a {order.type.value} order needs a price above 0")
    if order.type in _NEEDS_STOP and not order.stop_price:
        raise InvalidRequest(f"{name}: a {order.type.value} order needs a stop_price above 0")
    _check_trail(name, order)
    for field in ("parent", "oco"):
        if getattr(order, field):
            check_id(getattr(order, field))
    if order.time_in_force is TimeInForce.GTD and not order.expires_at:
        raise InvalidRequest(f"{name}: a GTD order needs expires_at (UTC ms)")


def _check_trail(name: str, order: Order) -> None:
    given = [f for f in ("trail_amount", "trail_percent") if getattr(order, f)]
    if order.type in _TRAILING and len(given) != 1:
        raise InvalidRequest(
            f"{name}: a {order.type.value} order needs either trail_amount or trail_percent"
        )
    if order.type not in _TRAILING and given:
        raise InvalidRequest(f"{name}: {given[0]} is for trailing orders only")


def check_number(name: str, value: object) -> None:
    """Raise InvalidRequest unless ``value`` is a finite number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidRequest(f"{name} must be a number, not {value!r}")
    if not math.isfinite(value) or value < 0:
        raise InvalidRequest(f"{name} must be finite and not negative, not {value!r}")


def _check_moment(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidRequest(f"{name} must be a time in UTC milliseconds, not {value!r}")
