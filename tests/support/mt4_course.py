"""A price at MetaTrader 4 that takes a course, and orders around its beginning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from livetrader_core.market.specs import default_contract
from livetrader_core.models import Klines, Order, OrderType, Side
from livetrader_core.sim.recording import MINUTE_MS, Recording
from tests.support.dwx_trading import NOON
from tests.support.dwx_venue import EURUSD, USDJPY

FIRST = {EURUSD: 1.10000, USDJPY: 105.000}
_BEFORE, _AFTER = 5, 30


def course(symbol: str, ticks: Sequence[int]) -> Recording:
    """A price that takes ``ticks`` from its first one, a step a minute, the first at NOON."""
    contract = default_contract(symbol)
    first = FIRST.get(symbol, 1.0)
    steps = np.array([0] * _BEFORE + list(ticks) + [ticks[-1]] * _AFTER)
    price = np.array([contract.round_price(first + t * contract.price_tick) for t in steps])
    times = NOON - _BEFORE * MINUTE_MS + np.arange(len(steps), dtype=np.int64) * MINUTE_MS
    flat = np.zeros(len(steps))
    columns = [price, price, price, price, flat + 30, flat]
    return Recording(contract, Klines.from_columns(symbol, "1m", times, columns))


def priced(name: str, ticks: int, kind: OrderType, lots: float, side: Side) -> Order:
    """A limit or stop order for EURUSD, so many ticks from its first price."""
    price = default_contract(EURUSD).round_price(FIRST[EURUSD] + ticks * 1e-5)
    if kind is OrderType.STOP:
        return Order(name, EURUSD, side, kind, lots, stop_price=price)
    return Order(name, EURUSD, side, kind, lots, price=price)
