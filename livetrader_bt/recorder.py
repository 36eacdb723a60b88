"""An analyzer that keeps what a report needs: fills, equity and prices from the first live bar."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import backtrader as bt

from livetrader_bt.feed import LiveTraderData
from livetrader_bt.results import RunFill
from livetrader_bt.rules import livetrader_feeds, now_of
from livetrader_bt.times import to_ms


@dataclass
class SymbolRecord:
    """What happened to one symbol; money in the base currency."""

    symbol: str
    bars: int = 0
    trades: int = 0
    realized: float = 0.0
    peak: float = 0.0
    drawdown: float = 0.0
    profit: float = 0.0
    times: array[int] = field(default_factory=lambda: array("q"))
    prices: array[float] = field(default_factory=lambda: array("d"))

    def mark(self, open_profit: float) -> None:
        """Take the profit as it stands now."""
        self.profit = self.realized + open_profit
        self.peak = max(self.peak, self.profit)
        self.drawdown = max(self.drawdown, self.peak - self.profit)


class Recorder(bt.Analyzer):
    """Fills in the order they were told, equity at every moment, one record for each symbol.

    ``live_from`` (UTC ms): what closes up to then is warm-up and not recorded.
    ``on_moment`` is called with each moment (UTC ms), warm-up included.
    """

    params = (("live_from", 0), ("on_moment", None))

    def start(self) -> None:
        """The run begins."""
        self.fills: list[RunFill] = []
        self.times = array("q")
        self.values = array("d")
        self._on_moment: Callable[[int], None] | None = self.p.on_moment
        self._feeds: list[LiveTraderData] = livetrader_feeds(self.strategy.cerebro)
        self.records = {feed.symbol: SymbolRecord(feed.symbol) for feed in self._feeds}
        self._lengths = dict.fromkeys(self._feeds, 0)

    def notify_order(self, order: bt.Order) -> None:
        """Keep the fills of this notification."""
        symbol = order.data.symbol
        for bit in order.executed.iterpending():
            commission = bit.closedcomm + bit.openedcomm
            self.fills.append(
                RunFill(
                    symbol=symbol,
                    side="buy" if bit.size > 0 else "sell",
                    quantity=abs(bit.size),
                    price=bit.price,
                    bar=to_ms(bit.dt),
                    commission=commission,
                )
            )
            self.records[symbol].realized += bit.pnl - commission

    def notify_trade(self, trade: bt.Trade) -> None:
        """Count closed trades."""
        if trade.isclosed:
            self.records[trade.data.symbol].trades += 1

    def next(self) -> None:
        """Keep this moment."""
        now = now_of(self._feeds)
        if self._on_moment is not None:
            self._on_moment(now)
        if now <= self.p.live_from:
            self._lengths = {feed: len(feed) for feed in self._feeds}
            return
        self.times.append(now)
        self.values.append(self.strategy.broker.getvalue())
        for feed in self._feeds:
            self._record(feed)

    def _record(self, feed: LiveTraderData) -> None:
        if not len(feed):
            return
        record = self.records[feed.symbol]
        broker: Any = self.strategy.broker
        position = broker.getposition(feed)
        info = broker.getcommissioninfo(feed)
        record.mark(info.profitandloss(position.size, position.price, feed.close[0]))
        if len(feed) != self._lengths[feed]:
            self._lengths[feed] = len(feed)
            record.bars += 1
            record.times.append(feed.bar_close())
            record.prices.append(feed.close[0])
