"""Trade adapters: one file per venue, and the service that stands before them."""

from livetrader_core.trade.base import TradeBase, VenueEvent
from livetrader_core.trade.journal import Journal
from livetrader_core.trade.paper import PaperTrade
from livetrader_core.trade.service import TradeService

__all__ = ["Journal", "PaperTrade", "TradeBase", "TradeService", "VenueEvent"]
