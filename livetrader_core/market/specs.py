"""What one unit of a symbol is where no venue says so: contracts by MARKET and product.

Margins and commissions are typical figures of an ordinary account, not a broker's promise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from livetrader_core.errors import DataError, UnknownSymbol
from livetrader_core.models import Commission, Contract, Margin, market_of
from livetrader_core.sessions import Minutes, Sessions

_NEW_YORK = "America/New_York"
_SHANGHAI = "Asia/Shanghai"

US_SESSIONS = Sessions(_NEW_YORK, ((4 * 60, 20 * 60),))
HK_SESSIONS = Sessions("Asia/Hong_Kong", ((9 * 60 + 30, 12 * 60), (13 * 60, 16 * 60 + 10)))
FOREX_SESSIONS = Sessions(_NEW_YORK, ((-7 * 60, 17 * 60),))
CRYPTO_SESSIONS = Sessions("UTC", ((0, 24 * 60),), weekdays=(0, 1, 2, 3, 4, 5, 6))

_COMMODITY_DAY: tuple[Minutes, ...] = ((540, 615), (630, 690), (810, 900))
_INDEX_DAY: tuple[Minutes, ...] = ((570, 690), (780, 900))
_BOND_DAY: tuple[Minutes, ...] = ((570, 690), (780, 915))

#: When the night session of a product ends, in minutes after midnight of the evening it opens.
_NO_NIGHT, _TILL_2300, _TILL_0100, _TILL_0230 = 0, 1380, 1500, 1590

#: Product: price tick, multiplier, end of night, margin rate, commission per lot, its rate.
_Product = tuple[float, float, int, float, float, float]

_FUTURES: dict[str, dict[str, _Product]] = {
    "SHFE": {
        "cu": (10, 5, _TILL_0100, 0.09, 0, 0.00005),
        "al": (5, 5, _TILL_0100, 0.09, 3, 0),
        "zn": (5, 5, _TILL_0100, 0.09, 3, 0),
        "pb": (5, 5, _TILL_0100, 0.09, 0, 0.00004),
        "ni": (10, 1, _TILL_0100, 0.12, 3, 0),
        "sn": (10, 1, _TILL_0100, 0.12, 3, 0),
        "ao": (1, 20, _TILL_0100, 0.09, 0, 0.0001),
        "ss": (5, 5, _TILL_0100, 0.07, 2, 0),
        "au": (0.02, 1000, _TILL_0230, 0.10, 10, 0),
        "ag": (1, 15, _TILL_0230, 0.12, 0, 0.00005),
        "rb": (1, 10, _TILL_2300, 0.07, 0, 0.0001),
        "hc": (1, 10, _TILL_2300, 0.07, 0, 0.0001),
        "wr": (1, 10, _NO_NIGHT, 0.09, 0, 0.00004),
        "ru": (5, 10, _TILL_2300, 0.08, 3, 0),
        "br": (5, 5, _TILL_2300, 0.12, 0, 0.00002),
        "bu": (1, 10, _TILL_2300, 0.10, 0, 0.00005),
        "fu": (1, 10, _TILL_2300, 0.10, 0, 0.00005),
        "sp": (2, 10, _TILL_2300, 0.08, 0, 0.00005),
    },
    "INE": {
        "sc": (0.1, 1000, _TILL_0230, 0.10, 20, 0),
        "lu": (1, 10, _TILL_2300, 0.10, 0, 0.00001),
        "nr": (5, 10, _TILL_2300, 0.08, 0, 0.00002),
        "bc": (10, 5, _TILL_0100, 0.09, 0, 0.00001),
        "ec": (0.1, 50, _NO_NIGHT, 0.15, 0, 0.0006),
    },
    "DCE": {
        "m": (1, 10, _TILL_2300, 0.07, 1.5, 0),
        "y": (2, 10, _TILL_2300, 0.07, 2.5, 0),
        "a": (1, 10, _TILL_2300, 0.07, 2, 0),
        "b": (1, 10, _TILL_2300, 0.07, 1, 0),
        "p": (2, 10, _TILL_2300, 0.08, 2.5, 0),
        "c": (1, 10, _TILL_2300, 0.07, 1.2, 0),
        "cs": (1, 10, _TILL_2300, 0.06, 1.5, 0),
        "rr": (1, 10, _TILL_2300, 0.06, 1, 0),
        "i": (0.5, 100, _TILL_2300, 0.13, 0, 0.0001),
        "j": (0.5, 100, _TILL_2300, 0.20, 0, 0.0001),
        "jm": (0.5, 60, _TILL_2300, 0.20, 0, 0.0001),
        "l": (1, 5, _TILL_2300, 0.07, 1, 0),
        "v": (1, 5, _TILL_2300, 0.07, 1, 0),
        "pp": (1, 5, _TILL_2300, 0.07, 1, 0),
        "eg": (1, 10, _TILL_2300, 0.08, 3, 0),
        "eb": (1, 5, _TILL_2300, 0.08, 3, 0),
        "pg": (1, 20, _TILL_2300, 0.08, 6, 0),
        "jd": (1, 10, _NO_NIGHT, 0.09, 0, 0.00015),
        "lh": (5, 16, _NO_NIGHT, 0.10, 0, 0.0001),
    },
    "CZCE": {
        "SR": (1, 10, _TILL_2300, 0.07, 3, 0),
        "CF": (5, 5, _TILL_2300, 0.07, 4.3, 0),
        "CY": (5, 5, _TILL_2300, 0.07, 4, 0),
        "RM": (1, 10, _TILL_2300, 0.09, 1.5, 0),
        "OI": (1, 10, _TILL_2300, 0.09, 2, 0),
        "TA": (2, 5, _TILL_2300, 0.07, 3, 0),
        "PF": (2, 5, _TILL_2300, 0.08, 3, 0),
        "PX": (2, 5, _TILL_2300, 0.12, 0, 0.0001),
        "MA": (1, 10, _TILL_2300, 0.08, 0, 0.0001),
        "FG": (1, 20, _TILL_2300, 0.09, 6, 0),
        "SA": (1, 20, _TILL_2300, 0.09, 0, 0.0002),
        "SH": (1, 30, _TILL_2300, 0.09, 0, 0.0002),
        "ZC": (0.2, 100, _TILL_2300, 0.50, 150, 0),
        "AP": (1, 10, _NO_NIGHT, 0.10, 5, 0),
        "CJ": (5, 5, _NO_NIGHT, 0.12, 3, 0),
        "PK": (2, 5, _NO_NIGHT, 0.08, 4, 0),
        "SF": (2, 5, _NO_NIGHT, 0.12, 3, 0),
        "SM": (2, 5, _NO_NIGHT, 0.12, 3, 0),
        "UR": (1, 20, _NO_NIGHT, 0.08, 0, 0.0001),
    },
    "CFFEX": {
        "IF": (0.2, 300, _NO_NIGHT, 0.12, 0, 0.000023),
        "IH": (0.2, 300, _NO_NIGHT, 0.12, 0, 0.000023),
        "IC": (0.2, 200, _NO_NIGHT, 0.12, 0, 0.000023),
        "IM": (0.2, 200, _NO_NIGHT, 0.12, 0, 0.000023),
        "TS": (0.002, 20000, _NO_NIGHT, 0.005, 3, 0),
        "TF": (0.005, 10000, _NO_NIGHT, 0.012, 3, 0),
        "T": (0.005, 10000, _NO_NIGHT, 0.02, 3, 0),
        "TL": (0.01, 10000, _NO_NIGHT, 0.035, 3, 0),
    },
    "GFEX": {
        "si": (5, 5, _NO_NIGHT, 0.09, 0, 0.0001),
        "lc": (20, 1, _NO_NIGHT, 0.09, 0, 0.00008),
        "ps": (5, 3, _NO_NIGHT, 0.09, 0, 0.0001),
    },
}

#: Metals that brokers list among the currencies: ounces in a lot, price tick.
_METALS = {"XAU": (100.0, 0.01), "XAG": (5000.0, 0.001)}

_QUOTE_ASSETS = ("USDT", "USDC", "FDUSD", "BUSD", "BTC", "ETH", "BNB")
_FUTURE_CODE = re.compile(r"([A-Za-z]{1,2})\d{3,4}")


def default_contract(symbol: str) -> Contract:
    """The usual contract of ``symbol``. Raises UnknownSymbol for a MARKET or product not here."""
    market = market_of(symbol)
    code = symbol[len(market) + 1 :]
    if market == "US":
        return _stock(symbol)
    if market == "HK":
        return _hong_kong_stock(symbol)
    if market == "FOREX":
        return _currency_pair(symbol, code)
    if market == "BINANCE":
        return _crypto(symbol, code)
    if market in _FUTURES:
        return _future(symbol, market, code)
    known = ", ".join(("US", "HK", "FOREX", "BINANCE", *_FUTURES))
    raise UnknownSymbol(
        f"{symbol}: nothing is known of the market {market}; known: {known}. "
        "Describe it in a contracts file"
    )


def _stock(symbol: str) -> Contract:
    return Contract(
        symbol=symbol,
        price_tick=0.01,
        quantity_step=1.0,
        min_quantity=1.0,
        multiplier=1.0,
        currency="USD",
        sessions=US_SESSIONS,
        commission=Commission(per_unit=0.005),
    )


def _hong_kong_stock(symbol: str) -> Contract:
    # Its tick grows with its price and its board lot differs by stock: here are the smallest.
    return Contract(
        symbol=symbol,
        price_tick=0.001,
        quantity_step=1.0,
        min_quantity=1.0,
        multiplier=1.0,
        currency="HKD",
        sessions=HK_SESSIONS,
        commission=Commission(rate=0.0012),
    )


def _currency_pair(symbol: str, code: str) -> Contract:
    if not (len(code) == 6 and code.isalpha() and code.isupper()):
        raise UnknownSymbol(f"{symbol}: a currency pair has six capitals, such as FOREX.EURUSD")
    base, quote = code[:3], code[3:]
    tick = 0.001 if quote == "JPY" else 0.00001
    multiplier, tick = _METALS.get(base, (100_000.0, tick))
    return Contract(
        symbol=symbol,
        price_tick=tick,
        quantity_step=0.01,
        min_quantity=0.01,
        multiplier=multiplier,
        currency=quote,
        sessions=FOREX_SESSIONS,
        margin=Margin(rate=0.01),
    )


def _crypto(symbol: str, code: str) -> Contract:
    quote = next((q for q in _QUOTE_ASSETS if code.endswith(q) and code != q), None)
    if quote is None:
        raise UnknownSymbol(f"{symbol}: its quote asset is none of {', '.join(_QUOTE_ASSETS)}")
    return Contract(
        symbol=symbol,
        price_tick=0.01,
        quantity_step=0.00001,
        min_quantity=0.00001,
        multiplier=1.0,
        currency=quote,
        sessions=CRYPTO_SESSIONS,
        commission=Commission(rate=0.001),
        shortable=False,
    )


def _future(symbol: str, market: str, code: str) -> Contract:
    matched = _FUTURE_CODE.fullmatch(code)
    products = _FUTURES[market]
    if matched is None or matched[1] not in products:
        raise UnknownSymbol(
            f"{symbol}: {market} contracts are written as product and month, such as "
            f"{market}.{next(iter(products))}2605; products: {', '.join(products)}"
        )
    tick, multiplier, night_end, margin_rate, per_lot, rate = products[matched[1]]
    return Contract(
        symbol=symbol,
        price_tick=float(tick),
        quantity_step=1.0,
        min_quantity=1.0,
        multiplier=float(multiplier),
        currency="CNY",
        sessions=Sessions(
            _SHANGHAI,
            _day_of(market, matched[1]),
            ((21 * 60, night_end),) if night_end else (),
        ),
        margin=Margin(rate=margin_rate),
        commission=Commission(per_unit=float(per_lot), rate=float(rate)),
    )


def _day_of(market: str, product: str) -> tuple[Minutes, ...]:
    if market != "CFFEX":
        return _COMMODITY_DAY
    return _BOND_DAY if product.startswith("T") else _INDEX_DAY


# --------------------------------------------------------------------------- contract files


def contracts_from_file(path: str | Path) -> dict[str, Contract]:
    """Contracts of Chinese futures, by symbol, from a file in the vendor's JSON layout.

    Its margin and commission are yuan per lot; a session time such as ``25:00:00`` lies past
    midnight. Raises DataError naming the file and the symbol at fault.
    """
    path = Path(path)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path}: is not JSON: {error}") from error
    if not isinstance(entries, dict):
        raise DataError(f"{path}: must hold an object with a contract for each symbol")
    contracts = {}
    for symbol, entry in entries.items():
        try:
            market_of(symbol)
            contracts[symbol] = _listed_future(symbol, entry)
        except KeyError as error:
            raise DataError(f"{path}: {symbol}: {error.args[0]} is missing") from error
        except (TypeError, ValueError, AttributeError, UnknownSymbol) as error:
            raise DataError(f"{path}: {symbol}: {error}") from error
    return contracts


def _listed_future(symbol: str, entry: Mapping[str, Any]) -> Contract:
    times = entry["trading_time"]
    return Contract(
        symbol=symbol,
        price_tick=_positive(entry, "price_tick"),
        quantity_step=1.0,
        min_quantity=1.0,
        multiplier=_positive(entry, "volume_multiple"),
        currency="CNY",
        sessions=Sessions(_SHANGHAI, _spans(times["day"]), _spans(times.get("night") or ())),
        margin=Margin(per_unit=float(entry["margin"])),
        commission=Commission(per_unit=float(entry["commission"])),
        name=str(entry.get("ins_id", "")),
        expires_at=round(float(entry.get("expire_datetime", 0)) * 1000),
    )


def _positive(entry: Mapping[str, Any], key: str) -> float:
    value = float(entry[key])
    if not value > 0:
        raise ValueError(f"{key} must be positive, not {value:g}")
    return value


def _spans(times: Any) -> tuple[Minutes, ...]:
    return tuple((_minutes(start), _minutes(end)) for start, end in times)


def _minutes(text: str) -> int:
    hours, minutes, _ = text.split(":")
    return int(hours) * 60 + int(minutes)
