"""What every broker here does alike with an order before it goes anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, NoReturn

import backtrader as bt

from livetrader_bt.feed import LiveTraderData, base_feed
from livetrader_core.errors import ConfigError
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


def valid_until(feed: LiveTraderData, valid: Any) -> Any:
    """``valid`` as ``bt.Order`` understands it.

    0 means the day, which it would take for never, and a number one of backtrader's own dates,
    which it would forget.
    """
    if isinstance(valid, bool) or not isinstance(valid, (int, float)):
        return valid
    return feed.num2date(float(valid)) if valid else timedelta()


def fault_in_trail(exectype: int | None, amount: float | None, percent: float | None) -> str:
    """Why no order could trail by ``amount`` or ``percent``; empty if it could, or trails not."""
    if exectype not in (bt.Order.StopTrail, bt.Order.StopTrailLimit):
        return ""
    for distance in (amount, percent):
        if distance is not None and not (math.isfinite(distance) and distance >= 0):
            return f"a trailing distance of {distance:g}"
    return "" if amount or percent else "a trailing order without trailamount and trailpercent"


def fault_in_parent(parent: bt.Order | None) -> str:
    """Why no order could wait for ``parent``; empty if one could."""
    if parent is None:
        return ""
    if parent.parent is not None:
        return "its parent waits for a parent of its own"
    if parent.alive() or parent.status == bt.Order.Completed:
        return ""
    return f"its parent is {parent.getstatusname().lower()}"


def refuse(order: bt.Order, broker: Any, reason: str) -> None:
    """Reject ``order`` before it was sent, with ``reason`` in its info."""
    order.addinfo(reason=reason)
    order.reject(broker)


def fault_in_change(
    order: bt.Order, size: float | None, price: float | None, plimit: float | None
) -> str:
    """Why nobody could change ``order`` so; empty if somebody could."""
    contract, exectype = order.data.contract, order.exectype
    if price is not None and exectype in (bt.Order.Market, bt.Order.Close):
        return f"a {order.getordername()} order has no price to change"
    if plimit is not None and exectype not in (bt.Order.StopLimit, bt.Order.StopTrailLimit):
        return f"a {order.getordername()} order has no plimit to change"
    if size is not None and math.isfinite(size) and abs(size) <= abs(order.executed.size):
        return f"{abs(order.executed.size):g} are filled already: the size must stay above that"
    return fault_in(contract, order.size if size is None else size, price, plimit)


def no_commission() -> NoReturn:
    """Raises ConfigError that says where commissions come from."""
    raise ConfigError(
        "commission, margin and multiplier come from the venue's contract, in a backtest as in "
        "live trading: set them where the market's contracts are configured (contracts = … in "
        "livetrader.toml), not with setcommission()"
    )


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ConfigError unless ``value`` of the parameter ``name`` is one of ``choices``."""
    if value not in choices:
        raise ConfigError(f"{name}={value!r}: it is one of {', '.join(choices)}")
