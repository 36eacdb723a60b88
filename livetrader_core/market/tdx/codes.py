"""The venue's markets and codes, and our symbols.

It writes capitals throughout, and four digits of the month where Zhengzhou itself writes three:
``SHFE.rb2605`` is RB2605 in market 30, ``CZCE.SR605`` is SR2605 in market 28.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from livetrader_core.errors import UnknownSymbol
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Contract, market_of

FUTURES = ("SHFE", "INE", "DCE", "CZCE", "CFFEX", "GFEX")
#: The MARKETs it can quote.
MARKETS = ("US", "HK", *FUTURES)

_NUMBERS = {
    "US": 74,
    "HK": 31,
    "CFFEX": 47,
    "SHFE": 30,
    "INE": 30,
    "DCE": 29,
    "CZCE": 28,
    "GFEX": 66,
}
_HK_GROWTH = 48  # the codes from 08000 on
_HK_CODES = re.compile(r"\d{5}")
_FUTURE = re.compile(r"(?P<product>[A-Z]{1,2})(?P<month>\d{3,4}|L[0-9])")
_INE_PRODUCTS = ("SC", "LU", "NR", "BC", "EC")
_CAPITAL_PRODUCTS = ("CZCE", "CFFEX")
_MOST_BYTES = 9
#: A month that any product has, to learn what its continuous series are contracts of.
_ANY_MONTH = "2605"


@dataclass(frozen=True)
class Code:
    """An instrument in the venue's words."""

    market: int
    code: str


def venue_code(symbol: str, year: int) -> Code:
    """The venue's code of ``symbol``; ``year`` is the present one. Raises UnknownSymbol."""
    market = market_of(symbol)
    code = symbol[len(market) + 1 :]
    if market not in _NUMBERS:
        raise UnknownSymbol(f"{symbol}: TDX has no market {market}; it has {', '.join(MARKETS)}")
    number = _NUMBERS[market]
    if market == "HK":
        if not _HK_CODES.fullmatch(code):
            raise UnknownSymbol(f"{symbol}: a Hong Kong code has five digits, such as HK.00700")
        return Code(_HK_GROWTH if code.startswith("08") else number, code)
    if market in FUTURES:
        code = _future_code(symbol, market, code.upper(), year)
    # A longer code would be cut on the wire and name another instrument.
    if not code.isascii() or not code.isprintable() or len(code) > _MOST_BYTES:
        raise UnknownSymbol(f"{symbol}: TDX codes have at most {_MOST_BYTES} ASCII characters")
    return Code(number, code)


def _future_code(symbol: str, market: str, code: str, year: int) -> str:
    matched = _FUTURE.fullmatch(code)
    if matched is None:
        raise UnknownSymbol(
            f"{symbol}: a future is written as product and month, such as {market}.xx{_ANY_MONTH}, "
            "or with L8 for the main contract's series"
        )
    month = matched["month"]
    if market != "CZCE" or len(month) != 3 or month.startswith("L"):
        return code
    nearest = min(
        (y for y in range(year - 4, year + 7) if y % 10 == int(month[0])),
        key=lambda y: abs(y - year),
    )
    return f"{matched['product']}{nearest // 10 % 10}{month}"


def symbol_of(number: int, code: str) -> str | None:
    """Our symbol for an instrument of the venue; None for those we have no market for."""
    if number in (_NUMBERS["HK"], _HK_GROWTH):
        return f"HK.{code}" if _HK_CODES.fullmatch(code) else None
    if number == _NUMBERS["US"]:
        return f"US.{code}"
    market = next((m for m in FUTURES if _NUMBERS[m] == number), None)
    matched = _FUTURE.fullmatch(code)
    if market is None or matched is None:
        return None
    product, month = matched["product"], matched["month"]
    if market == "SHFE" and product in _INE_PRODUCTS:
        market = "INE"
    if market == "CZCE" and len(month) == 4:
        month = month[1:]
    return f"{market}.{product if market in _CAPITAL_PRODUCTS else product.lower()}{month}"


def usual_contract(symbol: str) -> Contract:
    """The contract of ``symbol`` by its market and product. Raises UnknownSymbol.

    The venue tells neither tick nor multiplier.
    """
    market, _, code = symbol.partition(".")
    matched = re.fullmatch(r"([A-Za-z]{1,2})L[0-9]", code)
    if market in FUTURES and matched:
        month = default_contract(f"{market}.{matched[1]}{_ANY_MONTH}")
        return replace(month, symbol=symbol)
    return default_contract(symbol)
