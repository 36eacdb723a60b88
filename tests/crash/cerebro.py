"""A strategy in backtrader that places orders at every live bar, in a process of its own.

``python -m tests.crash.cerebro ENDPOINT IDS SEED COUNT SYMBOL,SYMBOL``. When it has placed COUNT
orders it cancels what still works, and says in a line of JSON how it sees its orders and positions.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import backtrader as bt

from livetrader_bt import LiveTraderStore
from tests.crash.script import FAR, TICKS, venue_of

#: Orders at each bar of each feed.
EACH = 4


class Ordering(bt.Strategy):
    """Market orders, and limit orders so far away that they can be cancelled before they fill."""

    params = (("seed", 0), ("count", 100))

    def __init__(self) -> None:
        self.chance = random.Random(self.p.seed)
        self.live: set[Any] = set()
        self.made: list[bt.Order] = []

    def notify_data(self, data: Any, status: int, *_: Any, **__: Any) -> None:
        (self.live.add if status == data.LIVE else self.live.discard)(data)

    def next(self) -> None:
        for data in self.datas:
            for _ in range(EACH):
                if data in self.live and len(self.made) < self.p.count:
                    self._place(data)
        if len(self.made) == self.p.count:
            self._finish()

    def _place(self, data: Any) -> None:
        venue, tick = venue_of(data.symbol), TICKS[data.symbol]
        size = self.chance.randint(1, 5) / (100 if venue == "dwx" else 1)
        make = self.chance.choice([self.buy, self.sell])
        if self.chance.random() < 0.7:
            self.made.append(make(data=data, size=size))
            return
        way = -1 if make == self.buy else 1
        price = round(data.close[0] + way * FAR[venue] * tick, 5)
        order = make(data=data, size=size, exectype=bt.Order.Limit, price=price)
        self.made.append(order)
        if self.chance.random() < 0.5:
            self.cancel(order)

    def _finish(self) -> None:
        alive = [order for order in self.broker.orders if order.alive()]  # adopted ones, too
        for order in alive:
            self.cancel(order)
        if not alive:
            self.env.runstop()

    def stop(self) -> None:
        orders = {
            order.info.client_order_id: [order.getstatusname(), order.executed.size]
            for order in self.made
        }
        held = {data.symbol: self.getposition(data).size for data in self.datas}
        print(json.dumps({"orders": orders, "positions": held}), flush=True)


def main(endpoint: str, ids: str, seed: str, count: str, symbols: str) -> None:
    cerebro = bt.Cerebro()
    store = LiveTraderStore(endpoint, rates={"CNY": 0.14}, timeout=2.0)
    for symbol in symbols.split(","):
        cerebro.adddata(store.getdata(dataname=symbol))
    cerebro.setbroker(store.getbroker(ids=ids))
    cerebro.addstrategy(Ordering, seed=int(seed), count=int(count))
    cerebro.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
