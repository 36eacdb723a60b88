"""Market adapters: one file per venue.

Adapters and the service load when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from livetrader_core.market.base import MarketBase

if TYPE_CHECKING:
    from livetrader_core.market.cached import CachedMarket
    from livetrader_core.market.dwx import DwxMarket
    from livetrader_core.market.mt4 import Mt4Market
    from livetrader_core.market.rehearsal import RehearsalMarket
    from livetrader_core.market.replay import ReplayMarket
    from livetrader_core.market.tdx import TdxMarket
    from livetrader_core.market.tq import TqMarket
    from livetrader_core.service import MarketService

__all__ = [
    "CachedMarket",
    "DwxMarket",
    "MarketBase",
    "MarketService",
    "Mt4Market",
    "RehearsalMarket",
    "ReplayMarket",
    "TdxMarket",
    "TqMarket",
]

_HOMES = {
    "CachedMarket": "livetrader_core.market.cached",
    "DwxMarket": "livetrader_core.market.dwx",
    "MarketService": "livetrader_core.service",
    "Mt4Market": "livetrader_core.market.mt4",
    "RehearsalMarket": "livetrader_core.market.rehearsal",
    "ReplayMarket": "livetrader_core.market.replay",
    "TdxMarket": "livetrader_core.market.tdx",
    "TqMarket": "livetrader_core.market.tq",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
