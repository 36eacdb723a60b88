"""Orders and positions of before this run, as backtrader's own."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import backtrader as bt

from livetrader_bt.account import TradeSums
from livetrader_bt.feed import LiveTraderData
from livetrader_bt.terms import bt_prices, exectype_of
from livetrader_bt.times import to_num
from livetrader_core.models import Order, OrderStatus, OrderType, Side, TimeInForce


def feed_for(order: Order, feeds: Iterable[LiveTraderData]) -> LiveTraderData | None:
    """The feed that ``order`` belongs to: of its symbol, of its timeframe if there is one."""
    own = [feed for feed in feeds if feed.symbol == order.symbol]
    exact = [feed for feed in own if feed.timeframe_name == order.timeframe]
    return next(iter([*exact, *own]), None)


def adopted_order(wire: Order, feed: LiveTraderData, broker: Any) -> bt.Order:
    """The order of an earlier run, as far as it came.

    Its owner is the first strategy. ``info`` has ``adopted=True`` beside what every order has.
    """
    make = bt.order.BuyOrder if wire.side is Side.BUY else bt.order.SellOrder
    exectype = exectype_of(wire.type)
    price, plimit = bt_prices(exectype, wire)
    order = make(
        data=feed,
        size=wire.quantity,
        price=price or wire.average_price or 1.0,
        pricelimit=plimit if wire.type is OrderType.STOP_LIMIT else None,
        exectype=exectype,
        trailamount=wire.trail_amount or None,
        trailpercent=wire.trail_percent or None,
        simulated=True,  # it is not made of a bar: there is none yet
    )
    order.p.simulated = False
    _set_terms(order, wire, price, plimit)
    order.submit(broker)
    if wire.status not in (OrderStatus.SUBMITTED, OrderStatus.UNKNOWN):
        order.accept(broker)
    if wire.filled:
        _set_executed(order, wire)
    order.addinfo(client_order_id=wire.client_order_id, as_of=wire.as_of, adopted=True)
    if wire.reason:
        order.addinfo(reason=wire.reason)
    return order


def _set_terms(order: bt.Order, wire: Order, price: float, plimit: float) -> None:
    order.created.dt = to_num(wire.as_of or wire.created_at)
    order.created.price, order.created.pricelimit = price, plimit
    if wire.type is OrderType.TRAILING_STOP_LIMIT:
        order._limitoffset = price - plimit
    if wire.time_in_force is TimeInForce.GTD and wire.expires_at:
        order.valid = to_num(wire.expires_at)


def _set_executed(order: bt.Order, wire: Order) -> None:
    signed = wire.side.sign * wire.filled
    executed = order.executed
    executed.dt = to_num(wire.updated_at)
    executed.size, executed.price = signed, wire.average_price
    executed.remsize = order.data.contract.snap_quantity(order.size - signed)
    order.partial()


def open_trades(
    strategies: Iterable[Any], feeds: Iterable[LiveTraderData], broker: Any, sums: TradeSums
) -> None:
    """Give every strategy a trade for each position that the account holds at the start.

    Without it, what closes such a position would count as a trade of its own, in the other
    direction.
    """
    seen: set[str] = set()
    for feed in feeds:
        position = broker.getposition(feed)
        if position.size and feed.symbol not in seen:
            seen.add(feed.symbol)
            for strategy in strategies:
                sums.begin(strategy, feed, position.size)
                _open_trade(strategy, feed, position, broker)


def _open_trade(strategy: Any, feed: LiveTraderData, position: bt.Position, broker: Any) -> None:
    info = broker.getcommissioninfo(feed)
    trade = bt.Trade(
        data=feed,
        historyon=strategy._tradehistoryon,
        size=position.size,
        price=position.price,
        value=info.getvaluesize(position.size, position.price),
    )
    trade.justopened = trade.isopen = True
    trade.long = position.size > 0
    trade.status = trade.Open
    strategy._trades[feed][0] = [trade]
    told = copy.copy(trade)
    strategy._tradespending.append(told)
    if strategy.cerebro.p.quicknotify:
        strategy._notify(qtrades=[told])
