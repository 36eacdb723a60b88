"""Recordings of Chinese futures for tests: recorded where they are at hand, generated elsewhere."""

from __future__ import annotations

from functools import lru_cache

from livetrader_core.market.generated import GeneratedSource
from livetrader_core.market.recorded import read_klines
from livetrader_core.market.specs import contracts_from_file
from livetrader_core.sim.recording import Recording
from tests.support.data import recorded_data

_RECORDED = ("SHFE.cu2002", "SHFE.rb2002", "DCE.m2005", "DCE.jd2002", "SHFE.au1912")
_GENERATED = ("SHFE.cu2605", "SHFE.rb2605", "DCE.m2605", "DCE.jd2605", "SHFE.au2606")


def future_symbols() -> tuple[str, ...]:
    """Copper (night till 01:00), rebar, soy meal, eggs (no night) and gold (night till 02:30)."""
    return _GENERATED if recorded_data() is None else _RECORDED


@lru_cache
def future(symbol: str) -> Recording:
    """The recording of one of :func:`future_symbols`."""
    folder = recorded_data()
    if folder is None:
        source = GeneratedSource([symbol], seed=3, days=40)
        return Recording(source.contract(symbol), source.klines(symbol))
    contract = contracts_from_file(folder / "contracts.json")[symbol]
    klines = read_klines(folder / f"{symbol}-1m.csv.gz", symbol, "1m", contract.sessions)
    return Recording(contract, klines)


def futures(count: int) -> list[Recording]:
    """The first ``count`` of them."""
    return [future(symbol) for symbol in future_symbols()[:count]]
