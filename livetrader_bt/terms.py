"""An order's terms: as backtrader has them after creation, on the contract's grid, on the wire."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import backtrader as bt

from livetrader_bt.feed import LiveTraderData
from livetrader_bt.rules import on_grid
from livetrader_bt.times import to_ms, to_num
from livetrader_core.models import Order, OrderType, Side, TimeInForce

TYPES = {
    bt.Order.Market: OrderType.MARKET,
    bt.Order.Close: OrderType.CLOSE,
    bt.Order.Limit: OrderType.LIMIT,
    bt.Order.Stop: OrderType.STOP,
    bt.Order.StopLimit: OrderType.STOP_LIMIT,
    bt.Order.StopTrail: OrderType.TRAILING_STOP,
    bt.Order.StopTrailLimit: OrderType.TRAILING_STOP_LIMIT,
}
TRAILING = (bt.Order.StopTrail, bt.Order.StopTrailLimit)
_PRICED = (bt.Order.Limit, bt.Order.Stop, bt.Order.StopLimit, *TRAILING)


def settle_terms(order: bt.Order, as_of: int) -> str:
    """Put a new order's prices on the tick, its day and its close on the trading day.

    ``as_of`` is the moment at which it was issued (UTC ms). Returns why the order cannot be, or
    nothing.
    """
    feed: LiveTraderData = order.data
    if order.exectype in _PRICED:
        put_on_tick(order)
        if order.created.price <= 0 or order.created.pricelimit <= 0:
            return f"its stop would stand at {order.created.price:g}"
    order.dteos = to_num(feed.stamp_of_close(as_of))
    if is_day(order):
        order.valid = to_num(feed.last_stamp_of_day(as_of))
    return ""


def put_on_tick(order: bt.Order) -> None:
    """Round the prices of ``order``; a trailing limit keeps its distance to the stop."""
    contract, created = order.data.contract, order.created
    created.price = contract.round_price(created.price)
    if order.exectype == bt.Order.StopTrailLimit:
        created.pricelimit = contract.round_price(created.price - order._limitoffset)
    else:
        created.pricelimit = on_grid(contract, created.pricelimit)


def is_day(order: bt.Order) -> bool:
    """Whether ``order`` was asked to live as long as the trading day."""
    valid = order.p.valid
    return isinstance(valid, timedelta) and not valid


def wire_order(order: bt.Order, client_order_id: str, parent: str = "", oco: str = "") -> Order:
    """``order`` as it leaves; ``parent`` and ``oco`` are client_order_ids."""
    feed: LiveTraderData = order.data
    kind, created = TYPES[order.exectype], order.created
    price, stop_price = wire_prices(order.exectype, created.price, created.pricelimit)
    time_in_force, expires_at = _lifetime(order, feed)
    trailing = order.exectype in TRAILING
    return Order(
        client_order_id=client_order_id,
        symbol=feed.symbol,
        side=Side.BUY if order.isbuy() else Side.SELL,
        type=kind,
        quantity=abs(order.size),
        price=price or 0.0,
        stop_price=stop_price or 0.0,
        time_in_force=time_in_force,
        expires_at=expires_at,
        as_of=order.info.as_of,
        timeframe=feed.timeframe_name,
        trail_amount=(order.trailamount or 0.0) if trailing else 0.0,
        trail_percent=(order.trailpercent or 0.0) if trailing and not order.trailamount else 0.0,
        parent=parent,
        oco=oco,
    )


def wire_prices(
    exectype: int, price: float | None, plimit: float | None
) -> tuple[float | None, float | None]:
    """backtrader's price and limit of an order type as the wire's price and stop_price."""
    if exectype == bt.Order.Limit:
        return price, None
    if exectype in (bt.Order.Stop, bt.Order.StopTrail):
        return None, price
    if exectype in (bt.Order.StopLimit, bt.Order.StopTrailLimit):
        return plimit, price
    return None, None


def bt_prices(exectype: int, wire: Order) -> tuple[float, float]:
    """The wire's prices as backtrader's price and limit of an order type."""
    if exectype == bt.Order.Limit:
        return wire.price, wire.price
    if exectype in (bt.Order.StopLimit, bt.Order.StopTrailLimit):
        return wire.stop_price, wire.price
    return wire.stop_price, wire.stop_price


def _lifetime(order: bt.Order, feed: LiveTraderData) -> tuple[TimeInForce, int]:
    """The time in force, and the last moment (UTC ms) at which a bar may close and still fill."""
    if not order.valid or order.exectype == bt.Order.Market:
        return TimeInForce.GTC, 0
    if is_day(order):
        return TimeInForce.DAY, 0
    return TimeInForce.GTD, feed.close_of_stamp(to_ms(order.valid))


def change_terms(
    order: bt.Order, size: float | None, price: float | None, plimit: float | None
) -> bool:
    """Give ``order`` a new size (in all, without sign) and new prices; None leaves one as it is.

    Says whether anything changed.
    """
    created = order.created
    before = created.size, created.price, created.pricelimit
    if size is not None:
        signed = size if order.isbuy() else -size
        order.size = created.size = signed
        contract = order.data.contract
        order.executed.remsize = contract.snap_quantity(signed - order.executed.size)
    if price is not None:
        created.price = price
        if order.exectype in (bt.Order.Limit, bt.Order.Stop, bt.Order.StopTrail):
            created.pricelimit = price
    if plimit is not None:
        created.pricelimit = plimit
    if order.exectype == bt.Order.StopTrailLimit and (price is not None or plimit is not None):
        order._limitoffset = created.price - created.pricelimit
    return before != (created.size, created.price, created.pricelimit)


def exectype_of(kind: OrderType) -> Any:
    """backtrader's order type for ours."""
    return next(exectype for exectype, ours in TYPES.items() if ours is kind)
