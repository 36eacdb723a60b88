"""Moving klines by whole weeks, by the clock on the wall."""

from __future__ import annotations

import numpy as np

from livetrader_core.market.recorded import Ticks
from livetrader_core.market.shift import shift_contract, shift_klines, shift_ticks
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Klines
from livetrader_core.sessions import Sessions
from livetrader_core.timeframe import MINUTE_MS
from tests.market.samples import at, local, rising

US = default_contract("US.BABA").sessions
COPPER = default_contract("SHFE.cu2605").sessions
LONDON = Sessions("Europe/London", ((0, 1440),), weekdays=(0, 1, 2, 3, 4, 5, 6))


def test_shanghai_has_no_summer_time_and_moves_plainly() -> None:
    klines = rising("SHFE.cu2605", at("2019-11-15 21:00", "Asia/Shanghai"), 50)
    moved = shift_klines(klines, 52, COPPER)
    assert np.all(moved.datetime - klines.datetime == 52 * 7 * 86_400_000)
    assert moved.close.tolist() == klines.close.tolist()
    assert shift_klines(moved, -52, COPPER).datetime.tolist() == klines.datetime.tolist()
    assert shift_klines(klines, 0, COPPER) is klines


def test_local_hours_stay_across_a_clock_change() -> None:
    klines = rising("US.BABA", at("2020-10-30 09:30", "America/New_York"), 390)
    moved = shift_klines(klines, 1, US)
    assert moved.datetime.tolist() == [ts + 7 * 86_400_000 + 3_600_000 for ts in klines.datetime]
    first = local(int(moved.datetime[0]), "America/New_York")
    assert (first.day, first.hour, first.minute) == (6, 9, 30)
    assert all(US.is_open(ts) for ts in moved.datetime.tolist())


def test_a_local_hour_that_the_new_date_lacks_is_left_out() -> None:
    # On 29 March 2020 London went from 01:00 to 02:00.
    klines = rising("LSE.VOD", at("2020-03-22 00:30", "Europe/London"), 120)
    moved = shift_klines(klines, 1, LONDON)
    assert np.all(np.diff(moved.datetime) == MINUTE_MS)
    shown = {local(ts, "Europe/London").strftime("%H") for ts in moved.datetime.tolist()}
    assert shown == {"00", "02"}
    assert len(moved) == 60


def test_of_a_local_hour_that_comes_twice_the_first_is_kept() -> None:
    # On 25 October 2020 London had 01:00 … 02:00 twice.
    klines = rising("LSE.VOD", at("2020-10-25 00:00"), 120)
    moved = shift_klines(klines, 1, LONDON)
    assert np.all(np.diff(moved.datetime) > 0)
    assert moved.close.tolist() == klines.close[:60].tolist()
    back = shift_klines(rising("LSE.VOD", at("2020-11-01 01:00"), 60), -1, LONDON)
    assert back.datetime[0] == at("2020-10-25 00:00")  # the first 01:00, still in summer time


def test_daily_klines_move_their_trading_day() -> None:
    day = Klines(
        "US.BABA",
        "1d",
        np.array([US.open_of(local(at("2020-10-30 12:00"), "UTC").date())]),
        *[np.ones(1)] * 5,
        trading_day=np.array([20201030]),
    )
    moved = shift_klines(day, 1, US)
    assert moved[0].trading_day == 20201106
    assert moved.datetime[0] == at("2020-11-06 04:00", "America/New_York")


def test_ticks_of_one_millisecond_all_stay() -> None:
    times = np.array([at("2020-10-30 15:00")] * 3)
    ticks = Ticks("US.BABA", times, {"bid": np.array([1.0, 2.0, 3.0])})
    moved = shift_ticks(ticks, 1, US)
    assert moved.fields["bid"].tolist() == [1.0, 2.0, 3.0]
    assert moved.datetime[0] == at("2020-11-06 16:00")


def test_expiries_move_along() -> None:
    contract = default_contract("SHFE.cu2605")
    assert shift_contract(contract, 3) is contract  # no expiry is known
    expiring = type(contract)(**{**vars(contract), "expires_at": at("2020-02-17 07:00")})
    assert shift_contract(expiring, 52).expires_at == at("2021-02-15 07:00")
