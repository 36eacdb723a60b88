"""A Donchian breakout with protective stops, on any number of symbols.

A close above the highest high of the last ``entry`` bars opens a long position, a close below the
lowest low a short one. A stop order protects it from the first fill on, ``stop_atr`` average true
ranges away, and follows the opposite channel of ``exit`` bars; a close through that channel
leaves the position.

    livetrader run strategies/donchian_breakout.py --symbols SHFE.rb2605,US.BABA --mode backtest \\
        --timeframe 5m --param entry=40 --param exit=20
    livetrader run strategies/donchian_breakout.py --symbols SHFE.rb2605,US.BABA --mode live

One thing happens at a time: before a position is left or its stop moved, the old stop is
cancelled, and only when the broker has said so does the next order go out. A stop that fills in
the meantime can therefore never be doubled by an exit. The price of it is one bar.

It is plain backtrader and runs in any Cerebro.
"""

import math
import sys

import backtrader as bt


class DonchianBreakout(bt.Strategy):
    """Breakouts, one position for each symbol, each with one stop order.

    - ``entry``, ``exit``: lengths of the channels, in bars;
    - ``atr``: bars of the average true range; ``stop_atr``: distance of the first stop in it;
    - ``step_atr``: a stop is moved when it would move by at least this much;
    - ``risk``: what a stopped trade may cost, as a fraction of the account;
    - ``fraction``: value of one position at most, as a fraction of the account, unlevered;
    - ``stake``: a fixed size instead, in shares, lots or contracts;
    - ``short``: whether to go short;
    - ``log``: tell of orders and trades on standard error.
    """

    params = (
        ("entry", 40),
        ("exit", 20),
        ("atr", 20),
        ("stop_atr", 3.0),
        ("step_atr", 0.5),
        ("risk", 0.01),
        ("fraction", 0.25),
        ("stake", None),
        ("short", True),
        ("log", False),
    )

    def __init__(self):
        if min(self.p.entry, self.p.exit, self.p.atr) < 1 or self.p.stop_atr <= 0:
            raise ValueError("entry, exit and atr are numbers of bars; stop_atr is above 0")
        self.books = [Book(data, self.p.entry, self.p.exit, self.p.atr) for data in self.datas]
        self.working = {}  # order.ref: the book it belongs to

    def prenext(self):
        # A symbol with bars enough need not wait for one whose market is still closed.
        self.next()

    def next(self):
        for book in self.books:
            if not book.has_new_bar() or book.order is not None:
                continue
            if self.getposition(book.data).size:
                self.manage(book)
            else:
                self.look(book)

    # ---- without a position

    def look(self, book):
        """Enter on a breakout."""
        if book.stop is not None:  # somebody else has closed the position
            self.withdraw(book)
            return
        close = book.data.close[0]
        if close > book.highest[0]:
            self.enter(book, 1)
        elif close < book.lowest[0] and self.p.short:
            self.enter(book, -1)

    def enter(self, book, side):
        book.distance = self.p.stop_atr * book.atr[0]
        size = self.size_of(book)
        if size > 0:
            order = self.buy(book.data, size=size) if side > 0 else self.sell(book.data, size=size)
            book.order = self.watch(book, order)

    def size_of(self, book):
        """Units to trade: by the risk of being stopped, and by value at most."""
        if self.p.stake is not None:
            return self.p.stake
        # What one unit would lose if its price fell to 0 is its value in the account's currency.
        info, close = self.broker.getcommissioninfo(book.data), book.data.close[0]
        unit = info.profitandloss(-1, close, 0.0)
        lost = info.profitandloss(-1, book.distance, 0.0)
        if unit <= 0 or lost <= 0:
            return 0
        account = max(self.broker.getvalue(), 0.0)
        return min(account * self.p.risk / lost, account * self.p.fraction / unit)

    # ---- with one

    def manage(self, book):
        """Leave when the price leaves the channel; else keep the stop where it belongs."""
        if book.withdrawing:
            self.cancel(book.stop_order)  # asked again while no answer has come
            return
        data, side = book.data, sign(self.getposition(book.data).size)
        floor = book.floor[0] if side > 0 else book.ceiling[0]
        if side * (data.close[0] - floor) < 0:
            self.leave(book)
        elif book.stop is None:
            if not book.distance:  # a position of before this run
                book.distance = self.p.stop_atr * book.atr[0]
            self.protect(book, data.close[0] - side * book.distance)
        elif side * (floor - book.level) > self.p.step_atr * book.atr[0]:
            book.next_level = floor
            self.withdraw(book)

    def protect(self, book, level):
        """Place the stop order for the whole position at ``level``."""
        size = self.getposition(book.data).size
        send = self.sell if size > 0 else self.buy
        order = send(book.data, size=abs(size), exectype=bt.Order.Stop, price=level)
        book.level, book.next_level = level, None
        book.stop = self.watch(book, order)
        book.stop_order = order

    def withdraw(self, book):
        """Cancel the stop; what follows waits for the broker's word."""
        if not book.withdrawing:
            book.withdrawing = True
            self.cancel(book.stop_order)

    def leave(self, book):
        """Close the position, the stop first."""
        if book.stop is not None:
            book.leaving = True
            self.withdraw(book)
        elif self.getposition(book.data).size:
            book.order = self.watch(book, self.close(book.data))

    # ---- what the broker says

    def watch(self, book, order):
        if order is None:
            return None
        self.working[order.ref] = book
        return order.ref

    def notify_order(self, order):
        book = self.working.get(order.ref)
        if book is None or order.alive():
            return
        del self.working[order.ref]
        kind = "stop" if order.ref == book.stop else "order"
        self.say(
            book.data,
            f"{kind} {order.executed.size:+g} @ {order.executed.price:g}, "
            f"{order.getstatusname().lower()}",
        )
        if order.ref == book.stop:
            self.stop_ended(book, order)
        else:
            book.order = None
            self.order_ended(book, order)

    def order_ended(self, book, order):
        size = self.getposition(book.data).size
        if size and order.executed.size and book.stop is None and sign(size) == side_of(order):
            self.protect(book, order.executed.price - sign(size) * book.distance)
        elif not size:
            book.distance = 0.0

    def stop_ended(self, book, order):
        book.stop = book.stop_order = None
        leaving, book.leaving, book.withdrawing = book.leaving, False, False
        if not self.getposition(book.data).size:
            book.distance = 0.0
        elif leaving or order.status != order.Canceled:
            self.leave(book)  # a position whose stop was refused is not kept
        elif book.next_level is not None:
            self.protect(book, book.next_level)

    def notify_trade(self, trade):
        if trade.isclosed:
            self.say(trade.data, f"trade closed, profit {trade.pnlcomm:.2f}")

    def say(self, data, text):
        if self.p.log:
            when = bt.num2date(data.datetime[0])
            print(f"{when:%Y-%m-%d %H:%M} {data._name}: {text}", file=sys.stderr)


class Book:
    """What the strategy knows of one symbol."""

    def __init__(self, data, entry, exit, atr):
        self.data = data
        # (-1): the channels end one bar before the bar that is compared with them.
        self.highest = bt.ind.Highest(data.high(-1), period=entry)
        self.lowest = bt.ind.Lowest(data.low(-1), period=entry)
        self.ceiling = bt.ind.Highest(data.high(-1), period=exit)
        self.floor = bt.ind.Lowest(data.low(-1), period=exit)
        self.atr = bt.ind.ATR(data, period=atr)
        self.bars = max(entry, exit, atr) + 1
        self.order = None  # ref of the entry or exit at work
        self.stop = None  # ref of the stop at work
        self.stop_order = None
        self.level = None  # where the stop is
        self.next_level = None  # where it shall be once the old one is cancelled
        self.distance = 0.0  # of the first stop from the entry
        self.withdrawing = False  # the stop's cancellation was asked for
        self.leaving = False  # the position is closed once it is cancelled
        self.seen = 0

    def has_new_bar(self):
        """Whether the data has a bar not seen before, and enough of them."""
        if len(self.data) == self.seen:
            return False
        self.seen = len(self.data)
        values = (self.data.close, self.highest, self.lowest, self.ceiling, self.floor, self.atr)
        return self.seen > self.bars and all(math.isfinite(line[0]) for line in values)


def sign(number):
    return (number > 0) - (number < 0)


def side_of(order):
    return 1 if order.isbuy() else -1
