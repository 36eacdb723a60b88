"""Random faults at the terminal: what was published afterwards is what the venue has."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict

import numpy as np
import pytest

from livetrader_core.clock import SteppedClock
from livetrader_core.market.dwx import DwxMarket
from livetrader_core.models import Kline
from livetrader_core.sim.mt4_terminal import Mt4Terminal
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.venue import Fault, FaultKind, random_faults
from tests.market.samples import at
from tests.support.data import proving
from tests.support.dwx_venue import EURUSD, MINUTE, USDJPY, Watch, generated, venue

START = at("2020-11-04 12:00")
FAULTS = 6
LONGEST = 0.06
SCHEDULES = 1000 if proving() else 8
QUICK = {"timeout": 0.15, "connect_timeout": 0.5, "heartbeat": 0.05, "longest_retry": 0.02}


def expected(recording: Recording, start: int, end: int) -> list[Kline]:
    first, last = np.searchsorted(recording.klines.datetime, [start, end])
    return list(recording.klines[int(first) : int(last)])


async def run_schedule(seed: int) -> None:
    recordings = [generated(EURUSD), generated(USDJPY)]
    clock = SteppedClock(START)
    build = ("current", "patched", "early")[seed % 3]
    async with venue(recordings, clock, {"build": build}, **QUICK) as (terminal, market):
        watch = Watch(market, (EURUSD, "1m"), (USDJPY, "1m"), (EURUSD, "5m"))
        await watch.ready()
        for number, (pause, fault) in enumerate(
            random_faults(seed, Mt4Terminal.faults, FAULTS, LONGEST)
        ):
            await asyncio.sleep(pause)
            terminal.inject(fault)
            clock.advance(clock.now() + (number % 3 + 1) * MINUTE)
        end = clock.now() + 3 * MINUTE
        await asyncio.sleep(LONGEST)  # the terminal's own clock is right again
        clock.advance(end)
        await watch.reach(end, 20.0)
        for recording in recordings:
            found = watch.klines[recording.symbol, "1m"]
            assert found == expected(recording, START, end), f"seed {seed}"
        opens = [kline.datetime for kline in watch.klines[EURUSD, "5m"]]
        assert opens == list(range(START, end - 5 * MINUTE + 1, 5 * MINUTE)), f"seed {seed}"
        assert await history_matches(market, recordings, end), f"seed {seed}"
        await watch.stop()


async def history_matches(market: DwxMarket, recordings: list[Recording], end: int) -> bool:
    found = [
        await market.get_kline_histories(recording.symbol, START, to_ts=end)
        for recording in recordings
    ]
    return all(
        list(klines) == expected(recording, START, end)
        for klines, recording in zip(found, recordings, strict=True)
    )


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_after_any_faults_the_stream_is_the_venues() -> None:
    for seed in range(SCHEDULES):
        asyncio.run(run_schedule(seed))


def test_recovery_from_each_kind_of_fault() -> None:
    """How long after a fault of 50 ms the next minute's kline is there; printed under -s."""
    times: dict[str, list[float]] = defaultdict(list)

    async def main() -> None:
        recording = generated(EURUSD)
        for kind in sorted(Mt4Terminal.faults):
            clock = SteppedClock(START)
            async with venue([recording], clock, **QUICK) as (terminal, market):
                watch = Watch(market, (EURUSD, "1m"))
                await watch.ready()
                for minute in range(1, 4):
                    terminal.inject(Fault(FaultKind(kind), 0.05))
                    begun = time.perf_counter()
                    clock.advance(START + minute * MINUTE)
                    await watch.reach(START + minute * MINUTE)
                    times[kind.value].append(time.perf_counter() - begun)
                    await asyncio.sleep(0.06)
                clock.advance(START + 4 * MINUTE)
                await watch.reach(START + 4 * MINUTE)
                found = watch.klines[EURUSD, "1m"]
                assert found == expected(recording, START, START + 4 * MINUTE)
                await watch.stop()

    asyncio.run(main())
    for kind, values in times.items():
        print(f"{kind:>11}: median {np.median(values) * 1000:6.1f} ms, worst {max(values):.3f} s")
