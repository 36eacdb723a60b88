"""What a strategy asks for, made into an order: alike in every mode."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import backtrader as bt

from livetrader_bt.feed import LiveTraderData
from livetrader_bt.rules import (
    HISTORICAL,
    fault_in,
    fault_in_parent,
    fault_in_trail,
    feed_of,
    livetrader_feeds,
    now_of,
    on_grid,
    valid_until,
)
from livetrader_bt.terms import settle_terms


@dataclass
class Wish:
    """The arguments of ``buy`` and ``sell``, as ``bt.BrokerBase`` has them."""

    make: Any
    owner: Any
    data: Any
    size: float
    price: float | None = None
    plimit: float | None = None
    exectype: int | None = None
    valid: Any = None
    tradeid: int = 0
    oco: Any = None
    trailamount: float | None = None
    trailpercent: float | None = None
    parent: Any = None
    transmit: bool = True
    info: dict[str, Any] = field(default_factory=dict)


def buying(owner: Any, data: Any, size: float, *args: Any, **kwargs: Any) -> Wish:
    """The wish behind ``broker.buy(…)``."""
    return _wish(bt.order.BuyOrder, owner, data, size, *args, **kwargs)


def selling(owner: Any, data: Any, size: float, *args: Any, **kwargs: Any) -> Wish:
    """The wish behind ``broker.sell(…)``."""
    return _wish(bt.order.SellOrder, owner, data, size, *args, **kwargs)


_NAMES = frozenset(Wish.__dataclass_fields__) - {"info"}


def _wish(make: Any, owner: Any, data: Any, size: float, *args: Any, **kwargs: Any) -> Wish:
    info = {name: kwargs.pop(name) for name in list(kwargs) if name not in _NAMES}
    wish = Wish(make, owner, data, size, *args, **kwargs)
    wish.info = info
    return wish


def order_for(wish: Wish, cerebro: Any, live_from: float) -> tuple[bt.Order, str]:
    """The order that ``wish`` asks for, and why it must be refused, or nothing.

    Orders of moments up to ``live_from`` (UTC ms) are refused.
    """
    feed = feed_of(wish.data)
    if feed is None:
        return _refusable(wish, wish.data, 0), f"{wish.data._name} is not a feed of livetrader"
    now = now_of(livetrader_feeds(cerebro))
    if reason := _fault(wish, feed, now, live_from):
        return _refusable(wish, feed, now), reason
    contract = feed.contract
    order = wish.make(
        owner=wish.owner,
        data=feed,
        size=abs(contract.round_quantity(wish.size)),
        price=on_grid(contract, wish.price),
        pricelimit=on_grid(contract, wish.plimit),
        exectype=wish.exectype,
        valid=valid_until(feed, wish.valid) if len(feed) else None,
        tradeid=wish.tradeid,
        trailamount=wish.trailamount,
        trailpercent=wish.trailpercent,
        parent=wish.parent,
        transmit=wish.transmit,
        simulated=not len(feed),
        histnotify=wish.info.pop("histnotify", False),
    )
    order.addinfo(as_of=now, **wish.info)
    return order, settle_terms(order, now)


def _refusable(wish: Wish, data: Any, now: int) -> bt.Order:
    order = wish.make(
        owner=wish.owner,
        data=data,
        size=wish.size,
        exectype=bt.Order.Market if wish.exectype is None else wish.exectype,
        tradeid=wish.tradeid,
        parent=wish.parent,
        transmit=wish.transmit,
        simulated=True,
        price=wish.price or 1.0,
    )
    order.p.simulated = not len(data)
    order.addinfo(as_of=now, **wish.info)
    return order


def _fault(wish: Wish, feed: LiveTraderData, now: int, live_from: float) -> str:
    limits = (wish.price, wish.plimit)
    no_bar = not len(feed) and wish.exectype not in (None, bt.Order.Market) and not wish.price
    return (
        fault_in(feed.contract, wish.size, *limits)
        or fault_in_trail(wish.exectype, wish.trailamount, wish.trailpercent)
        or (f"{feed.symbol} has no bar yet to take a price from" if no_bar else "")
        or (HISTORICAL if now <= live_from else "")
        or fault_in_parent(wish.parent)
    )
