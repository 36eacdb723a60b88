"""Longer timeframes, against a plain loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from livetrader_core.errors import UnknownTimeframe
from livetrader_core.market import ReplayMarket
from livetrader_core.market.aggregate import aggregate
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Kline, Klines
from livetrader_core.sessions import Sessions, from_yyyymmdd
from livetrader_core.timeframe import DURATIONS_MS
from tests.market.samples import at, rising, sample


def one_by_one(klines: Iterable[Kline], timeframe: str, sessions: Sessions) -> list[list[float]]:
    """What aggregate must give, the slow way."""
    rows: list[list[float]] = []
    for kline in klines:
        if timeframe == "1d":
            day = from_yyyymmdd(sessions.trading_day(kline.datetime))
            opened = sessions.open_of(day)
        else:
            opened = kline.datetime - kline.datetime % DURATIONS_MS[timeframe]
        if not rows or rows[-1][0] != opened:
            rows.append([opened, kline.open, kline.high, kline.low, kline.close, 0.0, 0.0])
        row = rows[-1]
        row[2], row[3] = max(row[2], kline.high), min(row[3], kline.low)
        row[4:7] = [kline.close, row[5] + kline.volume, kline.open_interest]
    return rows


@pytest.fixture(scope="module")
def recorded() -> list[tuple[Klines, Sessions]]:
    async def load() -> list[tuple[Klines, Sessions]]:
        chosen = sample()
        market = ReplayMarket(**chosen.arguments)
        return [
            (
                await market.get_kline_histories(symbol, limit=9000),
                (await market.get_contract(symbol)).sessions,
            )
            for symbol in chosen.symbols
        ]

    return asyncio.run(load())


@pytest.mark.parametrize("timeframe", [name for name in DURATIONS_MS if name != "1m"])
def test_columns_agree_with_a_plain_loop(
    recorded: list[tuple[Klines, Sessions]], timeframe: str
) -> None:
    for klines, sessions in recorded:
        expected = one_by_one(klines, timeframe, sessions)
        result = aggregate(klines, timeframe, sessions)
        assert len(expected) > 3
        assert result.timeframe == timeframe
        assert result.datetime.tolist() == [row[0] for row in expected]
        for index, column in enumerate(result.columns(), 1):
            assert column.tolist() == pytest.approx([row[index] for row in expected], rel=1e-12)


def test_a_day_is_a_trading_day_with_its_night_before() -> None:
    sessions = default_contract("SHFE.cu2605").sessions
    shanghai = "Asia/Shanghai"
    friday_night = rising("SHFE.cu2605", at("2019-11-15 21:00", shanghai), 240)
    monday = rising("SHFE.cu2605", at("2019-11-18 09:00", shanghai), 60, price=200.0)
    monday_night = rising("SHFE.cu2605", at("2019-11-18 21:00", shanghai), 30, price=300.0)
    days = aggregate(Klines.concat([friday_night, monday, monday_night]), "1d", sessions)
    assert [day.trading_day for day in days] == [20191118, 20191119]
    assert days.datetime.tolist() == [
        at("2019-11-15 21:00", shanghai),
        at("2019-11-18 21:00", shanghai),
    ]
    assert days.volume.tolist() == [3000.0, 300.0]
    assert (days[0].open, days[0].close) == (friday_night[0].open, monday[-1].close)


def test_from_five_minutes_to_fifteen_but_not_to_three() -> None:
    sessions = default_contract("US.BABA").sessions
    minutes = rising("US.BABA", at("2020-11-02 15:00"), 60)
    fives = aggregate(minutes, "5m", sessions)
    fifteens = aggregate(fives, "15m", sessions)
    assert fifteens.close.tolist() == aggregate(minutes, "15m", sessions).close.tolist()
    assert aggregate(fives, "5m", sessions) is fives
    for impossible in ("3m", "1m"):
        with pytest.raises(UnknownTimeframe, match=impossible):
            aggregate(fives, impossible, sessions)
    with pytest.raises(UnknownTimeframe, match="7m"):
        aggregate(minutes, "7m", sessions)


def test_nothing_comes_from_nothing() -> None:
    empty = Klines.empty("US.BABA", "1m")
    for timeframe in ("5m", "1d"):
        assert len(aggregate(empty, timeframe, default_contract("US.BABA").sessions)) == 0
