"""Each row of the benchmarks runs from end to end; what it measures is not judged here."""

from __future__ import annotations

import math

import pytest

from benchmarks.__main__ import ROWS, report
from benchmarks.harness import Goal, Limit, Row


@pytest.mark.parametrize("name", [name for name in ROWS if name not in ("many-feeds", "universe")])
def test_a_row_measures_every_contender(name: str) -> None:
    for row in ROWS[name](True):
        assert "ours" in row.values
        assert len(row.values) >= 2
        assert all(math.isfinite(value) and value > 0 for value in row.values.values())
        assert "DIFFER" not in row.note


def test_many_feeds_measures_every_contender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.delivery.PATIENCE", 2.0)
    for row in ROWS["many-feeds"](True):
        assert {"queue in _load", "ours", "ours, aligned"} <= set(row.values)


def test_a_goal_that_is_missed_is_told() -> None:
    goals: list[Goal | Limit] = [Goal("ours", "theirs", most=1.5), Limit("ours", 5.0, "ms")]
    page = report([Row("something", "ms", {"theirs": 2.0, "ours": 4.0}, goals)])
    assert "2 ×, goal ≤ 1.5 × theirs: NOT REACHED; goal ours ≤ 5 ms: reached" in page


def test_the_universe_is_measured() -> None:
    rows = ROWS["universe"](True)
    assert [row.unit for row in rows] == ["ms", "share of a core", "MB", "MB"]
    # A delay is measured between two clocks and may be a little below nothing.
    assert -1.0 < rows[0].values["p50"] <= rows[0].values["p99"]
    assert rows[3].values["at the end"] > 0
