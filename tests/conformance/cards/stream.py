"""Streams: each closed kline once, in order, when it closes; and the clock behind them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from livetrader_core.models import Klines
from livetrader_core.timeframe import MINUTE_MS
from tests.conformance.cards import card
from tests.conformance.hand import (
    Moments,
    assert_same,
    closed,
    history,
    reading,
    recorded,
    silence,
    steps,
    until,
)
from tests.conformance.rig import Rig


@card("M20")
async def as_they_close(rig: Rig) -> None:
    async with reading(rig, rig.symbols()[0]) as [reader]:
        for _ in range(12):
            await steps(rig, 1, 30_000)
            await reader.complete()
        assert len(reader.klines) >= 5
        await silence()
        await reader.complete()


@card("M21")
async def two_symbols(rig: Rig) -> None:
    async with reading(rig, *rig.symbols()) as readers:
        for _ in range(10):
            await steps(rig, 1)
            for reader in readers:
                await reader.complete()


@card("M22")
async def longer(rig: Rig) -> None:
    symbol = rig.symbols()[0]
    async with reading(rig, symbol, timeframe="5m") as [slow], reading(rig, symbol) as [quick]:
        for _ in range(16):
            await steps(rig, 1)
            await quick.complete()
            await slow.complete()
        assert len(slow.klines) >= 3
        await silence()
        await slow.complete()


@card("M23")
async def the_clock(rig: Rig) -> None:
    assert rig.market.clocked
    async with reading(rig, *rig.symbols()) as readers:
        moments = Moments(rig, *readers)
        try:
            for length in (*[MINUTE_MS] * 6, 10 * MINUTE_MS):
                await steps(rig, 1, length)
                await moments.reached(rig.clock.now())
                for reader in readers:
                    await reader.complete()
        finally:
            await moments.close()


@card("M24")
async def a_leap(rig: Rig) -> None:
    async with reading(rig, *rig.symbols()) as readers:
        for minutes in (1, 90, 1, 17):
            await steps(rig, 1, minutes * MINUTE_MS)
            for reader in readers:
                await reader.complete()


@card("M25")
async def over_night(rig: Rig) -> None:
    symbol = rig.symbols()[0]
    days = recorded(rig, symbol, "1d").datetime
    tomorrow = int(days[np.searchsorted(days, rig.clock.now(), side="right")])
    async with reading(rig, *rig.symbols()) as readers:
        while rig.clock.now() < tomorrow + 60 * MINUTE_MS:
            await steps(rig, 1, 30 * MINUTE_MS)
            await asyncio.sleep(0.02)  # where nothing comes, the adapter too shall see each step
            for reader in readers:
                await reader.complete()
        await silence()
        for reader in readers:
            await reader.complete()


@card("M26")
async def history_joins(rig: Rig) -> None:
    symbol = rig.symbols()[0]
    for _ in range(3):
        async with reading(rig, symbol) as [reader]:
            past = await history(rig, symbol, limit=50)
            await steps(rig, 3, 25_000)
            await reader.complete()
            joined = Klines.concat([past, Klines.of(symbol, "1m", reader.klines)])
            assert_same(joined, closed(rig, symbol)[-len(joined) :], rig)
            # What was just given is history too, and at once.
            assert_same(await history(rig, symbol, limit=5), closed(rig, symbol)[-5:], rig)


@card("M27")
async def two_readers(rig: Rig) -> None:
    symbol = rig.symbols()[0]
    async with reading(rig, symbol, symbol) as early:
        await steps(rig, 2)
        async with reading(rig, symbol) as late:
            for _ in range(4):
                await steps(rig, 1)
                for reader in (*early, *late):
                    await reader.complete()


@card("M28")
async def coming_back(rig: Rig) -> None:
    symbol, other = rig.symbols()[:2]
    async with reading(rig, other) as [steady]:
        for _ in range(2):
            async with reading(rig, symbol) as [reader]:
                await steps(rig, 2)
                await reader.complete()
            await steps(rig, 3)
            await steady.complete()
        await silence()
        await steady.complete()


@card("M29")
async def failing_reader(rig: Rig) -> None:
    symbol = rig.symbols()[0]

    async def fail() -> None:
        async for kline in rig.market.watch_klines(symbol):
            raise ValueError(kline)

    failing = asyncio.get_running_loop().create_task(fail())
    async with reading(rig, symbol) as [reader]:
        moments = Moments(rig, reader)
        try:
            await steps(rig, 3)
            await until(failing.done, lambda: "no kline came")
            await steps(rig, 2)
            await reader.complete()
            await moments.reached(rig.clock.now())
        finally:
            await moments.close()
    with pytest.raises(ValueError, match=symbol):
        await failing
