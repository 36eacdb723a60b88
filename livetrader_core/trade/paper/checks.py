"""What the paper venue does not take, in orders and in its settings."""

from __future__ import annotations

import math
from collections.abc import Mapping

from livetrader_core.errors import ConfigError, InvalidRequest, OrderRejected
from livetrader_core.models import Contract, Order, OrderType, TimeInForce
from livetrader_core.trade.request import check_number

_AT_ONCE = (TimeInForce.IOC, TimeInForce.FOK)
_PLAIN = (OrderType.MARKET, OrderType.LIMIT)


def cash_by_currency(cash: float | Mapping[str, float], currency: str) -> dict[str, float]:
    """The setting ``cash`` as amounts by currency. Raises ConfigError."""
    amounts = dict(cash) if isinstance(cash, Mapping) else {currency: cash}
    for code, amount in amounts.items():
        check_setting(f"cash in {code}", amount)
    return amounts


def check_setting(name: str, value: object) -> None:
    """Raise ConfigError unless ``value`` is a finite number that is not negative."""
    try:
        check_number(name, value)
    except InvalidRequest as error:
        raise ConfigError(f"PaperTrade: {error}") from None


def check_times(order: Order) -> None:
    """Raise OrderRejected for an order that cannot be filled at once or not at all."""
    if order.time_in_force in _AT_ONCE and order.type not in _PLAIN:
        raise OrderRejected(
            f"order {order.client_order_id}: {order.time_in_force.value} is for market and limit "
            f"orders; a {order.type.value} order waits"
        )


def check_grid(order: Order, contract: Contract) -> None:
    """Raise OrderRejected for parts of steps and prices between ticks."""
    name = f"order {order.client_order_id}: {order.symbol}"
    if not _on_grid(order.quantity, contract.quantity_step):
        raise OrderRejected(
            f"{name}: quantity {order.quantity!r} is not a multiple of {contract.quantity_step:g}"
        )
    if order.quantity < contract.min_quantity - 1e-12:
        raise OrderRejected(
            f"{name}: quantity {order.quantity!r} is below the minimum {contract.min_quantity:g}"
        )
    for field in ("price", "stop_price"):
        value = getattr(order, field)
        if not _on_grid(value, contract.price_tick):
            raise OrderRejected(
                f"{name}: {field} {value!r} is not a multiple of the tick {contract.price_tick:g}"
            )


def _on_grid(value: float, step: float) -> bool:
    steps = value / step
    return math.isclose(steps, round(steps), rel_tol=1e-9, abs_tol=1e-6)
