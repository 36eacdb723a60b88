"""MetaTrader 4 through the published DWX ZeroMQ expert advisor, v2.0.1."""

from livetrader_core.market.dwx.market import DwxMarket

__all__ = ["DwxMarket"]
