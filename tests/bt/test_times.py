from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import backtrader as bt
import numpy as np
import pytest

from livetrader_bt.times import (
    Zone,
    bt_timeframe,
    localizer,
    moment_ms,
    timeframe_name,
    to_ms,
    to_num,
    to_nums,
)
from livetrader_core.errors import ConfigError, UnknownTimeframe
from livetrader_core.timeframe import DURATIONS_MS


def test_dates_are_backtraders_to_the_last_bit() -> None:
    minutes = np.arange(1_600_000_020_000, 1_600_000_020_000 + 40_000 * 60_000, 60_000)
    anywhere = np.random.default_rng(0).integers(0, 4_000_000_000_000, 20_000)
    moments = np.concatenate([minutes, anywhere]).astype(np.int64)
    nums = to_nums(moments)
    epoch = datetime(1970, 1, 1)
    for ts, num in zip(moments.tolist(), nums.tolist(), strict=True):
        expected = bt.date2num(epoch + timedelta(milliseconds=ts))
        assert num == expected
        assert to_num(ts) == expected
        assert to_ms(num) == ts


@pytest.mark.parametrize(
    ("written", "ts"),
    [
        ("2020-11-03", 1_604_361_600_000),
        ("2020-11-03T14:30", 1_604_413_800_000),
        ("2020-11-03T14:30Z", 1_604_413_800_000),
        ("2020-11-03T09:30-05:00", 1_604_413_800_000),
        (datetime(2020, 11, 3), 1_604_361_600_000),
        (datetime(2020, 11, 3, tzinfo=ZoneInfo("America/New_York")), 1_604_379_600_000),
        (1_604_361_600_000, 1_604_361_600_000),
        (None, None),
    ],
)
def test_moments_as_users_write_them(written: object, ts: int | None) -> None:
    assert moment_ms(written) == ts  # type: ignore[arg-type]


def test_a_moment_that_is_none_says_how_to_write_one() -> None:
    with pytest.raises(ConfigError, match="'next tuesday' is not a time"):
        moment_ms("next tuesday")


def test_timeframes_there_and_back() -> None:
    for name in DURATIONS_MS:
        assert timeframe_name(*bt_timeframe(name)) == name
    with pytest.raises(UnknownTimeframe, match="resampledata"):
        timeframe_name(bt.TimeFrame.Weeks, 1)
    with pytest.raises(UnknownTimeframe, match="7m"):
        bt_timeframe("7m")


def test_a_zone_serves_backtrader_without_pytz() -> None:
    zone = localizer("America/New_York")
    assert isinstance(zone, Zone)
    for moment in (datetime(2020, 10, 30, 9, 30), datetime(2020, 11, 2, 9, 30)):
        utc = moment.replace(tzinfo=ZoneInfo("America/New_York")).astimezone(timezone.utc)
        num = bt.date2num(zone.localize(moment))
        assert num == bt.date2num(utc.replace(tzinfo=None))
        assert bt.num2date(num, zone) == moment
