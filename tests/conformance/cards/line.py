"""What can happen to the line: whatever it is, no kline is missing, doubled or mixed afterwards."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from livetrader_core.errors import Unavailable
from livetrader_core.models import FeedState
from livetrader_core.sim.venue import Fault, FaultKind
from livetrader_core.timeframe import MINUTE_MS
from tests.conformance.cards import card
from tests.conformance.hand import assert_same, closed, history, reading, silence, steps, until
from tests.conformance.rig import Rig


async def _survives(rig: Rig, *faults: Fault) -> None:
    async with reading(rig, *rig.symbols()) as readers:
        await steps(rig, 2)
        for reader in readers:
            await reader.complete()
        for fault in faults:
            rig.inject(fault)
            await steps(rig, 3)
            for reader in readers:
                await reader.complete()
        await steps(rig, 2)
        for reader in readers:
            await reader.complete()
        await silence()
        for reader in readers:
            await reader.complete()


@card("M30")
async def cut(rig: Rig) -> None:
    await _survives(rig, Fault(FaultKind.CUT), Fault(FaultKind.CUT))


@card("M31")
async def restart(rig: Rig) -> None:
    await _survives(rig, Fault(FaultKind.RESTART, 0.2))


@card("M32")
async def stall(rig: Rig) -> None:
    await _survives(rig, Fault(FaultKind.STALL, 0.5))


@card("M33")
async def late(rig: Rig) -> None:
    await _survives(rig, Fault(FaultKind.LATE, 0.3, 3))


@card("M34")
async def empty(rig: Rig) -> None:
    await _survives(rig, Fault(FaultKind.EMPTY, 0.0, 2))


@card("M35")
async def duplicates(rig: Rig) -> None:
    await _survives(rig, Fault(FaultKind.DUPLICATE, 0.0, 3), Fault(FaultKind.DUPLICATE, 0.0, 1))


@card("M36")
async def the_state(rig: Rig) -> None:
    told: list[tuple[FeedState, str]] = []
    rig.market.on_state = lambda state, reason: told.append((state, reason))
    async with reading(rig, rig.symbols()[0]) as [reader]:
        await steps(rig, 1)
        await reader.complete()
        assert FeedState.DISCONNECTED not in [state for state, _ in told]
        for _ in range(2):
            told.clear()
            rig.inject(Fault(FaultKind.RESTART, 0.2))
            await steps(rig, 1)
            await until(
                lambda: [state for state, _ in told][-1:] == [FeedState.CONNECTED],
                lambda: f"the line was told to be {told}",
            )
            await reader.complete()
            states = [state for state, _ in told]
            assert states == [FeedState.DISCONNECTED, FeedState.CONNECTED], told
            assert told[0][1], "why the line is down is not told"


@card("M37")
async def asked_while_away(rig: Rig) -> None:
    symbol = rig.symbols()[0]
    rig.inject(Fault(FaultKind.RESTART, 0.3))
    for _ in range(5):
        with suppress(Unavailable):
            got = await history(rig, symbol, limit=20)
            assert_same(got, closed(rig, symbol)[-20:], rig)
        await asyncio.sleep(0.02)
    await steps(rig, 1, MINUTE_MS)
    await until_answered(rig, symbol)


async def until_answered(rig: Rig, symbol: str) -> None:
    """Ask until there is an answer, which must be right."""
    answers = 0

    async def ask() -> None:
        nonlocal answers
        while not answers:
            try:
                got = await history(rig, symbol, limit=20)
            except Unavailable:
                await asyncio.sleep(0.02)
            else:
                assert_same(got, closed(rig, symbol)[-20:], rig)
                answers += 1

    asking = asyncio.get_running_loop().create_task(ask())
    try:
        await until(asking.done, lambda: "no answer after the venue came back")
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    asking.result()
