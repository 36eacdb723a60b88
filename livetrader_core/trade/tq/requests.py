"""Orders of ours as the venue takes them."""

from __future__ import annotations

from livetrader_core.errors import OrderRejected
from livetrader_core.models import Contract, Order, OrderType, Side, TimeInForce, market_of
from livetrader_core.trade.tq.offsets import Part
from livetrader_core.trade.tq.parts import PartId
from livetrader_core.trade.tq.worker import Request

#: Exchanges that have no market orders.
_NO_MARKET_ORDERS = frozenset({"SHFE", "INE", "CFFEX"})
#: An exchange whose futures know no FOK.
_NO_FOK = "CZCE"
_ADVANCED = {TimeInForce.IOC: "FAK", TimeInForce.FOK: "FOK"}


def no_market_orders(symbol: str) -> bool:
    """Whether the exchange of ``symbol`` has limit orders only."""
    return market_of(symbol) in _NO_MARKET_ORDERS


def check(order: Order, contract: Contract) -> None:
    """Raise OrderRejected for what no exchange takes: parts of lots, prices between ticks."""
    name = f"order {order.client_order_id}"
    if order.quantity != round(order.quantity):
        raise OrderRejected(f"{name}: {order.quantity:g} lots of {order.symbol}: whole ones only")
    if order.type not in (OrderType.MARKET, OrderType.LIMIT):
        raise OrderRejected(f"{name}: {order.symbol} has market and limit orders only")
    if order.time_in_force is TimeInForce.FOK and market_of(order.symbol) == _NO_FOK:
        raise OrderRejected(f"{name}: {_NO_FOK} has no fok orders; use ioc")
    price, tick = order.price, contract.price_tick
    if order.type is OrderType.LIMIT and abs(contract.round_price(price) - price) > tick * 1e-6:
        raise OrderRejected(
            f"{name}: {price:g} is no price of {order.symbol}: its tick is {tick:g}"
        )


def request_of(order: Order, number: int, part: Part, price: float | None) -> Request:
    """What is sent for ``part``, the ``number``-th (from 1) of ``order``."""
    return Request(
        str(PartId(order.client_order_id, number, round(order.quantity))),
        order.symbol,
        "BUY" if order.side is Side.BUY else "SELL",
        part.offset,
        part.volume,
        price,
        _ADVANCED.get(order.time_in_force),
    )
