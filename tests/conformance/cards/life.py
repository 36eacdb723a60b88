"""Connecting, what there is, and leaving nothing behind."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from livetrader_core.errors import Unavailable, UnknownSymbol, UnknownTimeframe
from livetrader_core.models import market_of
from tests.conformance.cards import card
from tests.conformance.census import Census
from tests.conformance.hand import (
    PATIENCE,
    Moments,
    assert_same,
    closed,
    connect,
    ended,
    history,
    reading,
    steps,
    until,
)
from tests.conformance.rig import Rig


@card("M01", connected=False)
async def connects(rig: Rig) -> None:
    await connect(rig)
    symbol = rig.symbols()[0]
    assert_same(await history(rig, symbol, limit=10), closed(rig, symbol)[-10:], rig)
    assert set(map(market_of, rig.symbols())) <= set(rig.market.markets)
    assert abs(rig.market.now() - rig.clock.now()) < 60_000


@card("M02", connected=False)
async def venue_down(rig: Rig) -> None:
    await rig.venue.stop()
    began = time.monotonic()
    with pytest.raises(Unavailable) as refused:
        await connect(rig)
    assert time.monotonic() - began < PATIENCE
    assert len(str(refused.value)) > 10, "the message must say what could not be reached"
    await rig.market.disconnect()


@card("M03")
async def symbols_and_contracts(rig: Rig) -> None:
    symbols = await rig.market.list_symbols()
    assert symbols == sorted(symbols)
    assert set(rig.symbols()) <= set(symbols)
    for symbol in rig.symbols():
        contract = await rig.market.get_contract(symbol)
        assert contract.symbol == symbol
        assert contract.sessions.is_open(rig.clock.now())
        assert min(contract.multiplier, contract.quantity_step, contract.min_quantity) > 0
        assert contract.currency
        for price in closed(rig, symbol).close[-50:]:
            assert abs(contract.round_price(float(price)) - price) < 1e-9, "not on its tick"


@card("M04")
async def unknown_symbols(rig: Rig) -> None:
    market = market_of(rig.symbols()[0])
    for symbol in (f"{market}.ZZNONE", "NOWHERE.X", "nonsense", ""):
        with pytest.raises(UnknownSymbol):
            await history(rig, symbol, limit=1)
        with pytest.raises(UnknownSymbol):
            await rig.market.get_contract(symbol)
    symbol = rig.symbols()[0]  # and nothing broke
    assert_same(await history(rig, symbol, limit=3), closed(rig, symbol)[-3:], rig)


@card("M05")
async def unknown_timeframes(rig: Rig) -> None:
    symbol = rig.symbols()[0]
    for timeframe in ("7m", "1M", ""):
        with pytest.raises(UnknownTimeframe):
            await history(rig, symbol, limit=1, timeframe=timeframe)
        with pytest.raises(UnknownTimeframe):
            await anext(aiter(rig.market.watch_klines(symbol, timeframe)))
    assert_same(await history(rig, symbol, limit=3), closed(rig, symbol)[-3:], rig)


# --------------------------------------------------------------------------- the end


@card("M40", connected=False)
async def nothing_left(rig: Rig) -> None:
    await _a_life(rig)  # what is made once per process is made now
    before = Census.take()
    for _ in range(3):
        await _a_life(rig)
    await until(
        lambda: not Census.take().left_of(before),
        lambda: "left behind: " + "; ".join(Census.take().left_of(before)),
    )


async def _a_life(rig: Rig) -> None:
    await connect(rig)
    async with reading(rig, *rig.symbols()) as readers:
        moments = Moments(rig, *readers)
        await history(rig, rig.symbols()[0], limit=5)
        await steps(rig, 2)
        for reader in readers:
            await reader.complete()
        await moments.close()
    await rig.market.disconnect()


@card("M41", connected=False)
async def disconnects_at_any_time(rig: Rig) -> None:
    await rig.market.disconnect()
    await connect(rig)
    await rig.market.disconnect()
    await rig.market.disconnect()


@card("M42")
async def connects_again(rig: Rig) -> None:
    symbol = rig.symbols()[0]
    for _ in range(2):
        async with reading(rig, symbol) as [reader]:
            await steps(rig, 2)
            await reader.complete()
        await rig.market.disconnect()
        await steps(rig, 2)
        await connect(rig)
        assert_same(await history(rig, symbol, limit=10), closed(rig, symbol)[-10:], rig)


@card("M43")
async def in_flight(rig: Rig) -> None:
    symbol = rig.symbols()[0]
    asked = asyncio.ensure_future(rig.market.get_kline_histories(symbol, limit=1000))
    await asyncio.sleep(0)
    await rig.market.disconnect()
    with suppress(Unavailable):
        got = await ended(asked, "a request in flight at disconnect")
        assert_same(got, closed(rig, symbol)[-1000:], rig)
