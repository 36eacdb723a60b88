"""The computer's time, time that runs faster, and time that is moved by steps."""

from __future__ import annotations

import asyncio
import threading

import pytest

from livetrader_core.clock import Clock, SpedClock, SteppedClock, SystemClock, parse_clock
from livetrader_core.errors import ConfigError

NOON = 1_604_318_400_000


def test_two_clocks_of_the_same_numbers_agree() -> None:
    clock = SpedClock(NOON, 600.0)
    other = parse_clock(str(clock))
    assert isinstance(other, SpedClock)
    assert (other.start, other.speed, other.anchor) == (NOON, 600.0, clock.anchor)


def test_a_sped_clock_sleeps_in_its_own_time() -> None:
    clock = SpedClock(NOON, 60_000.0)
    asyncio.run(clock.sleep_until(NOON + 600_000))
    assert clock.now() >= NOON + 600_000


def test_the_system_clock_does_not_sleep_for_what_is_past() -> None:
    clock = SystemClock()
    asyncio.run(clock.sleep_until(clock.now() - 1))
    assert parse_clock(None).now() >= clock.now() - 1000


def test_stepping_wakes_sleepers_that_are_due_and_no_others() -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        sleepers = [asyncio.ensure_future(clock.sleep_until(NOON + n)) for n in (0, 10, 20)]
        await asyncio.sleep(0)
        threading.Thread(target=clock.advance, args=(NOON + 10,)).start()
        await asyncio.wait(sleepers[:2])
        assert not sleepers[2].done()
        clock.advance(NOON + 20)
        await sleepers[2]
        assert clock.now() == NOON + 20

    asyncio.run(main())


def test_a_cancelled_sleeper_leaves_nothing_behind() -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        sleeper = asyncio.ensure_future(clock.sleep_until(NOON + 1))
        await asyncio.sleep(0)
        sleeper.cancel()
        await asyncio.gather(sleeper, return_exceptions=True)
        clock.advance(NOON + 5)
        assert sleeper.cancelled()
        assert not clock._sleepers

    asyncio.run(main())


@pytest.mark.parametrize(
    "text", ["", "noon", "2020-11-02T14:30:00@17x60", "2020-11-02T14:30:00Z@17x0", "x@17x1.2.3"]
)
def test_a_wrong_setting_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"clock|speed"):
        parse_clock(text)


def test_a_clock_stays_itself() -> None:
    clock: Clock = SteppedClock(NOON)
    assert parse_clock(clock) is clock
