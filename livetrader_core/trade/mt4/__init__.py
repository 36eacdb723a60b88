"""Orders at a MetaTrader 4 terminal with livetrader's own expert advisor."""

from livetrader_core.trade.mt4.adapter import Mt4Trade

__all__ = ["Mt4Trade"]
