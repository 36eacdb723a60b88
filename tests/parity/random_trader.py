"""A strategy that places random orders of every kind: the same whenever it sees the same."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import backtrader as bt

from livetrader_bt.feed import base_feed
from livetrader_bt.rules import livetrader_feeds, now_of
from livetrader_bt.terms import TYPES
from livetrader_bt.times import to_ms
from livetrader_core.trade import PaperTrade

MAX_OPEN = 6
#: What the paper venue does by itself is what is compared.
ABILITIES = PaperTrade.abilities
EXECTYPES = tuple(exectype for exectype, kind in TYPES.items() if kind in ABILITIES.types)
TRAILING = (bt.Order.StopTrail, bt.Order.StopTrailLimit)
LIMITED = (bt.Order.StopLimit, bt.Order.StopTrailLimit)
UNPRICED = (bt.Order.Market, bt.Order.Close)


class RandomTrader(bt.Strategy):
    """Draws from a generator seeded by moment and symbol, never from a shared one.

    So two runs that see the same bars, positions and notifications draw the same orders, and two
    that differ anywhere drift apart for all to see.
    """

    params = (("seed", 0), ("rate", 0.2), ("log", None))

    def __init__(self) -> None:
        self.open_orders: list[bt.Order] = []
        self.lengths = [0 for _ in self.datas]

    def start(self) -> None:
        self.feeds = livetrader_feeds(self.cerebro)

    def notify_order(self, order: bt.Order) -> None:
        # Statuses, too, must come in the same order at the same bars in every mode.
        entry = (
            "order",
            now_of(self.feeds),
            order.data.symbol,
            order.getstatusname(),
            order.size,
            round(order.executed.price, 9),
        )
        self.p.log.append(entry)
        for bit in order.executed.iterpending():
            self.p.log.append(("fill", order.data.symbol, bit.size, bit.price, to_ms(bit.dt)))
        if order.alive():
            return
        self.open_orders = [o for o in self.open_orders if o.ref != order.ref]
        if order.status == order.Completed:
            draw = self._draw("notify", order.data)
            if draw.random() < 0.3:
                self._place(draw, order.data)

    def notify_trade(self, trade: bt.Trade) -> None:
        if trade.isclosed:
            pnl = (round(trade.pnl, 6), round(trade.pnlcomm, 6))
            self.p.log.append(("trade", now_of(self.feeds), trade.data.symbol, *pnl))

    def prenext(self) -> None:
        self.next()

    def next(self) -> None:
        now = now_of(self.feeds)
        self.p.log.append(("value", now, self.broker.getvalue(), self.broker.getcash()))
        for data in self.datas:
            if not len(data):
                continue
            draw = self._draw("next", data)
            if draw.random() < self.p.rate:
                self._act(draw, data)

    def _draw(self, occasion: str, data: Any) -> random.Random:
        return random.Random(
            f"{self.p.seed} {occasion} {now_of(self.feeds)} {base_feed(data).symbol} {len(data)}"
        )

    def _act(self, draw: random.Random, data: Any) -> None:
        if self.open_orders and draw.random() < 0.2:
            self.cancel(draw.choice(self.open_orders))
        elif self.open_orders and draw.random() < 0.15:
            self._modify(draw, draw.choice(self.open_orders))
        elif draw.random() < 0.15:
            target = draw.choice((0.0, 0.05, -0.05))
            self._keep(self.order_target_percent(data, target))
        elif len(self.open_orders) < MAX_OPEN:
            linked = ABILITIES.linked and draw.random() < 0.35
            choose = draw.choice((self._place_bracket, self._place_group)) if linked else None
            (choose or self._place)(draw, data)

    def _modify(self, draw: random.Random, order: bt.Order) -> None:
        spread = self._spread(order.data)
        asked: dict[str, float] = {}
        if draw.random() < 0.5:
            asked["size"] = abs(order.size) * draw.choice((0.5, 2))
        if order.exectype not in UNPRICED and draw.random() < 0.7:
            asked["price"] = order.created.price + spread * draw.uniform(-1, 1)
        if order.exectype in LIMITED and draw.random() < 0.7:
            asked["plimit"] = order.created.pricelimit + spread * draw.uniform(-1, 1)
        self.broker.modify(order, **asked)

    @staticmethod
    def _spread(data: Any) -> float:
        return float(max(data.high[0] - data.low[0], data.close[0] * 0.0003))

    def _place(self, draw: random.Random, data: Any, **links: Any) -> None:
        side = draw.choice((self.buy, self.sell))
        self._keep(side(data=data, size=self._size(draw, data), **self._terms(draw, data), **links))

    @staticmethod
    def _size(draw: random.Random, data: Any) -> float:
        stocks = base_feed(data).symbol.startswith("US.")
        return draw.choice((1, 2, 3, 0.01, 0.37)) * (100 if stocks else 1)

    def _terms(self, draw: random.Random, data: Any) -> dict[str, Any]:
        exectype = draw.choice(EXECTYPES)
        spread = self._spread(data)
        price = data.close[0] + spread * draw.uniform(-2, 2)
        plimit = price + spread * draw.uniform(-1, 1)
        terms = {"exectype": exectype, "valid": self._valid(draw, data)}
        if exectype not in UNPRICED:
            terms["price"] = price
        if exectype in LIMITED:
            terms["plimit"] = plimit
        if exectype in TRAILING:
            amount = spread * draw.uniform(0.3, 3)
            if draw.random() < 0.5:
                terms["trailamount"] = amount
            else:
                terms["trailpercent"] = amount / price
        return terms

    def _place_bracket(self, draw: random.Random, data: Any) -> None:
        size, buying = self._size(draw, data), draw.random() < 0.5
        enter, leave = (self.buy, self.sell) if buying else (self.sell, self.buy)
        parent = enter(data=data, size=size, transmit=False, **self._terms(draw, data))
        self._keep(parent)
        children = draw.randint(1, 2)
        for number in range(children):
            other = draw.choice(self.datas) if draw.random() < 0.1 else data
            if not len(other):
                other = data
            child = {"parent": parent, "transmit": number == children - 1}
            self._keep(leave(data=other, size=size, **self._terms(draw, other), **child))

    def _place_group(self, draw: random.Random, data: Any) -> None:
        first: bt.Order | None = None
        for _ in range(draw.randint(2, 3)):
            side = draw.choice((self.buy, self.sell))
            terms = self._terms(draw, data)
            order = side(data=data, size=self._size(draw, data), oco=first, **terms)
            self._keep(order)
            first = first or order

    def _valid(self, draw: random.Random, data: Any) -> Any:
        kind = draw.randrange(6)
        if kind == 0:
            return timedelta(minutes=draw.randint(1, 60))
        if kind == 1:
            return bt.Order.DAY
        if kind == 2:
            return data.datetime.datetime() + timedelta(minutes=draw.randint(1, 600))
        if kind == 3:
            return 0
        return None

    def _keep(self, order: bt.Order | None) -> None:
        if order is not None and order.alive():
            self.open_orders.append(order)
