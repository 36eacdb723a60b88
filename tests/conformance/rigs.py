"""The rigs there are: one in each ``tests/conformance/NAME_rig.py``; and what they are shown."""

from __future__ import annotations

import inspect
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from livetrader_core.market.generated import GeneratedSource
from livetrader_core.sim.recording import Recording
from livetrader_core.timeframe import MINUTE_MS
from tests.conformance.rig import Rig
from tests.conformance.trade_rig import TradeRig

_HOUR_MS = 60 * MINUTE_MS

#: The change of daylight saving of 2025-11-02 (New York) lies in what is history at the start.
_FIRST_DAY = "2025-10-27"
_DAYS = 12
_EARLIEST_START = 1_762_214_400_000  # 2025-11-04 00:00 UTC, a Tuesday


@lru_cache
def rigs() -> list[type[Rig]]:
    """All rigs of market adapters, by name."""
    return _found(Rig)


@lru_cache
def trade_rigs() -> list[type[TradeRig]]:
    """All rigs of trade adapters, by name."""
    return _found(TradeRig)


def _found(base: type[Any]) -> list[Any]:
    names = sorted(path.stem for path in Path(__file__).parent.glob("*_rig.py"))
    modules = [import_module(f"tests.conformance.{name}") for name in names]
    found = [
        member
        for module in modules
        for member in vars(module).values()
        if inspect.isclass(member)
        and issubclass(member, base)
        and not inspect.isabstract(member)
        and member.__module__ == module.__name__
    ]
    return sorted(found, key=lambda rig: rig.name)


def make(rig: type[Rig]) -> Rig:
    """A rig with generated klines of its symbols, at a moment when all of them trade."""
    recordings, start = _recorded(tuple(rig.symbols()))
    return rig(recordings, start)


@lru_cache
def _recorded(symbols: tuple[str, ...]) -> tuple[list[Recording], int]:
    source = GeneratedSource(symbols, start=_FIRST_DAY, days=_DAYS)
    recordings = [Recording(source.contract(symbol), source.klines(symbol)) for symbol in symbols]
    return recordings, _busy_moment(recordings)


def _busy_moment(recordings: list[Recording]) -> int:
    """Half past the first hour in which every symbol trades nearly every minute."""
    hours = range(_EARLIEST_START, _EARLIEST_START + 48 * _HOUR_MS, _HOUR_MS)
    for hour in hours:
        if all(_count(recording, hour, hour + _HOUR_MS) > 50 for recording in recordings):
            return hour + _HOUR_MS // 2
    raise AssertionError(f"{[r.symbol for r in recordings]} never trade together")


def _count(recording: Recording, from_ts: int, to_ts: int) -> int:
    first, last = np.searchsorted(recording.klines.datetime, [from_ts, to_ts])
    return int(last - first)
