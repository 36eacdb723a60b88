"""A pair across two markets: the spread of two symbols returns to its mean.

The first symbol's price over the second's is followed by its z-score. Far above its mean, the
first is sold and the second bought for the same value; far below, the other way round; near the
mean, or when the spread runs away further, both are closed.

    livetrader run strategies/pair_spread.py --symbols US.BABA,US.QQQ --mode backtest \\
        --param period=240 --param entry=2.5
    livetrader run strategies/pair_spread.py --symbols US.BABA,US.QQQ --mode live

The two prices must be of one moment, or the spread would be one of an old price with a new one.
So only moments that have a bar of both symbols count; while one market is closed nothing is
measured and nothing done, save to close a leg that was left alone.

It is plain backtrader and runs in any Cerebro that has two datas.
"""

import math
import sys
from collections import deque

import backtrader as bt


class PairSpread(bt.Strategy):
    """Mean reversion of the first data against the second.

    - ``period``: moments that mean and deviation are taken from;
    - ``ratio``: whether the spread is the logarithm of the ratio, or the difference of the prices;
    - ``entry``, ``exit``, ``give_up``: z-scores, ascending as exit, entry, give_up;
    - ``fraction``: value of each leg as a fraction of the account, unlevered;
    - ``stake0``, ``stake1``: fixed sizes of the legs instead;
    - ``log``: tell of orders and trades on standard error.
    """

    params = (
        ("period", 120),
        ("ratio", True),
        ("entry", 2.0),
        ("exit", 0.5),
        ("give_up", 5.0),
        ("fraction", 0.2),
        ("stake0", None),
        ("stake1", None),
        ("log", False),
    )

    def __init__(self):
        if len(self.datas) < 2:
            raise ValueError(f"a pair needs two datas, not {len(self.datas)}")
        if not 0 <= self.p.exit < self.p.entry < self.p.give_up or self.p.period < 2:
            raise ValueError("0 <= exit < entry < give_up, and period is at least 2")
        self.legs = self.datas[:2]
        self.stakes = (self.p.stake0, self.p.stake1)
        self.spreads = deque(maxlen=self.p.period)
        self.side = 0  # 1: long the first and short the second, -1: the other way round
        self.working = set()  # refs of orders at work
        self.seen = [0, 0]

    def prenext(self):
        self.next()

    def next(self):
        new = [len(leg) != seen for leg, seen in zip(self.legs, self.seen, strict=True)]
        self.seen = [len(leg) for leg in self.legs]
        z = None
        if all(new) and self.legs[0].datetime[0] == self.legs[1].datetime[0]:
            z = self.measure()
        if self.working:
            return
        if self.mend(new) or z is None:
            return
        if self.side:
            if abs(z) >= self.p.give_up or self.side * z >= -self.p.exit:
                self.say(f"z {z:+.2f}: leave")
                self.leave()
        elif self.p.entry <= abs(z) < self.p.give_up:
            self.say(f"z {z:+.2f}: enter")
            self.enter(-1 if z > 0 else 1)

    def measure(self):
        """The z-score of this moment by the ones before it; None while there are too few."""
        first, second = (leg.close[0] for leg in self.legs)
        if not (math.isfinite(first) and math.isfinite(second)):
            return None
        if self.p.ratio:
            if first <= 0 or second <= 0:
                return None
            spread = math.log(first / second)
        else:
            spread = first - second
        z = None
        if len(self.spreads) == self.p.period:
            mean = math.fsum(self.spreads) / self.p.period
            variance = math.fsum((x - mean) ** 2 for x in self.spreads) / (self.p.period - 1)
            z = (spread - mean) / math.sqrt(variance) if variance > 0 else None
        self.spreads.append(spread)
        return z

    # ---- orders

    def enter(self, side):
        """Open both legs for the same value."""
        sizes = [self.size_of(*leg) for leg in zip(self.legs, self.stakes, strict=True)]
        if not all(size > 0 for size in sizes):
            return
        self.side = side
        for leg, size, way in zip(self.legs, sizes, (side, -side), strict=True):
            self.watch(self.buy(leg, size=size) if way > 0 else self.sell(leg, size=size))

    def leave(self):
        """Close both legs."""
        self.side = 0
        for leg in self.legs:
            if self.getposition(leg).size:
                self.watch(self.close(leg))

    def mend(self, new):
        """Close legs that are not what the pair should be; says whether there were any.

        A leg can be refused while the other fills: one leg alone is a bet nobody made.
        """
        sides = [sign(self.getposition(leg).size) for leg in self.legs]
        if not self.side and sides[0] == -sides[1]:
            self.side = sides[0]  # a pair of before this run, or one that could not be closed
        if sides == [self.side, -self.side]:
            return False
        self.side = 0
        for leg, side, fresh in zip(self.legs, sides, new, strict=True):
            if side and fresh:
                self.watch(self.close(leg))
        return any(sides)

    def size_of(self, data, stake):
        if stake is not None:
            return stake
        # What one unit would lose if its price fell to 0: its value in the account's currency.
        unit = self.broker.getcommissioninfo(data).profitandloss(-1, data.close[0], 0.0)
        return max(self.broker.getvalue(), 0.0) * self.p.fraction / unit if unit > 0 else 0

    def watch(self, order):
        if order is not None:
            self.working.add(order.ref)

    # ---- what the broker says

    def notify_order(self, order):
        if order.ref not in self.working or order.alive():
            return
        self.working.discard(order.ref)
        self.say(
            f"{order.data._name} {order.executed.size:+g} @ {order.executed.price:g}, "
            f"{order.getstatusname().lower()}"
        )

    def notify_trade(self, trade):
        if trade.isclosed:
            self.say(f"{trade.data._name} trade closed, profit {trade.pnlcomm:.2f}")

    def say(self, text):
        if self.p.log:
            when = bt.num2date(max(leg.datetime[0] for leg in self.legs if len(leg)))
            print(f"{when:%Y-%m-%d %H:%M} {text}", file=sys.stderr)


def sign(number):
    return (number > 0) - (number < 0)
