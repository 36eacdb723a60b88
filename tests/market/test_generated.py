"""Generated klines: always the same, and always within the market's hours."""

from __future__ import annotations

import time
from datetime import date
from typing import Any

import numpy as np
import pytest

from livetrader_core.errors import ConfigError, UnknownSymbol
from livetrader_core.market.generated import DEFAULT_SYMBOLS, GeneratedSource
from livetrader_core.models import Klines
from tests.market.samples import at, local

SYMBOLS = ("US.BABA", "FOREX.EURUSD", "FOREX.USDJPY", "SHFE.cu2605", "DCE.jd2605", "CFFEX.IF2603")


def same(one: Klines, other: Klines) -> bool:
    columns = zip((one.datetime, *one.columns()), (other.datetime, *other.columns()), strict=True)
    return all(np.array_equal(a, b) for a, b in columns)


def test_the_same_seed_gives_the_same_klines_in_any_order() -> None:
    one, other = GeneratedSource(SYMBOLS, seed=3, days=20), GeneratedSource(SYMBOLS, 3, days=20)
    first = [one.klines(symbol) for symbol in SYMBOLS]
    last = [other.klines(symbol) for symbol in reversed(SYMBOLS)][::-1]
    alone = [GeneratedSource([symbol], 3, days=20).klines(symbol) for symbol in SYMBOLS]
    for klines, again, single in zip(first, last, alone, strict=True):
        assert same(klines, again)
        assert same(klines, single)


def test_another_seed_or_symbol_gives_other_klines() -> None:
    source = GeneratedSource(["US.BABA", "US.AAPL"], days=10)
    other = GeneratedSource(["US.BABA"], seed=1, days=10)
    assert not same(source.klines("US.BABA"), other.klines("US.BABA"))
    assert not np.array_equal(source.klines("US.BABA").volume, source.klines("US.AAPL").volume)


def test_a_day_is_the_same_whatever_lies_around_it() -> None:
    long = GeneratedSource(["SHFE.cu2605"], start="2025-09-01", days=60).klines("SHFE.cu2605")
    short = GeneratedSource(["SHFE.cu2605"], start=date(2025, 9, 22), days=5).klines("SHFE.cu2605")
    inside = np.searchsorted(long.datetime, short.datetime[0])
    assert same(long[inside : inside + len(short)], short)
    assert 0 < inside < len(long) - len(short)


@pytest.mark.parametrize("symbol", [*SYMBOLS, "BINANCE.BTCUSDT"])
def test_klines_are_sound(symbol: str) -> None:
    source = GeneratedSource([symbol], start="2025-10-20", days=28)  # both clock changes of autumn
    contract, klines = source.contract(symbol), source.klines(symbol)
    assert np.all(np.diff(klines.datetime) > 0)
    assert all(contract.sessions.is_open(ts) for ts in klines.datetime.tolist())
    assert np.all(klines.high >= np.maximum(klines.open, klines.close))
    assert np.all(klines.low <= np.minimum(klines.open, klines.close))
    for column in klines.columns()[:4]:
        assert column.tolist() == [contract.round_price(price) for price in column.tolist()]
    assert np.all(klines.volume > 0)
    assert np.any(klines.open_interest > 0) == (contract.currency == "CNY")
    days = np.unique(contract.sessions.trading_days(klines.datetime))
    assert len(days) == (28 if symbol.startswith("BINANCE") else 20)


def test_us_klines_are_dense_in_regular_hours_of_new_york_and_sparse_around() -> None:
    klines = GeneratedSource(["US.BABA"], start="2025-10-20", days=28).klines("US.BABA")
    for day in ("2025-10-31", "2025-11-03"):  # before and after the clocks change
        new_york = "America/New_York"
        open_, close = at(f"{day} 09:30", new_york), at(f"{day} 16:00", new_york)
        times = klines.datetime
        regular = np.sum((times >= open_) & (times < close))
        early = np.sum((times >= at(f"{day} 04:00", new_york)) & (times < open_))
        assert regular > 380
        assert 10 < early < 200


def test_futures_trade_at_night_and_across_the_weekend() -> None:
    klines = GeneratedSource(["SHFE.cu2605"], start="2025-09-01", days=14).klines("SHFE.cu2605")
    hours = {local(ts, "Asia/Shanghai").hour for ts in klines.datetime.tolist()}
    assert hours == {9, 10, 11, 13, 14, 21, 22, 23, 0}
    saturday = [ts for ts in klines.datetime.tolist() if local(ts, "Asia/Shanghai").weekday() == 5]
    assert saturday


@pytest.mark.parametrize("symbol", DEFAULT_SYMBOLS)
def test_prices_move_enough_for_strategies_to_trade(symbol: str) -> None:
    klines = GeneratedSource([symbol], days=20).klines(symbol)
    returns = np.diff(np.log(klines.close))
    assert klines.close.max() / klines.close.min() > 1.01
    assert np.mean(returns != 0) > 0.5
    # Restless stretches follow one another.
    size = np.abs(returns) - np.abs(returns).mean()
    assert np.mean(size[1:] * size[:-1]) / np.mean(size**2) > 0.02


def test_a_year_of_a_symbol_takes_less_than_a_second() -> None:
    source = GeneratedSource(["FOREX.EURUSD"], days=365)
    started = time.process_time()
    klines = source.klines("FOREX.EURUSD")
    assert len(klines) > 350_000
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"days": 0}, "days"),
        ({"days": True}, "days"),
        ({"start": "yesterday"}, "start"),
        ({"start": "1999-12-31"}, "start"),
    ],
)
def test_wrong_settings_are_named(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{said}: "):
        GeneratedSource(**arguments)


def test_unknown_symbols() -> None:
    with pytest.raises(UnknownSymbol, match=r"LSE\.VOD"):
        GeneratedSource(["LSE.VOD"])
    with pytest.raises(UnknownSymbol, match=r"US\.NOPE is not generated"):
        GeneratedSource().klines("US.NOPE")
