"""A moving-average cross on any number of symbols.

When the fast average of a symbol's closes crosses above the slow one, be long; when it crosses
below, be short, or flat if ``short`` is off. Each symbol is traded by itself, on its own bars.

    livetrader run strategies/sma_cross.py --symbols US.BABA,FOREX.EURUSD --mode backtest \\
        --from 2020-11-02 --to 2020-11-10 --param fast=10 --param slow=40
    livetrader run strategies/sma_cross.py --symbols US.BABA,FOREX.EURUSD --mode live

It is plain backtrader and runs in any Cerebro.
"""

import math
import sys

import backtrader as bt


class SmaCross(bt.Strategy):
    """Long or short by the side of the last cross.

    - ``fast``, ``slow``: lengths of the averages, in bars;
    - ``fraction``: value of one position as a fraction of the account, unlevered;
    - ``stake``: a fixed size instead, in shares, lots or contracts;
    - ``short``: whether to go short;
    - ``log``: tell of orders and trades on standard error.
    """

    params = (
        ("fast", 20),
        ("slow", 60),
        ("fraction", 0.2),
        ("stake", None),
        ("short", True),
        ("log", False),
    )

    def __init__(self):
        if not 0 < self.p.fast < self.p.slow:
            raise ValueError(f"fast={self.p.fast} must lie between 0 and slow={self.p.slow}")
        self.books = [Book(data, self.p.fast, self.p.slow) for data in self.datas]
        self.working = {}  # order.ref: the book it belongs to

    def prenext(self):
        # A symbol with bars enough need not wait for one whose market is still closed.
        self.next()

    def next(self):
        for book in self.books:
            if not book.has_new_bar():
                continue
            cross = book.cross[0]
            if cross > 0:
                book.wanted = 1
            elif cross < 0:
                book.wanted = -1 if self.p.short else 0
            self.follow(book)

    def follow(self, book):
        """Order what leads to the wanted side, unless an order is at work already."""
        if book.order is not None or book.wanted is None:
            return
        side = sign(self.getposition(book.data).size)
        if side == book.wanted:
            return
        target = book.wanted * self.size_of(book.data) if book.wanted else 0
        order = self.order_target_size(book.data, target)
        if order is not None:
            book.order = order.ref
            self.working[order.ref] = book

    def size_of(self, data):
        """Units to hold."""
        if self.p.stake is not None:
            return self.p.stake
        # What one unit would lose if its price fell to 0: its value in the account's currency.
        unit = self.broker.getcommissioninfo(data).profitandloss(-1, data.close[0], 0.0)
        return max(self.broker.getvalue(), 0.0) * self.p.fraction / unit if unit > 0 else 0

    def notify_order(self, order):
        book = self.working.get(order.ref)
        if book is None or order.alive():
            return
        del self.working[order.ref]
        book.order = None
        if order.status != order.Completed:
            # Not tried again and again: the next cross decides anew.
            book.wanted = None
        side = "buy" if order.isbuy() else "sell"
        self.say(
            book.data,
            f"{side} {abs(order.executed.size):g} @ {order.executed.price:g}, "
            f"{order.getstatusname().lower()}",
        )

    def notify_trade(self, trade):
        if trade.isclosed:
            self.say(trade.data, f"trade closed, profit {trade.pnlcomm:.2f}")

    def say(self, data, text):
        if self.p.log:
            when = bt.num2date(data.datetime[0])
            print(f"{when:%Y-%m-%d %H:%M} {data._name}: {text}", file=sys.stderr)


class Book:
    """What the strategy knows of one symbol."""

    def __init__(self, data, fast, slow):
        self.data = data
        self.slow = slow
        self.cross = bt.ind.CrossOver(bt.ind.SMA(data, period=fast), bt.ind.SMA(data, period=slow))
        self.wanted = None  # 1, -1 or 0; None until a cross
        self.order = None  # ref of the order at work
        self.seen = 0

    def has_new_bar(self):
        """Whether the data has a bar not seen before, and enough of them."""
        if len(self.data) == self.seen:
            return False
        self.seen = len(self.data)
        return self.seen > self.slow and math.isfinite(self.data.close[0])


def sign(number):
    return (number > 0) - (number < 0)
