"""livetrader for backtrader: store, feed, broker and a sizer."""

from livetrader_bt.backtest import LiveTraderBackBroker
from livetrader_bt.broker import LiveTraderBroker
from livetrader_bt.feed import LiveTraderData
from livetrader_bt.sizers import PercentSizer
from livetrader_bt.store import LiveTraderStore

__all__ = [
    "LiveTraderBackBroker",
    "LiveTraderBroker",
    "LiveTraderData",
    "LiveTraderStore",
    "PercentSizer",
]
