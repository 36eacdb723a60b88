"""The contract service of a DIFF server: GraphQL over what is recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from graphql import GraphQLError, GraphQLSchema, build_schema, execute_sync, parse

from livetrader_core.models import Contract
from livetrader_core.sessions import Minutes
from livetrader_core.sim.tq_instrument import BEIJING, Instrument

_PRODUCT = re.compile(r"([A-Za-z]+)(\d{2,4})")
#: Futures expire on the 15th of their month where the recording does not say when.
_USUAL_EXPIRY = 15

_SCHEMA = """
scalar Int64
enum Class { BOND COMBINE CONT FUND FUTURE INDEX OPTION SPOT STOCK }
type tradingTime { day: [[String]] night: [[String]] }
type categoryInfo { id: String name: String }
type derivativeConnection { count: Int edges: [derivativeEdges] }
type derivativeEdges { node: basic underlying_multiple: Float }
interface basic {
  instrument_id: String exchange_id: String ins_id: String instrument_name: String
  english_name: String class: String price_tick: Float price_decs: Int trading_day: String
  trading_time: tradingTime
}
interface tradeable {
  volume_multiple: Float quote_multiple: Float pre_close: Float upper_limit: Float
  lower_limit: Float
}
interface derivative { underlying: derivativeConnection }
type future implements basic & tradeable {
  instrument_id: String exchange_id: String ins_id: String instrument_name: String
  english_name: String class: String price_tick: Float price_decs: Int trading_day: String
  trading_time: tradingTime
  volume_multiple: Float quote_multiple: Float pre_close: Float upper_limit: Float
  lower_limit: Float
  pre_open_interest: Int64 expired: Boolean product_id: String product_short_name: String
  delivery_year: Int delivery_month: Int expire_datetime: Int64 settlement_price: Float
  max_market_order_volume: Int max_limit_order_volume: Int min_market_order_volume: Int
  min_limit_order_volume: Int open_limit: Int open_max_market_order_volume: Int
  open_max_limit_order_volume: Int open_min_market_order_volume: Int
  open_min_limit_order_volume: Int margin: Float commission: Float mmsa: Boolean
  categories: [categoryInfo] position_limit: Int
}
type cont implements basic & tradeable & derivative {
  instrument_id: String exchange_id: String ins_id: String instrument_name: String
  english_name: String class: String price_tick: Float price_decs: Int trading_day: String
  trading_time: tradingTime
  volume_multiple: Float quote_multiple: Float pre_close: Float upper_limit: Float
  lower_limit: Float
  underlying: derivativeConnection
}
type Query {
  multi_symbol_info(
    instrument_id: [String] class: [Class] exchange_id: [String] product_id: [String]
    expired: Boolean has_night: Boolean has_derivatives: Boolean timestamp: Int64
  ): [basic]
}
"""


class ContractService:
    """Answers ``ins_query``: the futures among ``instruments`` and their main contracts."""

    def __init__(self, futures: Iterable[Instrument], mains: Mapping[str, Instrument]) -> None:
        self._futures = {one.name: one for one in futures}
        self._mains = dict(mains)
        self._schema: GraphQLSchema = build_schema(_SCHEMA)

    def answer(self, query: str, variables: Mapping[str, Any], now: int) -> dict[str, Any]:
        """``{"result": …}`` or ``{"error": …}`` at ``now`` (UTC ms)."""

        def multi_symbol_info(_: object, **wanted: Any) -> list[dict[str, Any]]:
            entries = self._entries(wanted.get("instrument_id"), now)
            return [entry for entry in entries if _matches(entry, wanted)]

        root = {"multi_symbol_info": multi_symbol_info}
        try:
            # Without validation: the client's fragments name types that no future needs.
            done = execute_sync(
                self._schema, parse(query), root_value=root, variable_values=dict(variables)
            )
        except GraphQLError as error:
            return {"error": error.message}
        if done.errors:
            return {"error": done.errors[0].message}
        return {"result": done.data}

    def _entries(self, names: Sequence[str] | None, now: int) -> list[dict[str, Any]]:
        """Entries of ``names``, which need not exist; of all for None."""
        if names is None:
            names = [*self._futures, *self._mains]
        futures = [self._futures[name] for name in names if name in self._futures]
        mains = [self._mains[name] for name in names if name in self._mains]
        return [
            *(future_entry(one.contract, one.price(now), now) for one in futures),
            *(_main_entry(one, now) for one in mains),
        ]


def _matches(entry: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    for name in ("instrument_id", "class", "exchange_id", "product_id"):
        if wanted.get(name) is not None and entry.get(name) not in wanted[name]:
            return False
    night = bool(entry["trading_time"]["night"])
    return all(
        wanted.get(name) is None or wanted[name] == has
        for name, has in (("expired", entry.get("expired", False)), ("has_night", night))
    )


def future_entry(contract: Contract, price: float, now: int) -> dict[str, Any]:
    """A future at ``price`` as the service describes it: yuan per lot, nanoseconds."""
    exchange, code = contract.symbol.split(".", 1)
    product, year, month = product_of(code, now)
    expires = contract.expires_at
    if not expires:
        expires = round(datetime(year, month, _USUAL_EXPIRY, 15, tzinfo=BEIJING).timestamp() * 1000)
    return {
        "__typename": "future",
        "class": "FUTURE",
        "instrument_id": contract.symbol,
        "exchange_id": exchange,
        "ins_id": code,
        "instrument_name": contract.name or code,
        "english_name": code,
        "price_tick": contract.price_tick,
        "price_decs": _decimals(contract.price_tick),
        "trading_day": contract.sessions.trading_date(now).strftime("%Y%m%d"),
        "trading_time": {
            "day": _times(contract.sessions.day),
            "night": _times(contract.sessions.night),
        },
        "volume_multiple": contract.multiplier,
        "quote_multiple": 1.0,
        "product_id": product,
        "product_short_name": product,
        "delivery_year": year,
        "delivery_month": month,
        "expire_datetime": expires * 1_000_000,
        "expired": expires <= now,
        "max_limit_order_volume": 500,
        "min_limit_order_volume": 1,
        "margin": contract.margin_of(price),
        "commission": contract.commission_of(1.0, price),
        "mmsa": False,
        "categories": [],
    }


def _main_entry(main: Instrument, now: int) -> dict[str, Any]:
    name, future = main.name, future_entry(main.contract, main.price(now), now)
    kept = ("price_tick", "price_decs", "trading_day", "trading_time", "volume_multiple")
    return {
        "__typename": "cont",
        "class": "CONT",
        "instrument_id": name,
        "exchange_id": "KQ",
        "ins_id": name.split(".", 1)[1],
        "instrument_name": name,
        "english_name": name,
        **{field: future[field] for field in kept},
        "underlying": {"count": 1, "edges": [{"node": future, "underlying_multiple": 1.0}]},
    }


def product_of(code: str, now: int) -> tuple[str, int, int]:
    """Product, year and month of ``rb2605``, or of ``RM705`` with the decade of ``now``."""
    match = _PRODUCT.fullmatch(code)
    if match is None:
        return code, 2099, 12
    product, digits = match.groups()
    year, month = int(digits[:-2]), int(digits[-2:])
    if len(digits) < 4:
        current = datetime.fromtimestamp(now / 1000, BEIJING).year
        year += current // 10 * 10 - 2000
    return product, 2000 + year, month if 1 <= month <= 12 else 12


def _times(spans: Iterable[Minutes]) -> list[list[str]]:
    return [[_clock(start), _clock(end)] for start, end in spans]


def _clock(minutes: int) -> str:
    """Minutes after midnight; hours run past 24, as ``25:00:00``."""
    return f"{minutes // 60:02d}:{minutes % 60:02d}:00"


def _decimals(tick: float) -> int:
    return len(f"{tick:.10f}".rstrip("0").partition(".")[2])
