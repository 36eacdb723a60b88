"""Loading history in bulk gives the lines that backtrader's own loading gives."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import backtrader as bt
import pytest

from livetrader_bt import LiveTraderStore
from livetrader_core.models import Klines
from livetrader_core.service import MarketService
from livetrader_core.sessions import Sessions
from tests.support.archive_market import ArchiveMarket, random_walk
from tests.support.scripted_market import START, contract

LINES = ("datetime", "open", "high", "low", "close", "volume", "openinterest")


class Keeper(bt.Strategy):
    """Keeps every line of every data, as the strategy sees it."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, ...]] = []

    def next(self) -> None:
        data = self.datas[-1]
        if not self.seen or self.seen[-1][0] != data.datetime[0]:
            self.seen.append(tuple(getattr(data.lines, name)[0] for name in LINES))


def run(feed: Any, resample: dict[str, Any] | None = None) -> list[tuple[float, ...]]:
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feed)
    if resample:
        cerebro.resampledata(feed, **resample)
    cerebro.addstrategy(Keeper)
    (ran,) = cerebro.run()
    return ran.seen


def store_of(klines: Klines, **changes: object) -> LiveTraderStore:
    market = ArchiveMarket([contract(klines.symbol, **changes)], [klines])
    return LiveTraderStore(service=MarketService(market))


def csv_feed(klines: Klines, path: Path, **params: Any) -> bt.feeds.GenericCSVData:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(LINES)
        for kline in klines:
            closed = datetime.fromtimestamp(kline.datetime / 1000 + 60, timezone.utc)
            row = (kline.open, kline.high, kline.low, kline.close, kline.volume)
            writer.writerow([closed.strftime("%Y-%m-%d %H:%M:%S"), *map(repr, row), 0.0])
    return bt.feeds.GenericCSVData(
        dataname=str(path), timeframe=bt.TimeFrame.Minutes, openinterest=6, **params
    )


@pytest.mark.parametrize("bounded", [False, True])
def test_the_lines_are_those_of_a_csv_feed(tmp_path: Path, bounded: bool) -> None:
    klines = random_walk("US.A", START, 3000)
    params: dict[str, Any] = {}
    if bounded:
        begin = datetime(1970, 1, 1) + timedelta(milliseconds=START)
        params = {
            "fromdate": begin + timedelta(minutes=100),
            "todate": begin + timedelta(minutes=2000),
        }
    ours = run(store_of(klines).getdata("US.A", historical=True, **params))
    theirs = run(csv_feed(klines, tmp_path / "klines.csv", **params))
    assert ours == theirs
    assert len(ours) == (1901 if bounded else 3000)


def test_resampling_sees_every_bar(tmp_path: Path) -> None:
    klines = random_walk("US.A", START, 600)
    five = {"timeframe": bt.TimeFrame.Minutes, "compression": 5}
    ours = run(store_of(klines).getdata("US.A", historical=True), five)
    theirs = run(csv_feed(klines, tmp_path / "klines.csv"), five)
    assert ours == theirs
    assert len(ours) == 120


def test_stamp_and_time_zone() -> None:
    klines = random_walk("US.A", START, 10)
    opened = run(store_of(klines).getdata("US.A", historical=True, stamp="open"))
    closed = run(store_of(klines).getdata("US.A", historical=True))
    assert [row[0] for row in closed[:-1]] == [row[0] for row in opened[1:]]

    feed = store_of(klines).getdata("US.A", historical=True, tz="Asia/Shanghai")
    seen: list[datetime] = []

    class Clock(bt.Strategy):
        def next(self) -> None:
            seen.append(self.data.datetime.datetime())

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feed)
    cerebro.addstrategy(Clock)
    cerebro.run()
    utc = datetime.fromtimestamp(START / 1000 + 60, timezone.utc).replace(tzinfo=None)
    assert seen[0] == utc + timedelta(hours=8)


def test_days_follow_the_trading_day_of_the_venue() -> None:
    # Two forex days, Sunday 17:00 to Tuesday 17:00 New York, across the change of the clocks.
    forex = Sessions("America/New_York", ((-420, 1020),))
    sunday = round(datetime(2020, 11, 1, 22, tzinfo=timezone.utc).timestamp() * 1000)
    klines = random_walk("FX.A", sunday, 2 * 1440)
    feed = store_of(klines, sessions=forex).getdata("FX.A", historical=True)
    days = run(feed, {"timeframe": bt.TimeFrame.Days})
    closes = [bt.num2date(row[0]) for row in days]
    assert closes == [datetime(2020, 11, 2, 22), datetime(2020, 11, 3, 22)]
    assert days[0][1] == klines.open[0]
    assert days[0][4] == klines.close[1439]
    assert days[1][1] == klines.open[1440]
    assert days[1][2] == max(klines.high[1440:])


def test_a_night_session_belongs_to_the_next_day() -> None:
    copper = Sessions("Asia/Shanghai", ((540, 900),), night=((1260, 1500),))
    friday_night = round(datetime(2019, 11, 1, 13, tzinfo=timezone.utc).timestamp() * 1000)
    monday = round(datetime(2019, 11, 4, 1, tzinfo=timezone.utc).timestamp() * 1000)
    night = random_walk("SHFE.A", friday_night, 240)
    day = random_walk("SHFE.A", monday, 360, seed=1)
    feed = store_of(Klines.concat([night, day]), sessions=copper).getdata("SHFE.A", historical=True)
    days = run(feed, {"timeframe": bt.TimeFrame.Days})
    assert [bt.num2date(row[0]) for row in days] == [datetime(2019, 11, 4, 7)]
    assert days[0][1] == night.open[0]
    assert days[0][4] == day.close[-1]
