"""Trading of Chinese futures over tqsdk (``pip install 'livetrader[tq]'``)."""

from livetrader_core.trade.tq.trade import TqTrade

__all__ = ["TqTrade"]
