"""MetaTrader 4 through livetrader's own expert advisor (extra/mql4)."""

from livetrader_core.market.mt4.market import Mt4Market

__all__ = ["Mt4Market"]
