"""Chinese futures over tqsdk (``pip install 'livetrader[tq]'``)."""

from livetrader_core.market.tq.market import TqMarket

__all__ = ["TqMarket"]
