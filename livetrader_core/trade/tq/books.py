"""What the venue has of an account: its orders, trades, positions and money, as plain records.

Volumes are lots, prices yuan, money yuan, times UTC milliseconds. A trade that is told later than
the end of its order is missing until then: :attr:`VenueOrder.traded` says how much must come.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

FINISHED = "FINISHED"


class VenueOrder(NamedTuple):
    """An order as the venue has it; ``price`` is None for a market order."""

    order_id: str
    exchange_order_id: str
    symbol: str
    direction: str
    offset: str
    volume: int
    left: int
    price: float | None
    time_condition: str
    volume_condition: str
    status: str
    message: str
    inserted: int

    @property
    def finished(self) -> bool:
        """Whether nothing more of it will trade; its trades may still be told later."""
        return self.status == FINISHED

    @property
    def traded(self) -> int:
        """How much of it has traded."""
        return self.volume - self.left

    @property
    def answered(self) -> bool:
        """Whether the exchange, or a check before it, has said anything."""
        return self.finished or bool(self.exchange_order_id)

    @property
    def closes(self) -> bool:
        """Whether it closes a position."""
        return self.offset != "OPEN"


class VenueTrade(NamedTuple):
    """An execution; ``commission`` is None where the venue does not say."""

    trade_id: str
    order_id: str
    symbol: str
    direction: str
    volume: int
    price: float
    commission: float | None
    datetime: int


class Holding(NamedTuple):
    """What is held of one symbol, long and short apart, opened today or before, and its cost."""

    symbol: str
    long_today: int = 0
    long_before: int = 0
    short_today: int = 0
    short_before: int = 0
    long_price: float = 0.0
    short_price: float = 0.0

    @property
    def net(self) -> int:
        """Long less short."""
        return self.long_today + self.long_before - self.short_today - self.short_before


class Money(NamedTuple):
    """The account; ``profit`` is that of what is held, since it was opened."""

    balance: float
    available: float
    margin: float
    profit: float


@dataclass
class Books:
    """Everything, or (from the thread) what has changed."""

    orders: dict[str, VenueOrder] = field(default_factory=dict)
    trades: dict[str, VenueTrade] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)
    money: Money | None = None

    def merge(self, news: Books) -> tuple[list[VenueOrder], list[VenueTrade]]:
        """Take ``news``; what of its orders and trades is new, trades in the order of time."""
        orders = [one for key, one in news.orders.items() if self.orders.get(key) != one]
        trades = [one for key, one in news.trades.items() if key not in self.trades]
        self.orders |= news.orders
        self.trades |= {one.trade_id: one for one in trades}
        self.holdings |= news.holdings
        self.money = news.money or self.money
        return orders, sorted(trades, key=lambda one: (one.datetime, len(one.trade_id), one))

    def trades_of(self, order_ids: Iterable[str]) -> list[VenueTrade]:
        """The trades of these orders, oldest first."""
        wanted = set(order_ids)
        found = [one for one in self.trades.values() if one.order_id in wanted]
        return sorted(found, key=lambda one: one.datetime)

    def settled(self, symbol: str) -> bool:
        """Whether all trades of the finished orders of ``symbol`` have come."""
        finished = [o for o in self.orders.values() if o.symbol == symbol and o.finished]
        come = sum(one.volume for one in self.trades_of(o.order_id for o in finished))
        return come >= sum(order.traded for order in finished)


def order_of(entry: Mapping[str, Any]) -> VenueOrder:
    """A record of what tqsdk holds of an order."""
    limited = entry["price_type"] != "ANY"
    return VenueOrder(
        entry["order_id"],
        str(entry["exchange_order_id"]).strip(),
        f"{entry['exchange_id']}.{entry['instrument_id']}",
        entry["direction"],
        entry["offset"],
        int(entry["volume_orign"]),
        int(entry["volume_left"]),
        number(entry["limit_price"]) if limited else None,
        entry["time_condition"],
        entry["volume_condition"],
        entry["status"],
        entry["last_msg"],
        int(entry["insert_date_time"]) // 1_000_000,
    )


def trade_of(key: str, entry: Mapping[str, Any]) -> VenueTrade:
    """A record of what tqsdk holds of a trade.

    Exchanges number their trades anew every day: only with its order's id is a number unique.
    """
    order_id = entry["order_id"]
    unique = key if key.startswith(order_id) else f"{order_id}|{entry['exchange_trade_id'] or key}"
    commission = entry.get("commission")
    known = isinstance(commission, int | float) and math.isfinite(commission)
    return VenueTrade(
        unique,
        order_id,
        f"{entry['exchange_id']}.{entry['instrument_id']}",
        entry["direction"],
        int(entry["volume"]),
        float(entry["price"]),
        float(commission) if known else None,  # type: ignore[arg-type]
        int(entry["trade_date_time"]) // 1_000_000,
    )


def holding_of(symbol: str, entry: Mapping[str, Any]) -> Holding:
    """A record of what tqsdk holds of a position."""
    return Holding(
        symbol,
        int(entry["pos_long_today"]),
        int(entry["pos_long_his"]),
        int(entry["pos_short_today"]),
        int(entry["pos_short_his"]),
        number(entry["open_price_long"]),
        number(entry["open_price_short"]),
    )


def money_of(entry: Mapping[str, Any]) -> Money:
    """A record of what tqsdk holds of an account."""
    names = ("balance", "available", "margin", "float_profit")
    return Money(*(number(entry[name]) for name in names))


def number(value: Any) -> float:
    """``value``, 0 where the venue gives none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0
