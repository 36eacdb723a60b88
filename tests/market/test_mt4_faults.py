"""Faults at the terminal: what was published afterwards is what the venue has."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict

import numpy as np
import pytest

from livetrader_core.clock import SteppedClock
from livetrader_core.errors import Unavailable
from livetrader_core.market.mt4 import Mt4Market, line
from livetrader_core.market.mt4.hub import User, hub_of
from livetrader_core.market.mt4.messages import Publication
from livetrader_core.models import FeedState, Kline
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.venue import Fault, FaultKind, random_faults
from tests.ea.build import compiler
from tests.ea.client import NOON
from tests.ea.terminal import EaTerminal
from tests.support.data import proving
from tests.support.dwx_venue import EURUSD, MINUTE, USDJPY, Watch, eventually, generated
from tests.support.mt4_venue import mt4

pytestmark = pytest.mark.skipif(
    compiler() is None, reason="g++ is needed to compile the expert advisor (package g++)"
)
#: Those of trading aside, and the clock's leap, which has a test of its own.
KINDS = frozenset(EaTerminal.faults) & {
    FaultKind.CUT,
    FaultKind.STALL,
    FaultKind.LATE,
    FaultKind.EMPTY,
    FaultKind.DROP,
    FaultKind.RESTART,
}
FAULTS = 6
LONGEST = 0.06
SCHEDULES = 300 if proving() else 3
QUICK = {"timeout": 0.15, "connect_timeout": 0.5, "longest_retry": 0.02}


def expected(recording: Recording, start: int, end: int) -> list[Kline]:
    first, last = np.searchsorted(recording.klines.datetime, [start, end])
    return list(recording.klines[int(first) : int(last)])


async def history_of(market: Mt4Market, symbol: str, end: int) -> list[Kline]:
    """The history, asked for again while the last answers are still dropped."""
    for _ in range(10):
        try:
            return list(await market.get_kline_histories(symbol, NOON, to_ts=end))
        except Unavailable:
            await asyncio.sleep(0.02)
    raise AssertionError(f"{symbol}: no history in ten tries")


async def run_schedule(seed: int) -> None:
    recordings = [generated(EURUSD), generated(USDJPY)]
    clock = SteppedClock(NOON)
    async with mt4(recordings, clock, **QUICK) as (terminal, market):
        watch = Watch(market, (EURUSD, "1m"), (USDJPY, "1m"), (EURUSD, "5m"))
        await watch.ready()
        for number, (pause, fault) in enumerate(random_faults(seed, KINDS, FAULTS, LONGEST)):
            await asyncio.sleep(pause)
            if fault.kind is FaultKind.DROP and terminal.advisor is None:
                continue  # nobody is there who could fail to send
            terminal.inject(fault)
            clock.advance(clock.now() + (number % 3 + 1) * MINUTE)
        end = clock.now() + 3 * MINUTE
        await asyncio.sleep(LONGEST)  # the terminal's own clock is right again
        clock.advance(end)
        await watch.reach(end, 20.0)
        for recording in recordings:
            found = watch.klines[recording.symbol, "1m"]
            assert found == expected(recording, NOON, end), f"seed {seed}"
            history = await history_of(market, recording.symbol, end)
            assert history == expected(recording, NOON, end), f"seed {seed}"
        opens = [kline.datetime for kline in watch.klines[EURUSD, "5m"]]
        assert opens == list(range(NOON, end - 5 * MINUTE + 1, 5 * MINUTE)), f"seed {seed}"
        await watch.stop()


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
        for kind in sorted(KINDS):
            clock = SteppedClock(NOON)
            async with mt4([recording], clock, **QUICK) as (terminal, market):
                watch = Watch(market, (EURUSD, "1m"))
                await watch.ready()
                for minute in range(1, 3):
                    terminal.inject(Fault(kind, 0.05))
                    begun = time.perf_counter()
                    clock.advance(NOON + minute * MINUTE)
                    await watch.reach(NOON + minute * MINUTE)
                    times[kind.value].append(time.perf_counter() - begun)
                    await asyncio.sleep(0.06)
                clock.advance(NOON + 3 * MINUTE)
                await watch.reach(NOON + 3 * MINUTE)
                assert watch.klines[EURUSD, "1m"] == expected(recording, NOON, NOON + 3 * MINUTE)
                await watch.stop()

    asyncio.run(main())
    for kind, values in times.items():
        print(f"{kind:>11}: median {np.median(values) * 1000:6.1f} ms, worst {max(values):.3f} s")


def test_an_advisor_that_is_killed_and_attached_again() -> None:
    async def main() -> None:
        recording, clock = generated(EURUSD), SteppedClock(NOON)
        states: list[FeedState] = []
        async with mt4([recording], clock, **QUICK) as (terminal, market):
            market.on_state = lambda state, reason: states.append(state)
            watch = Watch(market, (EURUSD, "1m"))
            await watch.ready()
            clock.advance(NOON + MINUTE)
            await watch.reach(NOON + MINUTE)
            first = market._working().greeting.start
            terminal.inject(Fault(FaultKind.RESTART, 0.3))
            await eventually(lambda: FeedState.DISCONNECTED in states)
            clock.advance(NOON + 4 * MINUTE)
            with pytest.raises(Unavailable):
                await market.get_kline_histories(EURUSD, limit=5)
            await watch.reach(NOON + 4 * MINUTE)
            assert market._working().greeting.start != first
            assert watch.klines[EURUSD, "1m"] == expected(recording, NOON, NOON + 4 * MINUTE)
            assert states == [FeedState.DISCONNECTED, FeedState.CONNECTED]
            await watch.stop()

    asyncio.run(main())


def test_a_bar_that_is_called_closed_before_its_time_is_not_believed() -> None:
    async def main() -> None:
        recording, clock = generated(EURUSD), SteppedClock(NOON)
        async with mt4([recording], clock, **QUICK) as (terminal, market):
            heard: list[Publication] = []
            user = User(heard.append, lambda: None)
            hub = hub_of(market._address)
            hub.join(user)
            watch = Watch(market, (EURUSD, "1m"))
            await watch.ready()
            for minute in range(1, 4):
                clock.advance(NOON + minute * MINUTE)
                await watch.reach(NOON + minute * MINUTE)
                await asyncio.sleep(0.02)
            # Five minutes ahead, for longer than the test takes: the forming bar is published.
            terminal.inject(Fault(FaultKind.CLOCK_JUMP, 60.0))
            forming = (NOON + 3 * MINUTE + terminal.model.offset(NOON)) // 1000
            await eventually(
                lambda: any(h.topic == "bar" and h.body["bar"][0] == forming for h in heard)
            )
            clock.advance(NOON + 4 * MINUTE)
            await watch.reach(NOON + 4 * MINUTE)
            assert watch.klines[EURUSD, "1m"] == expected(recording, NOON, NOON + 4 * MINUTE)
            await watch.stop()
            await hub.leave(user)

    asyncio.run(main())


def test_another_account_in_the_terminal_is_a_new_start_on_the_same_connection() -> None:
    async def main() -> None:
        recording, clock = generated(EURUSD), SteppedClock(NOON)
        async with mt4([recording], clock, **QUICK) as (terminal, market):
            watch = Watch(market, (EURUSD, "1m"))
            await watch.ready()
            first = market._working()
            terminal.switches.account_number += 1
            await eventually(lambda: first.lost is not None)
            assert "started anew" in str(first.lost)
            clock.advance(NOON + 2 * MINUTE)
            await watch.reach(NOON + 2 * MINUTE)
            assert market._working().greeting.account == first.greeting.account + 1
            assert watch.klines[EURUSD, "1m"] == expected(recording, NOON, NOON + 2 * MINUTE)
            await watch.stop()

    asyncio.run(main())


def test_a_terminal_that_hangs_is_told_when_its_beats_stay_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line, "SILENCE", 1.4)

    async def main() -> None:
        recording, clock = generated(EURUSD), SteppedClock(NOON)
        states: list[tuple[FeedState, str]] = []
        async with mt4([recording], clock, connect_timeout=0.3) as (terminal, market):
            watch = Watch(market, (EURUSD, "1m"))
            await watch.ready()
            clock.advance(NOON + MINUTE)
            await watch.reach(NOON + MINUTE)
            market.on_state = lambda state, reason: states.append((state, reason))
            begun = time.monotonic()
            terminal.inject(Fault(FaultKind.STALL, 1.8))
            await eventually(lambda: bool(states))
            assert 0.3 <= time.monotonic() - begun < 1.8
            assert "no heartbeat of the expert advisor for 1.4 s" in states[0][1]
            clock.advance(NOON + 2 * MINUTE)
            await watch.reach(NOON + 2 * MINUTE)
            assert watch.klines[EURUSD, "1m"] == expected(recording, NOON, NOON + 2 * MINUTE)
            await watch.stop()

    asyncio.run(main())
