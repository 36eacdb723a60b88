"""CachedMarket: the venue's own answers, each minute asked for once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livetrader_core.clock import SteppedClock
from livetrader_core.errors import (
    InvalidRequest,
    NotConnected,
    StorageError,
    Unavailable,
    UnknownSymbol,
)
from livetrader_core.market import CachedMarket, ReplayMarket
from livetrader_core.market import cached as module
from livetrader_core.market.generated import GeneratedSource
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Klines
from livetrader_core.sim.recording import Recording
from livetrader_core.store import KlineStore
from livetrader_core.timeframe import DAY_MS, MINUTE_MS
from tests.market.samples import at
from tests.support.asked_market import AskedMarket
from tests.support.data import proving
from tests.support.plain_market import PlainMarket
from tests.support.plain_venue import PlainVenue
from tests.support.scripted_market import START, ScriptedMarket, bar, contract

SOURCE = GeneratedSource(["US.BABA", "SHFE.cu2605"], start="2025-10-27", days=12)
#: A Sunday, weeks after the last kline: what lies between is long known to be empty.
LATER = at("2025-11-30 12:00")
WEEKEND = (at("2025-11-01 00:00"), at("2025-11-03 09:00"))


def asked_market(*symbols: str, time: int = LATER) -> AskedMarket:
    names = symbols or ("US.BABA",)
    contracts = [default_contract(symbol) for symbol in names]
    return AskedMarket(contracts, [SOURCE.klines(symbol) for symbol in names], time)


@asynccontextmanager
async def over(market: AskedMarket, path: Path) -> AsyncIterator[CachedMarket]:
    cached = CachedMarket(market, path)
    await cached.connect()
    try:
        yield cached
    finally:
        await cached.disconnect()


def same(got: Klines, right: Klines) -> bool:
    pairs = zip((got.datetime, *got.columns()), (right.datetime, *right.columns()), strict=True)
    return all(a.tolist() == b.tolist() for a, b in pairs)


# --------------------------------------------------------------------------- history


def test_the_same_is_asked_once(tmp_path: Path) -> None:
    async def main() -> None:
        market = asked_market()
        klines = SOURCE.klines("US.BABA")
        first, last = int(klines.datetime[100]), int(klines.datetime[900])
        async with over(market, tmp_path / "k.duckdb") as cached:
            for _ in range(3):
                got = await cached.get_kline_histories("US.BABA", first, None, last)
                assert same(got, klines[100:900])
            assert len(market.asked) == 1
            part = await cached.get_kline_histories("US.BABA", first + 1, 5, last)
            assert same(part, klines[895:900])
            assert len(market.asked) == 1

    asyncio.run(main())


def test_also_by_another_run_and_while_the_venue_is_away(tmp_path: Path) -> None:
    async def main() -> None:
        market = asked_market()
        klines = SOURCE.klines("US.BABA")
        first, last = int(klines.datetime[0]), int(klines.datetime[-1]) + DAY_MS
        async with over(market, tmp_path / "k.duckdb") as cached:
            assert same(await cached.get_kline_histories("US.BABA", first, None, last), klines)
        market.down = True
        async with over(market, tmp_path / "k.duckdb") as cached:
            assert same(await cached.get_kline_histories("US.BABA", first, None, last), klines)
            with pytest.raises(Unavailable, match="away"):
                await cached.get_kline_histories("US.BABA", first - 4 * DAY_MS, None, last)

    asyncio.run(main())


def test_only_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        market = asked_market()
        klines = SOURCE.klines("US.BABA")
        ts = klines.datetime
        async with over(market, tmp_path / "k.duckdb") as cached:
            await cached.get_kline_histories("US.BABA", int(ts[200]), None, int(ts[300]))
            await cached.get_kline_histories("US.BABA", int(ts[500]), None, int(ts[600]))
            got = await cached.get_kline_histories("US.BABA", int(ts[100]), None, int(ts[700]))
            assert same(got, klines[100:700])
            spans = [(start, end) for _, start, end in market.asked[2:]]
            assert spans == [
                (ts[600], ts[700]),
                (ts[300], ts[500]),
                (ts[100], ts[200]),
            ]
            assert not market.twice()

    asyncio.run(main())


def test_a_weekend_is_not_asked_for_and_a_holiday_once(tmp_path: Path) -> None:
    async def main() -> None:
        klines = SOURCE.klines("US.BABA")
        day = (
            at("2025-10-29 00:00", "America/New_York"),
            at("2025-10-30 00:00", "America/New_York"),
        )
        kept = (klines.datetime < day[0]) | (klines.datetime >= day[1])
        klines = Klines.from_columns(
            "US.BABA", "1m", klines.datetime[kept], [c[kept] for c in klines.columns()]
        )
        market = AskedMarket([default_contract("US.BABA")], [klines], LATER)
        async with over(market, tmp_path / "k.duckdb") as cached:
            assert not len(
                await cached.get_kline_histories("US.BABA", WEEKEND[0], None, WEEKEND[1])
            )
            assert market.asked == []
            for _ in range(2):
                assert not len(await cached.get_kline_histories("US.BABA", *_around(day)))
            assert len(market.asked) == 1

    asyncio.run(main())


def _around(day: tuple[int, int]) -> tuple[int, None, int]:
    return day[0], None, day[1]


def test_by_count_only_as_far_back_as_is_needed(tmp_path: Path) -> None:
    async def main() -> None:
        market = asked_market()
        klines = SOURCE.klines("US.BABA")
        async with over(market, tmp_path / "k.duckdb") as cached:
            for limit in (10, 5, 30, 30, 200):
                got = await cached.get_kline_histories("US.BABA", limit=limit)
                assert same(got, klines[-limit:])
            assert not market.twice()
            assert len(market.asked) == 3

    asyncio.run(main())


def test_the_beginning_is_asked_for_once_in_a_connection(tmp_path: Path) -> None:
    async def main() -> None:
        market = asked_market()
        klines = SOURCE.klines("US.BABA")
        async with over(market, tmp_path / "k.duckdb") as cached:
            for _ in range(3):
                assert same(await cached.get_kline_histories("US.BABA"), klines)
                assert same(await cached.get_kline_histories("US.BABA", limit=99_999), klines)
            assert not market.twice()

    asyncio.run(main())


def test_what_lies_after_the_last_kline_is_believed_once_it_is_old(tmp_path: Path) -> None:
    async def main() -> None:
        klines = SOURCE.klines("US.BABA")
        index = int(np.searchsorted(klines.datetime, at("2025-11-04 15:00")))
        last = int(klines.datetime[index])
        # The venue is behind: it has nothing after ``last`` yet, an hour later.
        late = AskedMarket(
            [default_contract("US.BABA")], [klines[: index + 1]], last + 60 * MINUTE_MS
        )
        async with over(late, tmp_path / "k.duckdb") as cached:
            await cached.get_kline_histories("US.BABA", last - DAY_MS)
            late._klines["US.BABA", "1m"] = klines
            got = await cached.get_kline_histories("US.BABA", last - MINUTE_MS * 5)
            assert int(got.datetime[-1]) > last + 50 * MINUTE_MS
        # A day later there is still nothing: then there was nothing.
        gone = AskedMarket([default_contract("US.BABA")], [klines[: index + 1]], last + 3 * DAY_MS)
        async with over(gone, tmp_path / "gone.duckdb") as cached:
            for _ in range(3):
                await cached.get_kline_histories("US.BABA", last - DAY_MS, None, last + DAY_MS)
            assert len(gone.asked) == 1

    asyncio.run(main())


def test_requests_at_once_ask_once(tmp_path: Path) -> None:
    async def main() -> None:
        market = asked_market()
        klines = SOURCE.klines("US.BABA")
        async with over(market, tmp_path / "k.duckdb") as cached:
            got = await asyncio.gather(
                *(cached.get_kline_histories("US.BABA", limit=300 + n) for n in range(8))
            )
            assert all(same(part, klines[-300 - n :]) for n, part in enumerate(got))
            assert not market.twice()

    asyncio.run(main())


def test_what_is_wrong_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        cached = CachedMarket(asked_market(), tmp_path / "k.duckdb")
        with pytest.raises(NotConnected):
            await cached.get_kline_histories("US.BABA", limit=1)
        await cached.connect()
        with pytest.raises(InvalidRequest, match="limit"):
            await cached.get_kline_histories("US.BABA", limit=0)
        with pytest.raises(UnknownSymbol):
            await cached.get_kline_histories("US.NONE", limit=1)
        await cached.disconnect()

    asyncio.run(main())


QUERIES = st.lists(
    st.tuples(
        st.sampled_from(["US.BABA", "SHFE.cu2605"]),
        st.none() | st.integers(-200, 3000),
        st.none() | st.integers(1, 400),
        st.none() | st.integers(-200, 3000),
    ),
    min_size=1,
    max_size=14,
)


@given(
    holes=st.lists(st.tuples(st.integers(0, 2500), st.integers(1, 400)), max_size=6),
    queries=QUERIES,
    reopened=st.sets(st.integers(0, 13), max_size=2),
)
@settings(max_examples=1000 if proving() else 40, deadline=None)
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_any_queries_in_any_order_over_any_holes(
    holes: list[tuple[int, int]],
    queries: list[tuple[str, int | None, int | None, int | None]],
    reopened: set[int],
) -> None:
    async def main(store: KlineStore) -> None:
        names = ["US.BABA", "SHFE.cu2605"]
        sparse = [_with_holes(SOURCE.klines(name)[-2500:], holes) for name in names]
        market = AskedMarket([default_contract(name) for name in names], sparse, LATER)
        direct = AskedMarket([default_contract(name) for name in names], sparse, LATER)
        cached = CachedMarket(market, store)
        await cached.connect()
        open_ended = False
        for number, (symbol, from_row, limit, to_row) in enumerate(queries):
            if number in reopened and not open_ended:
                await cached.disconnect()
                await cached.connect()
            times = SOURCE.klines(symbol).datetime[-2500:]
            from_ts, to_ts = _moment(times, from_row), _moment(times, to_row)
            open_ended |= (
                from_ts is None
            )  # how far back there is anything is asked once a connection
            right = await direct.get_kline_histories(symbol, from_ts, limit, to_ts)
            assert same(await cached.get_kline_histories(symbol, from_ts, limit, to_ts), right)
        await cached.disconnect()
        assert not market.twice()

    with KlineStore(":memory:") as store:
        asyncio.run(main(store))


def _with_holes(klines: Klines, holes: list[tuple[int, int]]) -> Klines:
    kept = np.ones(len(klines), bool)
    for start, length in holes:
        kept[start : start + length] = False
    return Klines.from_columns(
        klines.symbol, "1m", klines.datetime[kept], [c[kept] for c in klines.columns()]
    )


def _moment(times: np.ndarray, row: int | None) -> int | None:  # type: ignore[type-arg]
    if row is None:
        return None
    if 0 <= row < len(times):
        return int(times[row])
    return (
        int(times[0]) + row * MINUTE_MS
        if row < 0
        else int(times[-1]) + (row - len(times)) * MINUTE_MS
    )


# --------------------------------------------------------------------------- filling


def test_filling_goes_on_where_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 500)

    async def main() -> None:
        market = asked_market()
        klines = SOURCE.klines("US.BABA")
        first = int(klines.datetime[0])
        total, told = 0, list[tuple[int, int]]()
        for after in (3, 2, None):
            market.fails_after = after
            told.clear()
            async with over(market, tmp_path / "k.duckdb") as cached:
                try:
                    total += await cached.fill(
                        "US.BABA", first, tell=lambda *reached: told.append(reached)
                    )
                except Unavailable:
                    total += told[-1][1]
                    assert len(told) == after
            assert told == sorted(told, key=lambda each: -each[0])
        assert total == len(klines)
        assert not market.twice()
        async with over(market, tmp_path / "k.duckdb") as cached:
            assert await cached.fill("US.BABA", first) == 0
            await cached.uncover("US.BABA", first, first + DAY_MS)
            again = await cached.fill("US.BABA", first)
            assert again == int(np.searchsorted(klines.datetime, first + DAY_MS))

    asyncio.run(main())


def test_everything_is_filled_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 700)

    async def main() -> None:
        market = asked_market()
        klines = SOURCE.klines("US.BABA")
        async with over(market, tmp_path / "k.duckdb") as cached:
            assert await cached.fill("US.BABA") == len(klines)
            market.down = True
            assert same(await cached.get_kline_histories("US.BABA", limit=len(klines)), klines)
        assert not market.twice()

    asyncio.run(main())


# --------------------------------------------------------------------------- live


def test_live_klines_are_kept_and_quiet_minutes_covered(tmp_path: Path) -> None:
    async def main() -> None:
        market = ScriptedMarket([contract()])
        cached = CachedMarket(market, tmp_path / "k.duckdb")
        await cached.connect()
        for watching in (cached.watch_klines("US.A"), cached.watch_clock()):
            _tasks.append(asyncio.get_running_loop().create_task(_drain(watching)))
        await asyncio.sleep(0)
        for minute in (0, 1, 4):
            await market.moment(bar(minute, 1, 2, 0.5, 1.5))
        market.time = START + 9 * MINUTE_MS
        await market.moment()
        while _tasks:
            _tasks[-1].cancel()
            await asyncio.gather(_tasks.pop(), return_exceptions=True)
        await cached.disconnect()
        with KlineStore(tmp_path / "k.duckdb") as store:
            opens = (store.read("US.A").datetime - START) // MINUTE_MS
            assert opens.tolist() == [0, 1, 4]
            first = START - MINUTE_MS + 1  # over a moment after the stream began
            assert store.covered("US.A") == [(first, START + 8 * MINUTE_MS + 1)]

    asyncio.run(main())


_tasks: list[asyncio.Task[None]] = []


async def _drain(items: AsyncIterator[object]) -> None:
    async for _ in items:
        pass


@asynccontextmanager
async def live(path: Path) -> AsyncIterator[tuple[CachedMarket, PlainVenue, SteppedClock]]:
    klines = SOURCE.klines("US.BABA")
    clock = SteppedClock(at("2025-11-04 15:00"))
    venue = PlainVenue([Recording(default_contract("US.BABA"), klines)], clock)
    await venue.start()
    cached = CachedMarket(PlainMarket(venue.port, clock, timeout=5.0), path)
    await cached.connect()
    try:
        yield cached, venue, clock
    finally:
        await cached.disconnect()
        await venue.stop()


async def watched(cached: CachedMarket, clock: SteppedClock, minutes: int) -> None:
    """Watch while ``minutes`` pass one by one, up to the clock's last moment."""

    async def klines() -> None:
        async for _ in cached.watch_klines("US.BABA"):
            pass

    moments = cached.watch_clock()
    reading = asyncio.get_running_loop().create_task(klines())
    try:
        for _ in range(minutes):
            said = asyncio.ensure_future(anext(moments))
            await asyncio.sleep(0)
            clock.advance(clock.now() + MINUTE_MS)
            assert await said == clock.now()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def test_what_was_streamed_is_history_without_asking(tmp_path: Path) -> None:
    async def main() -> None:
        async with live(tmp_path / "k.duckdb") as (cached, venue, clock):
            await cached.get_kline_histories("US.BABA", limit=100)
            began = clock.now()
            await watched(cached, clock, 20)
            venue.asked.clear()
            got = await cached.get_kline_histories("US.BABA", limit=60)
            right = Recording(default_contract("US.BABA"), SOURCE.klines("US.BABA"))
            assert same(got, right.closed(clock.now())[-60:])
            assert venue.asked == []
            # What happens while nobody watches is asked for, and nothing else.
            clock.advance(clock.now() + 10 * MINUTE_MS)
            got = await cached.get_kline_histories("US.BABA", limit=60)
            assert same(got, right.closed(clock.now())[-60:])
            assert all(from_ts is not None and from_ts > began for _, _, from_ts, _ in venue.asked)

    asyncio.run(main())


def test_a_forming_kline_is_shown_and_never_stored(tmp_path: Path) -> None:
    async def main() -> None:
        async with live(tmp_path / "k.duckdb") as (cached, _, clock):
            clock.advance(clock.now() + MINUTE_MS // 2)
            got = await cached.get_kline_histories("US.BABA", limit=10, forming=True)
            assert got.forming
            assert len(got) == 11
            forming = got[-1]
            got = await cached.get_kline_histories("US.BABA", int(got.datetime[-2]))
            assert not got.forming
            clock.advance(clock.now() + MINUTE_MS // 2)
            whole = (await cached.get_kline_histories("US.BABA", limit=1))[0]
            assert whole.datetime == forming.datetime
            right = SOURCE.klines("US.BABA")
            index = int(np.searchsorted(right.datetime, whole.datetime))
            assert whole == right[index]
            assert whole.volume > forming.volume

    asyncio.run(main())


def test_klines_that_cannot_be_written_end_no_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: KlineStore, pieces: object) -> int:
        raise StorageError("no space left on the device")

    async def main() -> None:
        async with live(tmp_path / "k.duckdb") as (cached, _, clock):
            with monkeypatch.context() as patched:
                patched.setattr(KlineStore, "record", full)
                patched.setattr(module, "BATCH_SECONDS", 0.0)
                await cached.get_contract("US.BABA")
                await watched(cached, clock, 3)
                with pytest.raises(StorageError, match="no space left"):
                    await cached.get_kline_histories("US.BABA", limit=5)
            got = await cached.get_kline_histories("US.BABA", limit=5)
            right = Recording(default_contract("US.BABA"), SOURCE.klines("US.BABA"))
            assert same(got, right.closed(clock.now())[-5:])

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "no space left on the device" in caplog.text


# --------------------------------------------------------------------------- one store


def test_two_markets_share_a_store(tmp_path: Path) -> None:
    async def main() -> None:
        with KlineStore(tmp_path / "k.duckdb") as store:
            for symbol in ("US.BABA", "SHFE.cu2605"):
                cached = CachedMarket(asked_market(symbol), store)
                await cached.connect()
                await cached.get_kline_histories(symbol, limit=100)
                await cached.disconnect()
            assert [(row.symbol, row.count) for row in store.ranges()] == [
                ("SHFE.cu2605", 100),
                ("US.BABA", 100),
            ]

    asyncio.run(main())


def test_a_second_process_is_told_and_nothing_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "k.duckdb"
    code = (
        "import sys; from livetrader_core.store import KlineStore; "
        f"held = KlineStore({str(path)!r}); print('open', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout.readline() == "open\n"

        async def main() -> None:
            cached = CachedMarket(asked_market(), path)
            with pytest.raises(StorageError, match=r"k\.duckdb is open in another process"):
                await cached.connect()
            other.communicate("")
            await cached.connect()
            assert len(await cached.get_kline_histories("US.BABA", limit=5)) == 5
            await cached.disconnect()

        asyncio.run(main())


KILLED = """
import asyncio, sys
from pathlib import Path
from livetrader_core.market import CachedMarket, cached
from tests.market.test_cached import asked_market
cached.PAGE = 300

async def main():
    market = CachedMarket(asked_market(), Path(sys.argv[1]))
    await market.connect()
    await market.fill("US.BABA", tell=lambda moment, count: print(count, flush=True))

asyncio.run(main())
"""


@pytest.mark.parametrize("pieces", [1, 4, 9])
def test_a_kill_damages_nothing(tmp_path: Path, pieces: int) -> None:
    path = tmp_path / "k.duckdb"
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()) as filling:
        assert filling.stdout is not None
        told = [int(filling.stdout.readline()) for _ in range(pieces)]
        os.kill(filling.pid, signal.SIGKILL)
        filling.wait()
    with KlineStore(path) as store:
        kept = store.read("US.BABA")
        covered = store.covered("US.BABA")
    assert len(kept) >= told[-1]
    klines = SOURCE.klines("US.BABA")
    assert same(kept, klines[-len(kept) :])
    assert covered[0][0] == kept.datetime[0]

    async def main() -> None:
        market = asked_market()
        async with over(market, path) as cached:
            assert same(await cached.get_kline_histories("US.BABA"), klines)
        assert all(end <= covered[0][0] for _, _, end in market.asked)

    asyncio.run(main())


def test_a_replay_is_still_one(tmp_path: Path) -> None:
    async def main() -> None:
        replay = ReplayMarket(SOURCE)
        cached = CachedMarket(replay, tmp_path / "k.duckdb")
        await cached.connect()
        assert (cached.clocked, cached.paced, cached.begun) == (True, True, False)
        archive = await cached.get_kline_histories("US.BABA", limit=10)
        assert same(archive, SOURCE.klines("US.BABA")[-10:])
        start = at("2025-11-04 15:00")
        cached.begin(start)
        assert cached.begun
        past = await cached.get_kline_histories("US.BABA", limit=10)
        assert int(past.datetime[-1]) == start - MINUTE_MS
        assert not hasattr(CachedMarket(asked_market(), tmp_path / "x.duckdb"), "begin")
        await cached.disconnect()

    asyncio.run(main())
