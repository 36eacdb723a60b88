"""What every broker here does alike with an order before it goes anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import backtrader as bt

from livetrader_bt.feed import LiveTraderData, base_feed
from livetrader_core.models import Contract

#: Told to the strategy in ``order.info.reason``.
HISTORICAL = "the bar is history: orders on it never leave"


def livetrader_feeds(cerebro: Any) -> list[LiveTraderData]:
    """The feeds of ``cerebro`` that are ours, without clones."""
    return [data for data in cerebro.datas if isinstance(data, LiveTraderData)]


def now_of(feeds: Iterable[LiveTraderData]) -> int:
    """The moment the strategy sees: the latest close among the current bars (UTC ms)."""
    return max((feed.bar_close() for feed in feeds), default=0)


def feed_of(data: Any) -> LiveTraderData | None:
    """The feed of ours behind ``data``, or None."""
    feed = base_feed(data)
    return feed if isinstance(feed, LiveTraderData) else None


def symbols_of(datas: Iterable[Any]) -> list[str]:
    """The symbols of the feeds of ours among ``datas``."""
    feeds = (feed_of(data) for data in datas)
    return [feed.symbol for feed in feeds if feed is not None]


def fault_in(contract: Contract, size: float, *prices: float | None) -> str:
    """Why nobody could trade an order of ``size`` at ``prices``; empty if somebody could."""
    if not math.isfinite(size):
        return f"a size of {size}"
    for price in prices:
        if price is not None and not math.isfinite(price):
            return f"a price of {price}"
        if price and contract.round_price(price) <= 0:
            return f"a price of {price:g}, which is no price on a tick of {contract.price_tick:g}"
    if not contract.round_quantity(size):
        return f"{size:g} is less than the smallest quantity, {contract.min_quantity:g}"
    return ""


def on_grid(contract: Contract, price: float | None) -> float | None:
    """``price`` on the contract's tick; None stays None."""
    return None if price is None else contract.round_price(price)


def valid_until(valid: Any) -> Any:
    """``valid`` as ``bt.Order`` understands it; 0 means the day, which it would take for never."""
    if valid is not None and not isinstance(valid, timedelta) and valid == 0:
        return timedelta()
    return valid


def refuse(order: bt.Order, broker: Any, reason: str) -> None:
    """Reject ``order`` before it was sent, with ``reason`` in its info."""
    order.addinfo(reason=reason)
    order.reject(broker)
