"""Which prices reach a stop, and how a trailing stop follows them.

The price that counts is the **last trade** where the venue gives one. Where it gives none, as in
forex, a buy looks at the **ask** and a sell at the **bid**: what the order would trade at. A stop
to buy is reached at or above its ``stop_price``, a stop to sell at or below it. Where there are no
quotes at all, closed one-minute klines count: with their whole range if they opened after the
order was made, else with their close alone. Nothing counts while the symbol's sessions are closed.
"""

from __future__ import annotations

from dataclasses import dataclass

from livetrader_core.models import Contract, Kline, Order, OrderType, Side, Tick
from livetrader_core.timeframe import duration_ms

#: A quote this much older than the feed's beginning is what the venue had kept, not a price of now.
STALE_MS = 60_000


@dataclass(frozen=True)
class Seen:
    """How low and how high the price went, and where it ended."""

    low: float
    high: float
    last: float


def look(quote: Tick | Kline, side: Side, ordered_at: int, live_since: int) -> Seen | None:
    """What ``quote`` shows to an order of ``side``; None if it says nothing of the price now.

    ``ordered_at`` is when the order began to wait, ``live_since`` when its feed (re)started, both
    UTC ms in the venue's time.
    """
    if isinstance(quote, Tick):
        price = quote.last or (quote.ask if side is Side.BUY else quote.bid)
        if not price > 0 or quote.datetime < live_since - STALE_MS:
            return None
        return Seen(price, price, price)
    begin = max(ordered_at, live_since)
    if quote.datetime >= begin:
        return Seen(quote.low, quote.high, quote.close)
    if quote.datetime + duration_ms(quote.timeframe) > begin:
        return Seen(quote.close, quote.close, quote.close)
    return None


def reached(order: Order, seen: Seen) -> bool:
    """Whether the price was at the order's stop or beyond."""
    if order.side is Side.BUY:
        return seen.high >= order.stop_price
    return seen.low <= order.stop_price


def trailed(order: Order, seen: Seen, contract: Contract) -> Order:
    """``order`` with its stop moved after the price, never back; itself if it stays.

    The limit of a trailing stop-limit keeps its distance to the stop.
    """
    if order.type not in (OrderType.TRAILING_STOP, OrderType.TRAILING_STOP_LIMIT):
        return order
    distance = order.trail_amount or seen.last * order.trail_percent
    stop = contract.round_price(seen.last + order.side.sign * distance)
    if order.side.sign * stop >= order.side.sign * order.stop_price:
        return order
    if order.type is OrderType.TRAILING_STOP:
        return order.but(stop_price=stop)
    price = contract.round_price(stop + order.price - order.stop_price)
    return order.but(stop_price=stop, price=price)
