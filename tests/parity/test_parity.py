"""Backtest, accelerated paper in process and accelerated paper over ipc fill alike.

Compared is all that a strategy is told, in order: every status of every order, every fill, every
closed trade, and cash and value at every moment, to the last bit. The reference is backtrader's
BackBroker (see docs/parity.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from livetrader_core.models import Klines
from livetrader_core.timeframe import MINUTE_MS
from tests.parity.harness import (
    Case,
    Outcome,
    Recording,
    backtest,
    generated_source,
    make_case,
    paper_in_process,
    paper_over_ipc,
    recorded_source,
)
from tests.support.data import proving, recorded_data

#: Cases a test; in full, 25 blocks of 8 are 200 cases for each kind of klines.
BLOCK = 8
BLOCKS = range(25) if proving() else (3, 17)
#: Over the whole of a full run; a block alone has fewer.
FILLS_PER_BLOCK = 80


def kinds() -> list[str]:
    return ["generated", "recorded"] if recorded_data() else ["generated"]


def assert_same(case: Case, reference: Outcome, other: Outcome, name: str) -> None:
    for index, (expected, got) in enumerate(zip(reference.log, other.log, strict=False)):
        assert got == expected, f"{name}, {case}: entry {index} differs"
    assert len(other.log) == len(reference.log), f"{name}, {case}: one run saw more"


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("block", BLOCKS)
def test_every_mode_tells_a_random_strategy_the_same(
    kind: str, block: int, record_property: Callable[[str, object], None]
) -> None:
    recorded = kind == "recorded"
    fills = 0
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        case = make_case(seed, recorded)
        reference = backtest(case, recorded)
        fills += len(reference.fills())
        assert_same(case, reference, paper_in_process(case, recorded), "paper in process")
        assert_same(case, reference, paper_over_ipc(case, recorded), "paper over ipc")
    assert fills >= FILLS_PER_BLOCK
    record_property(f"parity, {kind}: cases", BLOCK)
    record_property(f"parity, {kind}: fills compared in each of two paper runs", fills)


# --------------------------------------------------------------------------- it can fail


def fill_at_an_open(kind: str) -> tuple[Case, Klines, int]:
    """A case with a fill at the open of a one-minute bar; its klines, and the bar's row."""
    recorded = kind == "recorded"
    recording = (recorded_source() if recorded else generated_source())[0]
    for seed in range(100):
        case = make_case(seed, recorded)
        frames = dict(zip(case.symbols, case.timeframes, strict=True))
        for _, symbol, _, price, stamp in backtest(case, recorded).fills():
            klines = recording.klines[symbol]
            row = int(np.searchsorted(klines.datetime, stamp - MINUTE_MS))
            if frames[symbol] == "1m" and klines.open[row] == price:
                return case, klines, row
    raise AssertionError("no case fills at an open")


def with_klines(kind: str, changed: Klines) -> Recording:
    recording = (recorded_source() if kind == "recorded" else generated_source())[0]
    return Recording({**recording.klines, changed.symbol: changed})


def copy_of(klines: Klines, **columns: Any) -> Klines:
    names = ("datetime", "open", "high", "low", "close", "volume", "open_interest")
    return Klines(
        klines.symbol,
        klines.timeframe,
        **{name: columns.get(name, getattr(klines, name)).copy() for name in names},
    )


@pytest.mark.parametrize("kind", kinds())
def test_one_tick_in_one_bar_is_noticed(kind: str) -> None:
    case, klines, row = fill_at_an_open(kind)
    changed = copy_of(klines)
    tick = 0.01 if klines.symbol.startswith(("US", "BINANCE")) else 1.0
    tick = 0.00001 if klines.symbol.startswith("FOREX") else tick
    for column in (changed.open, changed.high, changed.low, changed.close):
        column[row] += tick
    other = paper_in_process(case, kind == "recorded", with_klines(kind, changed))
    assert other.fills() != backtest(case, kind == "recorded").fills()


@pytest.mark.parametrize("kind", kinds())
def test_a_shift_of_one_bar_is_noticed(kind: str) -> None:
    case, klines, _ = fill_at_an_open(kind)
    later = copy_of(klines, datetime=klines.datetime + MINUTE_MS)
    other = paper_in_process(case, kind == "recorded", with_klines(kind, later))
    assert other.fills() != backtest(case, kind == "recorded").fills()
