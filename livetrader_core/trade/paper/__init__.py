"""Paper money: a simulated account that fills against any market's klines."""

from livetrader_core.trade.paper.venue import PaperTrade

__all__ = ["PaperTrade"]
