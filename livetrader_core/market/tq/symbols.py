"""Symbols of livetrader and instruments of tqsdk.

A futures contract is written alike on both sides: ``SHFE.rb2605``. The main contract of a product
is ``KQ.m@SHFE.rb`` there and ``SHFE.rb_main`` here: its klines are those of whichever contract was
the main one at each time, unadjusted, and it can be watched but not traded.
"""

from __future__ import annotations

from livetrader_core.errors import UnknownSymbol
from livetrader_core.models import market_of

#: The exchanges of China's mainland that list futures.
MARKETS = ("SHFE", "INE", "DCE", "CZCE", "CFFEX", "GFEX")

MAIN_SUFFIX = "_main"
_MAIN_PREFIX = "KQ.m@"


def is_main(symbol: str) -> bool:
    """Whether ``symbol`` stands for the main contract of a product."""
    return symbol.endswith(MAIN_SUFFIX)


def instrument_of(symbol: str) -> str:
    """What tqsdk calls ``symbol``. Raises UnknownSymbol for another market's."""
    if market_of(symbol) not in MARKETS:
        raise UnknownSymbol(
            f"{symbol}: tqsdk serves {', '.join(MARKETS)}; write {MARKETS[0]}.rb2605 for a "
            f"contract, {MARKETS[0]}.rb{MAIN_SUFFIX} for the main contract of a product"
        )
    if is_main(symbol):
        return _MAIN_PREFIX + symbol.removesuffix(MAIN_SUFFIX)
    return symbol


def symbol_of(instrument: str) -> str | None:
    """The symbol of a tqsdk instrument; None for one that is no future of these markets."""
    main = instrument.startswith(_MAIN_PREFIX)
    name = instrument.removeprefix(_MAIN_PREFIX)
    if name.partition(".")[0] not in MARKETS:
        return None
    return name + MAIN_SUFFIX if main else name
