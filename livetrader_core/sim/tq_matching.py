"""The orders of one account at a simulated futures venue: checked, matched, cancelled.

Matching is plain: what crosses the quote trades at once at the quote's other side, what rests
trades at its own price when a later quote of the recording crosses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from livetrader_core.models import Tick
from livetrader_core.sim.tq_account import BY_DAY, LONG, SHORT, Account
from livetrader_core.sim.tq_instrument import Instrument

#: Exchanges that have no market orders.
NO_MARKET_ORDERS = frozenset({"SHFE", "INE", "CFFEX"})
_DAY_OVER = "交易日结束，自动撤销当日有效的委托单（GFD）"


class Refused(Exception):
    """Why the venue does not take an order."""


@dataclass
class Working:
    """An order of the trading day ``day``, as the protocol writes it.

    It was matched with all up to ``seen`` and ends by itself at ``ends`` (UTC ms).
    """

    tree: dict[str, Any]
    symbol: str
    day: int
    seen: int
    ends: int

    @property
    def buys(self) -> bool:
        return bool(self.tree["direction"] == "BUY")

    @property
    def left(self) -> int:
        return int(self.tree["volume_left"])

    @property
    def alive(self) -> bool:
        return bool(self.tree["status"] == "ALIVE")

    @property
    def limit(self) -> float | None:
        return self.tree["limit_price"] if self.tree["price_type"] == "LIMIT" else None

    def crosses(self, price: float) -> bool:
        """Whether it would trade at ``price``."""
        if self.limit is None:
            return True
        return self.limit >= price if self.buys else self.limit <= price

    def finish(self, message: str) -> None:
        self.tree |= {"status": "FINISHED", "last_msg": message}


class Desk:
    """Takes the orders of ``account``. ``depth``: most lots that one quote trades (0: any)."""

    def __init__(self, account: Account, instruments: Mapping[str, Instrument], now: int) -> None:
        self.account = account
        self.depth = 0
        #: Reasons for which the next orders are refused.
        self.refusals: list[str] = []
        self.orders: dict[str, Working] = {}
        self.trades: dict[str, dict[str, Any]] = {}
        self._instruments = instruments
        self._now = now
        self._numbers = 0

    def price(self, symbol: str) -> float:
        """The last price of ``symbol``."""
        forming = self._instruments[symbol].recording.forming(self._now)
        return self._instruments[symbol].price(self._now) if forming is None else forming.close

    def todays(self) -> dict[str, Working]:
        """The orders of this trading day: a new connection is not told of earlier ones."""
        return {
            key: order
            for key, order in self.orders.items()
            if order.alive or order.day >= self.account.day
        }

    def trades_of(self, orders: Mapping[str, Working]) -> dict[str, dict[str, Any]]:
        """The trades of ``orders``."""
        return {key: one for key, one in self.trades.items() if one["order_id"] in orders}

    # ---- time

    def advance(self, now: int) -> None:
        """Match with the quotes up to ``now`` (UTC ms); settle if a trading day has ended."""
        if now <= self._now:
            return
        self._now = now
        for order in self.orders.values():
            if order.alive:
                self._catch_up(order)
        day = trading_day(self._instruments, now)
        if day > self.account.day:
            self.account.settle(day, self.price)

    def _catch_up(self, order: Working) -> None:
        recording = self._instruments[order.symbol].recording
        until = min(self._now, order.ends - 1)
        for tick in recording.ticks(order.seen, until):
            if order.alive and order.crosses(tick.ask if order.buys else tick.bid):
                assert order.limit is not None
                self._trade(order, order.limit, self._lots_of(order), tick.datetime)
        order.seen = max(order.seen, until)
        if order.alive and self._now >= order.ends:
            order.finish(_DAY_OVER)

    # ---- requests

    def insert(self, request: Mapping[str, Any]) -> str | None:
        """Take an order; what is said of one that cannot be booked at all."""
        order_id = str(request.get("order_id", ""))
        if not order_id or order_id in self.orders:
            return f"下单失败, 报单单号重复: {order_id}"
        symbol = f"{request.get('exchange_id')}.{request.get('instrument_id')}"
        order = self._book(order_id, symbol, request)
        try:
            self._check(order)
        except Refused as reason:
            order.finish(str(reason))
            return None
        self._numbers += 1
        order.tree["exchange_order_id"] = f"{self._numbers:>12}"
        order.tree["last_msg"] = "未成交"
        self._match(order)
        return None

    def _book(self, order_id: str, symbol: str, request: Mapping[str, Any]) -> Working:
        copied = (
            "exchange_id",
            "instrument_id",
            "direction",
            "offset",
            "price_type",
            "time_condition",
            "volume_condition",
        )
        tree = {name: str(request.get(name, "")) for name in copied}
        volume = int(request.get("volume", 0))
        numbers = {
            "user_id": self.account.user,
            "order_id": order_id,
            "exchange_order_id": "",
            "volume_orign": volume,
            "volume_left": volume,
            "limit_price": float(request.get("limit_price") or 0.0),
            "insert_date_time": self._now * 1_000_000,
            "status": "ALIVE",
            "last_msg": "报单已提交",
        }
        order = Working(tree | numbers, symbol, self.account.day, self._now, self._now)
        self.orders[order_id] = order
        if symbol in self._instruments:
            sessions = self._instruments[symbol].contract.sessions
            order.ends = sessions.close_of(sessions.trading_date(self._now))
        return order

    def cancel(self, order_id: str) -> str | None:
        """Cancel; what is said if it cannot be."""
        order = self.orders.get(order_id)
        if order is None or not order.alive:
            return f"撤单失败, 找不到可撤的委托单: {order_id}"
        order.finish("已撤单")
        return None

    # ---- checks

    def _check(self, order: Working) -> None:
        if self.refusals:
            raise Refused(self.refusals.pop(0))
        instrument = self._instruments.get(order.symbol)
        if instrument is None:
            raise Refused("CTP:找不到合约")
        if order.left < 1:
            raise Refused("CTP:报单字段有误")
        if not instrument.contract.sessions.is_open(self._now):
            raise Refused("CTP:当前状态禁止此项操作")
        self._check_price(order, instrument)
        if order.tree["offset"] == "OPEN":
            if self._needs(order) > self.available(order):
                raise Refused("CTP:资金不足")
        else:
            self._check_close(order)

    def _check_price(self, order: Working, instrument: Instrument) -> None:
        exchange = order.tree["exchange_id"]
        if order.limit is None:
            if exchange in NO_MARKET_ORDERS:
                raise Refused("CTP:交易所不支持的价格类型")
            return
        if instrument.contract.round_price(order.limit) != round(order.limit, 10):
            raise Refused("CTP:价格非最小单位倍数")
        lower, upper = instrument.band(self._now)
        if not lower <= order.limit <= upper:
            raise Refused("CTP:价格跌破跌停板" if order.limit < lower else "CTP:价格超出涨停板")

    def _check_close(self, order: Working) -> None:
        way = SHORT if order.buys else LONG
        if order.tree["exchange_id"] not in BY_DAY:
            held = sum(self.account.volume(order.symbol, way, today) for today in (True, False))
            closing = self._closing(order, ("CLOSE", "CLOSETODAY"))
            if order.left > held - closing:
                raise Refused("CTP:平仓量超过持仓量")
            return
        today = order.tree["offset"] == "CLOSETODAY"
        closing = self._closing(order, (order.tree["offset"],))
        if order.left > self.account.volume(order.symbol, way, today) - closing:
            raise Refused("CTP:平今仓位不足" if today else "CTP:平昨仓位不足")

    def _closing(self, order: Working, offsets: tuple[str, ...]) -> int:
        """What other working orders already close."""
        return sum(
            other.left
            for other in self.orders.values()
            if other is not order
            and other.alive
            and other.symbol == order.symbol
            and other.buys == order.buys
            and other.tree["offset"] in offsets
        )

    def _needs(self, order: Working) -> float:
        if order.tree["offset"] != "OPEN":
            return 0.0
        price = self.price(order.symbol) if order.limit is None else order.limit
        return order.left * self._instruments[order.symbol].contract.margin_of(price)

    def frozen_margin(self, but: Working | None = None) -> float:
        """What is reserved for working orders, except the order ``but``."""
        orders = self.orders.values()
        return sum(self._needs(order) for order in orders if order.alive and order is not but)

    def available(self, but: Working | None = None) -> float:
        """What can be spent."""
        balance = self.account.balance(self.price)
        return balance - self.account.margin() - self.frozen_margin(but)

    # ---- matching

    def _match(self, order: Working) -> None:
        """Trade what can be traded at once."""
        quote = self._quote(order.symbol)
        price = quote.ask if order.buys else quote.bid
        if order.crosses(price):
            lots = self._lots_of(order)
            if order.tree["volume_condition"] != "ALL" or lots == order.left:
                self._trade(order, price, lots, self._now)
        if order.alive and order.tree["time_condition"] == "IOC":
            order.finish("已撤单")

    def _quote(self, symbol: str) -> Tick:
        recording = self._instruments[symbol].recording
        ticks = recording.ticks(self._now - 86_400_000, self._now)
        if not ticks:
            price = self.price(symbol)
            return Tick(symbol, self._now, price, price, price + recording.contract.price_tick)
        return ticks[-1]

    def _lots_of(self, order: Working) -> int:
        return min(order.left, self.depth) if self.depth else order.left

    def _trade(self, order: Working, price: float, volume: int, moment: int) -> None:
        tree = order.tree
        self.account.trade(order.symbol, tree["direction"], tree["offset"], volume, price)
        tree["volume_left"] -= volume
        if tree["volume_left"]:
            tree["last_msg"] = "部分成交"
        else:
            order.finish("全部成交")
        number = f"{len(self.trades) + 1}"
        key = f"{tree['order_id']}|{number}"
        copied = ("user_id", "order_id", "exchange_id", "instrument_id", "direction", "offset")
        self.trades[key] = {name: tree[name] for name in copied} | {
            "trade_id": key,
            "exchange_trade_id": number,
            "price": price,
            "volume": volume,
            "trade_date_time": moment * 1_000_000,
        }


def trading_day(instruments: Mapping[str, Instrument], now: int) -> int:
    """The trading day (YYYYMMDD) at ``now`` (UTC ms)."""
    return max(one.contract.sessions.trading_day(now) for one in instruments.values())
