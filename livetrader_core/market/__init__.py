"""Market adapters: one file per venue.

Adapters and the service load when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from livetrader_core.market.base import MarketBase

if TYPE_CHECKING:
    from livetrader_core.market.replay import ReplayMarket
    from livetrader_core.market.tdx import TdxMarket
    from livetrader_core.service import MarketService

__all__ = ["MarketBase", "MarketService", "ReplayMarket", "TdxMarket"]

_HOMES = {
    "MarketService": "livetrader_core.service",
    "ReplayMarket": "livetrader_core.market.replay",
    "TdxMarket": "livetrader_core.market.tdx",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
