"""Streams: whatever an adapter offers, each reader gets each closed kline once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from livetrader_core.market.streams import Streams
from livetrader_core.models import Kline, Klines, Tick

MINUTE = 60_000
A, B = "US.A", "US.B"


def bars(*minutes: int, symbol: str = A, forming: bool = False) -> Klines:
    rows = [Kline(symbol, "1m", m * MINUTE, 1.0, 2.0, 0.5, 1.5, float(m)) for m in minutes]
    if forming:
        rows[-1] = replace(rows[-1], closed=False)
    return Klines.of(symbol, "1m", rows)


class Reader:
    """Reads a stream; ``busy`` keeps it from asking for the next item."""

    def __init__(self, items: AsyncIterator[Kline] | AsyncIterator[Tick]) -> None:
        self.minutes: list[int] = []
        self.free = asyncio.Event()
        self.free.set()
        self._task = asyncio.get_running_loop().create_task(self._read(items))

    async def _read(self, items: AsyncIterator[Kline] | AsyncIterator[Tick]) -> None:
        async for item in items:
            self.minutes.append(item.datetime // MINUTE)
            await self.free.wait()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def reading(streams: Streams, symbol: str = A, after: int = 0) -> AsyncIterator[Reader]:
    reader = Reader(streams.klines(symbol, "1m", after * MINUTE))
    await asyncio.sleep(0)
    try:
        yield reader
    finally:
        await reader.close()


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --------------------------------------------------------------------------- klines


def test_each_once_and_in_order() -> None:
    async def main() -> None:
        streams = Streams()
        async with reading(streams) as reader:
            assert streams.offer(bars(1, 2, 3)) == 3
            assert streams.offer(bars(2, 3, 4)) == 1
            assert streams.offer(bars(1)) == 0
            assert streams.offer(bars(5, 6, forming=True)) == 1
            await turns()
            assert reader.minutes == [1, 2, 3, 4, 5]
            assert streams.last(A, "1m") == 5 * MINUTE

    asyncio.run(main())


def test_only_what_opens_after_the_moment_it_was_watched() -> None:
    async def main() -> None:
        streams = Streams()
        async with reading(streams, after=3) as early:
            assert streams.last(A, "1m") == 3 * MINUTE
            async with reading(streams, after=5) as late:
                streams.offer(bars(2, 3, 4, 5, 6, 7))
                await turns()
                assert early.minutes == [4, 5, 6, 7]
                assert late.minutes == [6, 7]

    asyncio.run(main())


def test_symbols_and_timeframes_are_apart() -> None:
    async def main() -> None:
        streams = Streams()
        async with reading(streams) as one, reading(streams, B) as other:
            assert sorted(streams.wanted()) == [(A, "1m"), (B, "1m")]
            streams.offer(bars(1, 2))
            streams.offer(bars(7, symbol=B))
            five = bars(9)
            five.timeframe = "5m"
            assert streams.offer(five) == 0
            await turns()
            assert (one.minutes, other.minutes) == ([1, 2], [7])

    asyncio.run(main())


def test_who_comes_back_begins_anew() -> None:
    async def main() -> None:
        streams = Streams()
        async with reading(streams):
            streams.offer(bars(1, 2))
        assert streams.wanted() == []
        assert streams.last(A, "1m") == 0
        assert streams.offer(bars(3)) == 0
        async with reading(streams, after=5) as again:
            streams.offer(bars(4, 5, 6))
            await turns()
            assert again.minutes == [6]

    asyncio.run(main())


def test_one_of_two_readers_goes_away() -> None:
    async def main() -> None:
        streams = Streams()
        async with reading(streams) as steady:
            async with reading(streams):
                streams.offer(bars(1))
            streams.offer(bars(2))
            await turns()
            assert steady.minutes == [1, 2]
            assert streams.last(A, "1m") == 2 * MINUTE

    asyncio.run(main())


@given(st.lists(st.lists(st.integers(1, 30), min_size=1, unique=True).map(sorted), max_size=15))
@settings(max_examples=60, deadline=None)
def test_offers_in_any_order_come_out_ascending(offers: list[list[int]]) -> None:
    async def main() -> None:
        streams = Streams()
        async with reading(streams) as reader:
            given = sum(streams.offer(bars(*offer)) for offer in offers)
            await turns()
            assert reader.minutes == sorted(set(reader.minutes))
            assert len(reader.minutes) == given
            highest = max((minute for offer in offers for minute in offer), default=0)
            assert (reader.minutes or [0])[-1] == highest

    asyncio.run(main())


def test_ticks_go_to_whoever_watches_them() -> None:
    async def main() -> None:
        streams = Streams()
        reader = Reader(streams.ticks(A))
        await turns()
        assert streams.wanted_ticks() == [A]
        assert streams.wanted() == []
        for minute in (3, 3, 2):  # quotes of one moment are not duplicates
            streams.offer_tick(Tick(A, minute * MINUTE))
            streams.offer_tick(Tick(B, minute * MINUTE))
        await turns()
        assert reader.minutes == [3, 3, 2]
        await reader.close()
        assert streams.wanted_ticks() == []

    asyncio.run(main())


# --------------------------------------------------------------------------- the clock


@asynccontextmanager
async def clock_of(streams: Streams) -> AsyncIterator[list[int]]:
    seen: list[int] = []

    async def read() -> None:
        async for moment in streams.clock():
            seen.append(moment)

    task = asyncio.get_running_loop().create_task(read())
    await turns()
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_moment_is_said_once_all_of_it_is_read() -> None:
    async def main() -> None:
        streams = Streams()
        async with clock_of(streams) as seen, reading(streams) as one, reading(streams) as other:
            other.free.clear()
            streams.offer(bars(1, 2))
            settling = asyncio.ensure_future(streams.settle(3 * MINUTE))
            await turns()
            assert one.minutes == [1, 2]
            assert (seen, other.minutes) == ([], [1])
            other.free.set()
            await settling
            await turns()
            assert (seen, other.minutes) == ([3 * MINUTE], [1, 2])

    asyncio.run(main())


def test_the_clock_ascends_and_says_each_moment_once() -> None:
    async def main() -> None:
        streams = Streams()
        async with clock_of(streams) as seen:
            for moment in (5, 5, 4, 6):
                await streams.settle(moment)
            await turns()
            assert seen == [5, 6]

    asyncio.run(main())


def test_an_earlier_moment_that_waited_is_not_said_after_a_later_one() -> None:
    async def main() -> None:
        streams = Streams()
        async with clock_of(streams) as seen:
            async with reading(streams) as reader:
                reader.free.clear()
                streams.offer(bars(1))
                earlier = asyncio.ensure_future(streams.settle(5))
                await turns()
            later = asyncio.ensure_future(streams.settle(6))
            await asyncio.gather(later, earlier)
            await turns()
            assert seen == sorted(seen)
            assert seen[-1] == 6

    asyncio.run(main())


def test_a_reader_that_goes_away_holds_no_moment_up() -> None:
    async def main() -> None:
        streams = Streams()
        async with clock_of(streams) as seen:
            async with reading(streams) as reader:
                reader.free.clear()
                streams.offer(bars(1, 2))
                settling = asyncio.ensure_future(streams.settle(9))
                await turns()
                assert not settling.done()
            await settling
            await turns()
            assert seen == [9]

    asyncio.run(main())


def test_a_reader_that_fails_holds_no_moment_up() -> None:
    async def main() -> None:
        streams = Streams()

        async def fail() -> None:
            async for kline in streams.klines(A, "1m", 0):
                raise ValueError(kline.datetime)

        async with clock_of(streams) as seen:
            failing = asyncio.get_running_loop().create_task(fail())
            await turns()
            streams.offer(bars(1, 2))
            await streams.settle(9)
            await turns()
            assert seen == [9]
            assert streams.wanted() == []
            assert isinstance(
                (await asyncio.gather(failing, return_exceptions=True))[0], ValueError
            )

    asyncio.run(main())


def test_every_reader_of_the_clock_hears_it() -> None:
    async def main() -> None:
        streams = Streams()
        async with clock_of(streams) as one, clock_of(streams) as other:
            await streams.settle(1)
            await turns()
            assert (one, other) == ([1], [1])

    asyncio.run(main())
