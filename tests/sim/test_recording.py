"""What a simulated venue has of a symbol, and the faults it can be asked for."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from livetrader_core.clock import SteppedClock
from livetrader_core.errors import InvalidRequest
from livetrader_core.market.aggregate import aggregate
from livetrader_core.market.generated import GeneratedSource
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Klines
from livetrader_core.sim.recording import Recording, resample
from livetrader_core.sim.venue import Fault, FaultKind, SimulatedVenue, random_faults
from livetrader_core.timeframe import DAY_MS, MINUTE_MS
from tests.market.samples import at, rising

START = at("2020-11-02 15:00")
QUARTER = MINUTE_MS // 4
SOURCE = GeneratedSource(["US.BABA", "FOREX.EURUSD", "SHFE.cu2605"], start="2025-10-27", days=14)


def recording(count: int = 10, step: int = 1) -> Recording:
    return Recording(default_contract("US.BABA"), rising("US.BABA", START, count, step=step))


def generated(symbol: str) -> Recording:
    return Recording(SOURCE.contract(symbol), SOURCE.klines(symbol))


# --------------------------------------------------------------------------- by the clock


def test_a_kline_is_closed_once_its_minute_is_over() -> None:
    minutes = recording()
    assert len(minutes.closed(START)) == 0
    assert len(minutes.closed(START + MINUTE_MS - 1)) == 0
    assert len(minutes.closed(START + MINUTE_MS)) == 1
    assert len(minutes.closed(START + DAY_MS)) == 10


def test_a_forming_kline_grows_into_the_closed_one() -> None:
    minutes = generated("US.BABA")
    index = 3000
    whole = minutes.klines[index]
    seen = [minutes.forming(whole.datetime + step) for step in range(0, MINUTE_MS, 5000)]
    for before, after in pairwise(seen):
        assert before is not None
        assert after is not None
        assert not after.closed
        assert after.open == whole.open
        assert after.high >= before.high
        assert after.low <= before.low
        assert after.volume >= before.volume
    first, last = seen[0], seen[-1]
    assert first is not None
    assert last is not None
    assert first.open == first.high == first.low == first.close
    assert (last.high, last.low, last.close) == (whole.high, whole.low, whole.close)
    assert last.volume == whole.volume


def test_nothing_forms_where_nothing_is_recorded() -> None:
    sparse = recording(3, step=5)
    assert sparse.forming(START - 1) is None
    assert sparse.forming(START + MINUTE_MS) is None
    assert sparse.forming(START + 5 * MINUTE_MS) is not None
    assert sparse.forming(START + DAY_MS) is None


def test_the_ticks_of_a_minute_make_its_kline() -> None:
    minutes = generated("FOREX.EURUSD")
    for kline in minutes.klines[500:520]:
        ticks = minutes.ticks(kline.datetime - 1, kline.datetime + MINUTE_MS - 1)
        prices = [tick.last for tick in ticks]
        assert (prices[0], max(prices), min(prices), prices[-1]) == (
            kline.open,
            kline.high,
            kline.low,
            kline.close,
        )
        assert sum(tick.volume for tick in ticks) == kline.volume
        assert all(tick.ask > tick.bid == tick.last for tick in ticks)
        times = [tick.datetime for tick in ticks]
        assert times == sorted(times)


def test_ticks_between_two_moments_come_once() -> None:
    minutes = recording()
    whole = minutes.ticks(START - 1, START + 10 * MINUTE_MS)
    assert len(whole) == 40
    pieces = []
    for step in range(-1, 10 * MINUTE_MS // 7000 + 1):
        pieces += minutes.ticks(START - 1 + step * 7000, START - 1 + (step + 1) * 7000)
    assert pieces == whole
    assert minutes.ticks(START, START + QUARTER)[0].datetime == START + QUARTER


def test_trading_days_are_those_of_the_sessions() -> None:
    night = generated("SHFE.cu2605")
    sessions = night.contract.sessions
    assert len(night.trading_days) == len(night.klines)
    for index in range(0, len(night.klines), 211):
        ts = int(night.klines.datetime[index])
        assert night.trading_days[index] == sessions.trading_day(ts)


# --------------------------------------------------------------------------- longer klines


@pytest.mark.parametrize("symbol", ["US.BABA", "FOREX.EURUSD", "SHFE.cu2605"])
@pytest.mark.parametrize("timeframe", ["5m", "15m", "30m", "1h"])
def test_longer_klines_are_those_that_another_way_of_reckoning_gives(
    symbol: str, timeframe: str
) -> None:
    made = generated(symbol)
    got = resample(made, made.klines, timeframe)
    right = aggregate(made.klines, timeframe, made.contract.sessions)
    assert got.datetime.tolist() == right.datetime.tolist()
    for name in ("open", "high", "low", "close", "open_interest"):
        assert getattr(got, name).tolist() == getattr(right, name).tolist()
    np.testing.assert_allclose(got.volume, right.volume, rtol=1e-12)


@pytest.mark.parametrize("symbol", ["US.BABA", "FOREX.EURUSD", "SHFE.cu2605"])
def test_daily_klines_hold_a_trading_day(symbol: str) -> None:
    made = generated(symbol)
    got = resample(made, made.klines, "1d")
    right = aggregate(made.klines, "1d", made.contract.sessions)
    assert got.trading_day is not None
    assert right.trading_day is not None
    assert got.trading_day.tolist() == right.trading_day.tolist()
    assert got.close.tolist() == right.close.tolist()
    firsts = np.searchsorted(made.trading_days, got.trading_day)
    assert got.datetime.tolist() == made.klines.datetime[firsts].tolist()


def test_minutes_and_nothing_stay_what_they_are() -> None:
    minutes = recording()
    assert resample(minutes, minutes.klines, "1m") is minutes.klines
    assert len(resample(minutes, Klines.empty("US.BABA", "1m"), "5m")) == 0


# --------------------------------------------------------------------------- faults


class Quiet(SimulatedVenue):
    """Notes the faults it is asked for."""

    faults = frozenset({FaultKind.CUT, FaultKind.LATE})

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        return

    def _show(self, fault: Fault) -> None:
        self.shown = fault


def test_a_venue_shows_the_faults_it_knows() -> None:
    venue = Quiet([recording()], SteppedClock(START))
    assert list(venue.recordings) == ["US.BABA"]
    venue.inject(Fault(FaultKind.LATE, 0.5, 2))
    assert venue.shown == Fault(FaultKind.LATE, 0.5, 2)
    with pytest.raises(InvalidRequest, match="Quiet has no fault restart: cut, late"):
        venue.inject(Fault(FaultKind.RESTART))


def test_random_faults_are_the_same_for_the_same_seed() -> None:
    kinds = frozenset(FaultKind)
    schedule = random_faults(7, kinds, 200, 0.5)
    assert schedule == random_faults(7, frozenset(sorted(kinds, reverse=True)), 200, 0.5)
    assert schedule != random_faults(8, kinds, 200, 0.5)
    assert {fault.kind for _, fault in schedule} == kinds
    assert all(0 <= pause <= 0.5 and 0 <= fault.seconds <= 0.5 for pause, fault in schedule)
    assert random_faults(7, frozenset({FaultKind.CUT}), 3, 0.1)[0][1].kind is FaultKind.CUT
