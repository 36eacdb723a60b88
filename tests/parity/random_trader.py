"""A strategy that places random orders of every kind: the same whenever it sees the same."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import backtrader as bt

from livetrader_bt.feed import base_feed
from livetrader_bt.rules import livetrader_feeds, now_of
from livetrader_bt.times import to_ms

MAX_OPEN = 6
EXECTYPES = (bt.Order.Market, bt.Order.Limit, bt.Order.Stop, bt.Order.StopLimit)


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
        elif draw.random() < 0.15:
            target = draw.choice((0.0, 0.05, -0.05))
            self._keep(self.order_target_percent(data, target))
        elif len(self.open_orders) < MAX_OPEN:
            self._place(draw, data)

    def _place(self, draw: random.Random, data: Any) -> None:
        close = data.close[0]
        spread = max(data.high[0] - data.low[0], close * 0.0003)
        exectype = draw.choice(EXECTYPES)
        side = draw.choice((self.buy, self.sell))
        price = close + spread * draw.uniform(-2, 2)
        plimit = price + spread * draw.uniform(-1, 1)
        size = draw.choice((1, 2, 3, 0.01, 0.37)) * (
            100 if base_feed(data).symbol.startswith("US.") else 1
        )
        self._keep(
            side(
                data=data,
                size=size,
                exectype=exectype,
                price=None if exectype == bt.Order.Market else price,
                plimit=plimit if exectype == bt.Order.StopLimit else None,
                valid=self._valid(draw, data),
            )
        )

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
