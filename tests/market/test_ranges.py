"""Ranges of time."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from livetrader_core.market.ranges import (
    Range,
    closed_until,
    holding,
    last_end_before,
    subtract,
    trades_within,
    union,
)
from livetrader_core.market.specs import default_contract
from livetrader_core.timeframe import DAY_MS, MINUTE_MS
from tests.market.samples import at

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12)
US = default_contract("US.BABA").sessions
CU = default_contract("SHFE.cu2605").sessions


def points(ranges: list[Range]) -> set[int]:
    return {point for start, end in ranges for point in range(start, end)}


@given(RANGES)
def test_a_union_holds_the_same_moments_in_as_few_ranges(ranges: list[Range]) -> None:
    merged = union(ranges)
    assert points(merged) == points(ranges)
    assert all(start < end for start, end in merged)
    assert all(end < start for (_, end), (start, _) in pairwise(merged))


@given(RANGES, st.integers(0, 40), st.integers(0, 40))
def test_what_is_subtracted_is_gone(ranges: list[Range], start: int, end: int) -> None:
    rest = subtract(ranges, start, end) if start <= end else union(ranges)
    assert points(rest) == points(ranges) - set(range(start, end))


@given(RANGES, st.integers(0, 41))
def test_what_lies_before_a_moment(ranges: list[Range], moment: int) -> None:
    merged = union(ranges)
    found = holding(merged, moment)
    assert (found is not None) == (moment - 1 in points(merged))
    below = last_end_before(merged, moment)
    assert below is None or (below - 1 in points(merged) and below not in points(merged))


def test_nights_and_weekends_hold_no_trade() -> None:
    saturday, monday = at("2025-11-01 00:00"), at("2025-11-03 08:00")
    assert not trades_within(US, "1m", saturday, monday)
    assert trades_within(US, "1m", saturday, monday + 60 * MINUTE_MS + 1)
    assert not trades_within(CU, "1m", at("2025-11-04 02:15"), at("2025-11-04 02:30"))
    # The hour that opens in a pause may hold the trades after it.
    assert trades_within(CU, "1h", at("2025-11-04 05:00"), at("2025-11-04 05:01"))


def test_what_is_over_at_a_moment() -> None:
    noon = at("2025-11-04 17:00")
    assert closed_until(US, noon, "1m") == noon - MINUTE_MS + 1
    assert closed_until(US, noon, "1d") == at("2025-11-04 04:00", "America/New_York")
    saturday = at("2025-11-01 17:00")
    assert closed_until(US, saturday, "1d") == at("2025-11-03 04:00", "America/New_York")
    assert closed_until(CU, at("2025-10-31 14:00"), "1d") == at("2025-10-31 13:00")
    assert closed_until(US, noon, "1h") == noon - DAY_MS // 24 + 1
