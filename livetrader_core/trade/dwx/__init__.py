"""Trading at MetaTrader 4 through the published DWX ZeroMQ expert advisor, v2.0.1."""

from livetrader_core.trade.dwx.adapter import DwxTrade

__all__ = ["DwxTrade"]
