"""Trading hours and trading days, across clock changes and weekends."""

from __future__ import annotations

import asyncio
from datetime import date

import numpy as np
import pytest

from livetrader_core.market import ReplayMarket
from livetrader_core.market.specs import default_contract
from livetrader_core.sessions import Sessions
from livetrader_core.timeframe import MINUTE_MS
from tests.market.samples import at, sample

US = default_contract("US.BABA").sessions
FOREX = default_contract("FOREX.EURUSD").sessions
COPPER = default_contract("SHFE.cu2605").sessions
GOLD = default_contract("SHFE.au2606").sessions
EGGS = default_contract("DCE.jd2605").sessions
CRYPTO = default_contract("BINANCE.BTCUSDT").sessions


@pytest.mark.parametrize(
    ("day", "opens"),
    [
        (date(2020, 10, 30), "2020-10-30 08:00"),  # summer time ends on 1 November
        (date(2020, 11, 2), "2020-11-02 09:00"),
        (date(2021, 3, 12), "2021-03-12 09:00"),  # and begins on 14 March
        (date(2021, 3, 15), "2021-03-15 08:00"),
    ],
)
def test_us_hours_keep_their_local_time(day: date, opens: str) -> None:
    assert US.bounds(day) == ((at(opens), at(opens) + 16 * 60 * MINUTE_MS),)


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [
        (date(2020, 10, 30), "2020-10-29 21:00", "2020-10-30 21:00"),
        (date(2020, 11, 2), "2020-11-01 22:00", "2020-11-02 22:00"),
        (date(2021, 3, 15), "2021-03-14 21:00", "2021-03-15 21:00"),
    ],
)
def test_forex_day_runs_from_five_in_new_york(day: date, opens: str, closes: str) -> None:
    assert FOREX.bounds(day) == ((at(opens), at(closes)),)


def test_forex_evening_belongs_to_the_next_day_and_friday_night_is_closed() -> None:
    new_york = "America/New_York"
    assert FOREX.trading_day(at("2020-11-03 16:59", new_york)) == 20201103
    assert FOREX.trading_day(at("2020-11-03 17:00", new_york)) == 20201104
    assert FOREX.trading_day(at("2020-11-08 17:00", new_york)) == 20201109
    assert not FOREX.is_open(at("2020-11-06 17:00", new_york))
    assert FOREX.next_open(at("2020-11-07 12:00")) == at("2020-11-08 17:00", new_york)


def test_friday_night_belongs_to_monday_also_after_midnight() -> None:
    shanghai = "Asia/Shanghai"
    for moment in ("2019-11-15 21:00", "2019-11-16 00:59"):  # a Friday and its Saturday
        assert COPPER.trading_day(at(moment, shanghai)) == 20191118
        assert COPPER.is_open(at(moment, shanghai))
    assert not COPPER.is_open(at("2019-11-16 01:00", shanghai))
    assert GOLD.is_open(at("2019-11-16 02:29", shanghai))
    assert not GOLD.is_open(at("2019-11-16 02:30", shanghai))
    assert COPPER.open_of(date(2019, 11, 18)) == at("2019-11-15 21:00", shanghai)
    assert COPPER.close_of(date(2019, 11, 18)) == at("2019-11-18 15:00", shanghai)


def test_breaks_are_closed_and_a_product_without_night_opens_in_the_morning() -> None:
    shanghai = "Asia/Shanghai"
    for moment in ("2019-11-18 10:15", "2019-11-18 12:00", "2019-11-18 15:00"):
        assert not EGGS.is_open(at(moment, shanghai))
    assert EGGS.open_of(date(2019, 11, 18)) == at("2019-11-18 09:00", shanghai)
    assert EGGS.next_open(at("2019-11-18 12:00", shanghai)) == at("2019-11-18 13:30", shanghai)
    assert EGGS.next_open(at("2019-11-18 15:00", shanghai)) == at("2019-11-19 09:00", shanghai)


def test_crypto_never_closes() -> None:
    assert all(CRYPTO.is_open(at("2019-11-15 00:00") + h * 3_600_000) for h in range(24 * 8))
    assert CRYPTO.trading_day(at("2019-11-16 23:59")) == 20191116


def test_a_daily_kline_closes_with_its_last_session() -> None:
    shanghai = "Asia/Shanghai"
    opened = at("2019-11-15 21:00", shanghai)
    assert COPPER.kline_end(opened, "1d") == at("2019-11-18 15:00", shanghai)
    assert COPPER.kline_end(opened, "5m") == opened + 5 * MINUTE_MS
    ends = COPPER.kline_ends(np.array([opened, opened + 7 * 86_400_000]), "1d")
    assert ends.tolist() == [at("2019-11-18 15:00", shanghai), at("2019-11-25 15:00", shanghai)]


@pytest.mark.parametrize("sessions", [US, FOREX, COPPER, GOLD, EGGS, CRYPTO])
def test_many_trading_days_at_once_are_those_one_by_one(sessions: Sessions) -> None:
    ts = np.arange(at("2020-10-28"), at("2020-11-11"), 47 * MINUTE_MS)
    assert sessions.trading_days(ts).tolist() == [sessions.trading_day(int(t)) for t in ts]
    assert sessions.trading_days(ts[:0]).tolist() == []


def test_klines_lie_within_the_sessions_of_their_contracts() -> None:
    async def main() -> None:
        chosen = sample()
        market = ReplayMarket(**chosen.arguments)
        for symbol in chosen.symbols:
            sessions = (await market.get_contract(symbol)).sessions
            klines = await market.get_kline_histories(symbol, limit=20_000)
            assert len(klines) > 10_000
            outside = [ts for ts in klines.datetime.tolist() if not sessions.is_open(ts)]
            assert outside == []

    asyncio.run(main())
