"""Whatever goes wrong at the venue or on the way: afterwards the stream is the venue's bars."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict

import numpy as np
import pytest

from livetrader_core.market.tdx import TdxMarket
from livetrader_core.models import Klines
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.venue import Fault, FaultKind, random_faults
from livetrader_core.timeframe import MINUTE_MS
from tests.market.tdx_bench import OPEN, Reading, reading, stepping, stocks, tdx
from tests.support.data import proving

SCHEDULES = 1000 if proving() else 30
AT_ONCE = 8
BEFORE = OPEN - 10 * MINUTE_MS
KEYS = (("US.AAPL", "1m"), ("US.BABA", "1m"), ("US.BABA", "3m"))
QUICK = {
    "timeout": 0.15,
    "connect_timeout": 0.2,
    "backoff": 0.005,
    "backoff_most": 0.02,
    "heartbeat": 0.1,
}


def check(stream: Reading, recording: Recording, moment: int) -> None:
    """One-minute bars as the venue has them, up to ``moment``."""
    expected = recording.closed(moment)
    expected = expected[int(np.searchsorted(expected.datetime, OPEN)) :]
    assert stream.times == expected.datetime.tolist()
    got = Klines.of(recording.symbol, "1m", stream.klines)
    for name in ("open", "high", "low", "close", "volume"):
        assert getattr(got, name).tolist() == getattr(expected, name).tolist(), name


async def run_schedule(seed: int) -> None:
    """Faults at random moments while the clock moves on."""
    rng = random.Random(seed)
    recordings = stocks(70, BEFORE)

    def complete(moment: int) -> None:
        # What the clock says is so: nothing that closed by then is missing or comes later.
        for stream in streams[:2]:
            closed = (moment - OPEN) // MINUTE_MS
            assert len(stream.klines) >= closed, moment
            assert not closed or stream.klines[closed - 1].datetime == moment - MINUTE_MS

    async with (
        tdx(recordings, OPEN, **QUICK) as (market, server, clock),
        reading(market, *KEYS) as streams,
        stepping(market, clock, complete) as stepper,
    ):
        for symbol, _ in KEYS:
            await market.get_kline_histories(symbol, limit=5)  # as every strategy begins
        for pause, fault in random_faults(seed, server.faults, 6, 0.04):
            await asyncio.sleep(pause)
            server.inject(fault)
            clock.advance(clock.now() + rng.randint(0, 5) * MINUTE_MS + rng.choice((0, 20_000)))
        end = OPEN + 45 * MINUTE_MS
        await stepper.to(end)
        check(streams[0], recordings[0], end)
        check(streams[1], recordings[1], end)
        assert streams[2].times == list(range(OPEN, end, 3 * MINUTE_MS))


@pytest.mark.long
@pytest.mark.timeout(3600 if proving() else 120)
def test_no_gap_no_duplicate_and_no_wrong_symbol_after_any_faults() -> None:
    async def main() -> None:
        left = list(range(SCHEDULES))

        async def worker() -> None:
            while left:
                seed = left.pop()
                try:
                    await asyncio.wait_for(run_schedule(seed), 30)
                except (AssertionError, asyncio.TimeoutError) as error:
                    raise AssertionError(f"schedule {seed}: {error!r}") from error

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))

    asyncio.run(main())


def test_each_fault_is_recovered_from(capsys: pytest.CaptureFixture[str]) -> None:
    """Also says how long each kind takes with these time-outs."""
    took: dict[str, list[float]] = defaultdict(list)

    async def recover(kind: FaultKind) -> None:
        recordings = stocks(70, BEFORE)
        async with (
            tdx(recordings, OPEN, **QUICK) as (market, server, clock),
            reading(market, *KEYS) as streams,
            stepping(market, clock) as stepper,
        ):
            assert isinstance(market, TdxMarket)
            await stepper.to(OPEN + MINUTE_MS)
            for n in range(2, 8 if not proving() else 40):
                server.inject(Fault(kind, seconds=0.05, count=2))
                began = time.perf_counter()
                await stepper.to(OPEN + n * MINUTE_MS)
                took[kind.value].append(time.perf_counter() - began)
                check(streams[0], recordings[0], OPEN + n * MINUTE_MS)
                check(streams[1], recordings[1], OPEN + n * MINUTE_MS)

    for kind in FaultKind:
        asyncio.run(recover(kind))
    with capsys.disabled():
        if proving():
            print("\nTdxMarket's recovery by fault:", end="")
            for kind_name, seconds in took.items():
                seconds.sort()
                p50, worst = seconds[len(seconds) // 2] * 1000, seconds[-1] * 1000
                print(f"\n{kind_name:<10} p50 {p50:6.1f} ms, worst {worst:6.1f} ms", end="")
    assert all(seconds for seconds in took.values())
