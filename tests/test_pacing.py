from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from livetrader_core.errors import InvalidRequest, TooBusy
from livetrader_core.pacing import MAX_FOLLOWERS, Pacer


def during(work: Callable[[Pacer], Awaitable[None]], **settings: float) -> None:
    async def main() -> None:
        await asyncio.wait_for(work(Pacer(**settings)), 10.0)  # type: ignore[arg-type]

    asyncio.run(main())


async def is_held(pacer: Pacer, ts: int) -> asyncio.Task[None]:
    waiting = asyncio.create_task(pacer.wait(ts))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    return waiting


def test_nobody_holds_a_stream_that_nobody_must_follow() -> None:
    during(lambda pacer: pacer.wait(1))


def test_every_follower_is_waited_for() -> None:
    async def work(pacer: Pacer) -> None:
        pacer.join("a")
        pacer.join("b")
        waiting = await is_held(pacer, 5)
        pacer.ack("a", 5)
        pacer.ack("b", 4)
        assert not waiting.done()
        pacer.ack("b", 5)
        await waiting

    during(work)


def test_a_window_is_counted_in_moments() -> None:
    async def work(pacer: Pacer) -> None:
        pacer.join("a", window=2)
        await pacer.wait(10)
        await pacer.wait(20)
        waiting = await is_held(pacer, 30)
        pacer.ack("a", 10)
        await waiting

    during(work)


def test_a_required_follower_is_waited_for_before_it_comes() -> None:
    async def work(pacer: Pacer) -> None:
        waiting = await is_held(pacer, 1)
        pacer.join("a")
        pacer.ack("a", 1)
        await waiting

    during(work, required=1)


def test_a_silent_follower_is_taken_for_gone() -> None:
    async def work(pacer: Pacer) -> None:
        pacer.join("dead")
        await pacer.wait(1)
        assert pacer.followers == ()

    during(work, lease=0.1)


def test_a_cancel_is_not_swallowed_by_a_follower_that_leaves_meanwhile() -> None:
    async def work(pacer: Pacer) -> None:
        pacer.join("a")
        waiting = await is_held(pacer, 1)
        pacer.leave("a")
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()

    during(work, required=1)


def test_followers_are_bounded() -> None:
    async def work(pacer: Pacer) -> None:
        for number in range(MAX_FOLLOWERS):
            pacer.join(str(number))
        pacer.join("0")  # who is in may say so again
        with pytest.raises(TooBusy, match="follow this replay already"):
            pacer.join("one more")
        with pytest.raises(InvalidRequest, match="at most 64 characters"):
            pacer.join("n" * 65)

    during(work)


def test_a_cleared_pacer_forgets_its_followers_and_serves_another_loop() -> None:
    pacer = Pacer()

    async def once() -> None:
        pacer.join("a")
        waiting = await is_held(pacer, 5)
        pacer.ack("a", 5)
        await waiting
        pacer.clear()
        assert pacer.followers == ()

    asyncio.run(once())
    asyncio.run(once())
