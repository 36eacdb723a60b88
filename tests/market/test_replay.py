"""ReplayMarket: moments in order, at the pace of whoever reads, and nothing from the future."""

from __future__ import annotations

import asyncio
import gc
import itertools
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from livetrader_core.errors import (
    ConfigError,
    DataError,
    InvalidRequest,
    UnknownSymbol,
    UnknownTimeframe,
)
from livetrader_core.market import MarketService, ReplayMarket
from livetrader_core.market.aggregate import aggregate
from livetrader_core.market.generated import GeneratedSource
from livetrader_core.market.sources import Source
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Clock, Contract, FeedState, FeedStatus, Kline, Klines
from livetrader_core.store import KlineStore
from livetrader_core.timeframe import MINUTE_MS
from tests.market.samples import at, folder_of, rising, sample

START = at("2020-11-03 15:00")
BABA, AAPL, EURUSD = "US.BABA", "US.AAPL", "FOREX.EURUSD"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """BABA each minute, AAPL every second, EURUSD from five minutes later on."""
    return folder_of(
        tmp_path,
        rising(BABA, START, 60),
        rising(AAPL, START, 30, step=2),
        rising(EURUSD, START + 5 * MINUTE_MS, 55, price=1.0),
    )


def minute(count: int) -> int:
    return START + count * MINUTE_MS


async def turns(count: int = 30) -> None:
    """Let everything go on that can."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not come to this"
        await asyncio.sleep(0.001)


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Log:
    """Reads streams of one market and writes down what comes, in order."""

    def __init__(self, market: ReplayMarket) -> None:
        self.market = market
        self.rows: list[tuple[str, int]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def follow(self, *streams: tuple[str, str], clock: bool = True) -> Log:
        for symbol, timeframe in streams:
            self._read(symbol, self.market.watch_klines(symbol, timeframe))
        if clock:
            self._read("clock", self.market.watch_clock())
        return self

    def _read(self, name: str, stream: AsyncIterator[Any]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(self._run(name, stream)))

    async def _run(self, name: str, stream: AsyncIterator[Any]) -> None:
        async for item in stream:
            if isinstance(item, Kline):
                contract = await self.market.get_contract(item.symbol)
                end = contract.sessions.kline_end(item.datetime, item.timeframe)
                self.rows.append((f"{name} {item.timeframe}", end))
            else:
                self.rows.append((name, item))

    async def all(self) -> list[tuple[str, int]]:
        await asyncio.wait_for(asyncio.gather(*self.tasks), 30)
        return self.rows


# --------------------------------------------------------------------------- the archive


def test_before_it_begins_everything_is_history(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder)
        await market.connect()
        assert await market.list_symbols() == [EURUSD, AAPL, BABA]
        assert market.markets == ("FOREX", "US")
        klines = await market.get_kline_histories(BABA)
        assert klines.datetime.tolist() == rising(BABA, START, 60).datetime.tolist()
        window = await market.get_kline_histories(BABA, minute(10), 5, minute(30))
        assert window.datetime.tolist() == [minute(n) for n in range(25, 30)]
        fives = await market.get_kline_histories(BABA, timeframe="5m")
        assert fives.volume.tolist() == [50.0] * 12
        assert len(await market.get_kline_histories(BABA, timeframe="1d")) == 1
        stream = market.watch_klines(BABA)
        reader = asyncio.ensure_future(stream.__anext__())  # type: ignore[arg-type]
        await turns()
        assert not reader.done()
        await market.disconnect()
        with pytest.raises(StopAsyncIteration):
            await reader

    asyncio.run(main())


def test_a_recorded_timeframe_is_preferred_to_one_made_from_minutes(tmp_path: Path) -> None:
    fives = aggregate(rising(BABA, START, 60, price=500.0), "5m", default_contract(BABA).sessions)
    folder_of(tmp_path, rising(BABA, START, 60), fives)

    async def main() -> None:
        market = ReplayMarket(tmp_path)
        histories = {t: await market.get_kline_histories(BABA, timeframe=t) for t in ("5m", "15m")}
        assert histories["5m"].close.tolist() == fives.close.tolist()
        assert histories["15m"].close[0] < 200

    asyncio.run(main())


def test_files_of_one_symbol_are_joined_and_must_not_overlap(tmp_path: Path) -> None:
    klines = rising(BABA, START, 60)
    folder_of(tmp_path, klines[30:])
    (tmp_path / f"{BABA}-1m.csv.gz").rename(tmp_path / f"{BABA}-1m_a.csv.gz")
    folder_of(tmp_path, klines[:30])

    async def main(expected: int) -> None:
        history = await ReplayMarket(tmp_path).get_kline_histories(BABA)
        assert history.close.tolist() == klines.close[:expected].tolist()

    asyncio.run(main(60))
    folder_of(tmp_path, klines[:31])
    with pytest.raises(DataError, match=r"US\.BABA-1m\.csv\.gz and .*_a\.csv\.gz overlap"):
        asyncio.run(main(60))


def test_a_single_file_and_contracts_beside_it(tmp_path: Path) -> None:
    folder_of(tmp_path, rising("SHFE.cu2002", at("2019-11-18 02:00"), 10))
    (tmp_path / "contracts.json").write_text(
        '{"SHFE.cu2002": {"volume_multiple": 7, "price_tick": 10, "margin": 1, "commission": 2,'
        '"expire_datetime": 1581922800.0, "trading_time": {"day": [["09:00:00", "15:00:00"]]}}}'
    )
    other = tmp_path / "other.json"
    other.write_text((tmp_path / "contracts.json").read_text().replace("7", "8", 1))

    async def main() -> None:
        path = tmp_path / "SHFE.cu2002-1m.csv.gz"
        market = ReplayMarket(path, shift_weeks={"SHFE": 52})
        contract = await market.get_contract("SHFE.cu2002")
        assert contract.multiplier == 7
        assert contract.expires_at == 1_581_922_800_000 + 52 * 7 * 86_400_000
        given = ReplayMarket(str(path), contracts=str(other))
        assert (await given.get_contract("SHFE.cu2002")).multiplier == 8

    asyncio.run(main())


def test_a_kline_store_is_a_source_open_or_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "klines.duckdb"

    async def main() -> None:
        with KlineStore(path) as store:
            store.write(rising(BABA, START, 60))
            market = ReplayMarket(store, start=minute(30))
            await market.connect()
            assert len(await market.get_kline_histories(BABA)) == 30
            await market.disconnect()
            assert store.ranges()[0].count == 60
        market = ReplayMarket(str(path))
        assert (await market.get_kline_histories(BABA, timeframe="5m")).volume[0] == 50
        await market.disconnect()
        KlineStore(path).close()

    asyncio.run(main())


def test_generated_klines_are_a_source() -> None:
    async def main() -> None:
        market = ReplayMarket("generated", symbols=[BABA, "SHFE.rb2605"], seed=5)
        made = GeneratedSource([BABA], seed=5).klines(BABA)
        history = await market.get_kline_histories(BABA)
        assert history.close.tolist() == made.close.tolist()
        assert await market.list_symbols() == ["SHFE.rb2605", BABA]
        around = ReplayMarket("generated", symbols=[BABA], start="2023-05-03", end="2023-05-05")
        klines = await around.get_kline_histories(BABA)
        assert klines.datetime[0] < at("2023-04-01")
        assert klines.datetime[-1] > at("2023-05-05")

    asyncio.run(main())


def test_a_source_of_ones_own() -> None:
    class Memory(Source):
        def symbols(self) -> list[str]:
            return [BABA]

        def timeframes(self, symbol: str) -> set[str]:
            return {"1m"}

        def klines(self, symbol: str, timeframe: str, contract: Contract) -> Klines:
            return rising(symbol, START, 20)

    async def main() -> None:
        market = ReplayMarket(Memory(), start=minute(10))
        await market.connect()
        assert len(await market.get_kline_histories(BABA)) == 10
        assert len([kline async for kline in market.watch_klines(BABA)]) == 10

    asyncio.run(main())


def test_histories_cannot_be_written_to(folder: Path) -> None:
    async def main() -> None:
        klines = await ReplayMarket(folder).get_kline_histories(BABA, limit=5)
        with pytest.raises(ValueError, match="read-only"):
            klines.close[0] = 1.0

    asyncio.run(main())


# --------------------------------------------------------------------------- moments


def test_moments_come_in_order_klines_before_their_clock(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder)
        log = Log(market).follow((BABA, "1m"), (AAPL, "1m"), (EURUSD, "1m"), (BABA, "5m"))
        market.begin(minute(3), minute(20))
        rows = await log.all()
        assert rows[0] == ("clock", minute(3))
        assert [ts for _, ts in rows] == sorted(ts for _, ts in rows)
        for moment, group in itertools.groupby(rows[1:], key=lambda row: row[1]):
            names = [name for name, _ in group]
            n = (moment - START) // MINUTE_MS
            expected = [f"{BABA} 1m"]
            expected += [f"{AAPL} 1m"] if n % 2 else []
            expected += [f"{EURUSD} 1m"] if n > 5 else []
            expected += [f"{BABA} 5m"] if n % 5 == 0 else []
            assert sorted(names[:-1]) == sorted(expected)
            assert names[-1] == "clock"
        assert rows[-1] == ("clock", minute(20))

    asyncio.run(main())


def test_without_an_end_it_lasts_to_the_last_kline_that_is_watched(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder, start=minute(50))
        log = Log(market).follow((AAPL, "1m"))
        await market.connect()
        assert await log.all() == [
            ("clock", minute(50)),
            *[
                row
                for n in (51, 53, 55, 57, 59)
                for row in ((f"{AAPL} 1m", minute(n)), ("clock", minute(n)))
            ],
        ]
        assert market.now() == minute(59)
        assert [k async for k in market.watch_klines(BABA)] == []
        assert [t async for t in market.watch_clock()] == []

    asyncio.run(main())


def test_klines_can_be_read_without_a_clock_and_begun_without_a_loop(folder: Path) -> None:
    market = ReplayMarket(folder)
    market.begin(minute(55))

    async def main() -> list[int]:
        return [kline.datetime async for kline in market.watch_klines(BABA)]

    assert asyncio.run(main()) == [minute(n) for n in range(55, 60)]


def test_history_never_shows_what_closes_later() -> None:
    chosen = sample()
    timeframes = ("1m", "15m", "1h", "1d")

    async def main() -> None:
        market = ReplayMarket(**chosen.arguments)
        archive = {
            (s, t): await market.get_kline_histories(s, timeframe=t)
            for s in chosen.symbols
            for t in timeframes
        }
        sessions = {s: (await market.get_contract(s)).sessions for s in chosen.symbols}
        ends = {key: sessions[key[0]].kline_ends(k.datetime, key[1]) for key, k in archive.items()}
        log = Log(market).follow(*((symbol, "1m") for symbol in chosen.symbols), clock=False)
        market.begin(chosen.start, chosen.start + 30 * 3_600_000)
        step = 0
        async for moment in market.watch_clock():
            assert market.now() == moment
            step += 1
            if step % 50:
                continue
            for (symbol, timeframe), klines in archive.items():
                shown = await market.get_kline_histories(symbol, timeframe=timeframe)
                expected = int(np.sum(ends[symbol, timeframe] <= moment))
                assert shown.datetime.tolist() == klines.datetime[:expected].tolist()
        assert step > 1500
        assert len(await log.all()) > 3000

    asyncio.run(main())


def test_a_stream_gives_what_the_archive_has() -> None:
    chosen = sample()

    async def main() -> None:
        market = ReplayMarket(**chosen.arguments)
        symbol = chosen.symbols[2]
        stop = chosen.start + 5 * 86_400_000
        sessions = (await market.get_contract(symbol)).sessions
        for timeframe in ("1m", "30m", "1d"):
            archive = await market.get_kline_histories(symbol, timeframe=timeframe)
            ends = sessions.kline_ends(archive.datetime, timeframe)
            due = [k for k, end in zip(archive, ends, strict=True) if chosen.start < end <= stop]
            market.begin(chosen.start, stop)
            streamed = [kline async for kline in market.watch_klines(symbol, timeframe)]
            assert streamed == due
            assert len(due) >= 3
            await market.disconnect()

    asyncio.run(main())


def test_the_kline_that_forms_holds_only_what_has_closed(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder)
        market.begin(minute(13))
        plain = await market.get_kline_histories(BABA, timeframe="5m")
        assert (len(plain), plain.forming) == (2, False)
        forming = await market.get_kline_histories(BABA, timeframe="5m", forming=True)
        assert (len(forming), forming.forming) == (3, True)
        last = forming[-1]
        assert (last.datetime, last.closed, last.volume) == (minute(10), False, 30.0)
        assert last.close == rising(BABA, START, 13)[-1].close
        day = await market.get_kline_histories(BABA, timeframe="1d", forming=True)
        assert [(k.closed, k.volume, k.trading_day) for k in day] == [(False, 130.0, 20201103)]
        for arguments in ({"timeframe": "1m"}, {"timeframe": "5m", "to_ts": minute(10)}):
            assert not (await market.get_kline_histories(BABA, forming=True, **arguments)).forming
        await market.disconnect()
        market.begin(minute(15))
        none = await market.get_kline_histories(BABA, timeframe="5m", forming=True)
        assert not none.forming

    asyncio.run(main())


# --------------------------------------------------------------------------- pressure


def test_it_waits_for_the_slowest_reader(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder)
        gate = asyncio.Event()
        seen: list[int] = []

        async def slow() -> None:
            async for kline in market.watch_klines(AAPL):
                seen.append(kline.datetime)
                await gate.wait()

        log = Log(market).follow((BABA, "1m"))
        task = asyncio.create_task(slow())
        await turns()
        market.begin(START)
        await turns()
        assert log.rows == [("clock", START), (f"{BABA} 1m", minute(1))]
        assert seen == [START]
        assert market.now() == minute(1)
        gate.set()
        await log.all()
        await task
        assert len(seen) == 30

    asyncio.run(main())


def test_it_waits_for_the_reader_of_the_clock(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder)
        log = Log(market).follow((BABA, "1m"), clock=False)
        gate = asyncio.Event()
        moments: list[int] = []

        async def slow() -> None:
            async for moment in market.watch_clock():
                moments.append(moment)
                await gate.wait()

        task = asyncio.create_task(slow())
        await turns()
        market.begin(minute(57))
        await turns()
        assert (log.rows, moments) == ([], [minute(57)])
        gate.set()
        await log.all()
        await task
        assert moments == [minute(n) for n in (57, 58, 59, 60)]

    asyncio.run(main())


def test_nothing_moves_while_nothing_is_watched(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder, start=minute(50), end=minute(55))
        await market.connect()
        clock = market.watch_clock()
        assert await clock.__anext__() == minute(50)
        waiting = asyncio.ensure_future(clock.__anext__())  # type: ignore[arg-type]
        await turns()
        assert market.now() == minute(50)
        assert not waiting.done()
        log = Log(market).follow((BABA, "1m"), clock=False)
        assert await waiting == minute(51)
        assert [t async for t in clock] == [minute(n) for n in (52, 53, 54, 55)]
        assert len(await log.all()) == 5

    asyncio.run(main())


def test_a_late_reader_joins_at_the_clock(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder)
        market.begin(START)
        late: list[int] = []
        async for kline in market.watch_klines(BABA):
            if kline.datetime == minute(29):
                known = await market.get_kline_histories(EURUSD)
                log = Log(market).follow((EURUSD, "1m"))
            if kline.datetime > minute(29):
                late.append(kline.datetime)
        rows = await log.all()
        assert known.datetime[-1] == minute(29)
        klines = [end for name, end in rows if name != "clock"]
        assert klines == [minute(n) for n in range(31, 61)]
        # Its clock begins with the last moment that was complete when it joined.
        assert next(end for name, end in rows if name == "clock") == minute(29)
        assert len(late) == 30

    asyncio.run(main())


def test_the_same_stream_can_be_watched_twice(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder)
        log = Log(market).follow((BABA, "1m"), (BABA, "1m"))
        market.begin(START)
        rows = await log.all()
        assert rows.count((f"{BABA} 1m", minute(7))) == 2

    asyncio.run(main())


async def _hold(stream: AsyncIterator[Kline]) -> None:
    async for _ in stream:
        await asyncio.Event().wait()


async def _fail(stream: AsyncIterator[Kline]) -> None:
    async for _ in stream:
        raise ZeroDivisionError


def test_a_cancelled_reader_does_not_hold_it_up(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder)
        log = Log(market).follow((BABA, "1m"))
        stream = market.watch_klines(EURUSD)  # this reference outlives the task
        task = asyncio.create_task(_hold(stream))
        waiting = asyncio.create_task(_hold(market.watch_klines(AAPL)))
        await turns()
        await cancel(waiting)
        market.begin(START)
        await until(lambda: market.now() == minute(6))
        await turns()
        assert market.now() == minute(6)
        await cancel(task)
        assert len(await log.all()) == 60 + 61
        assert [kline async for kline in stream] == []

    asyncio.run(main())


def test_a_reader_that_failed_does_not_hold_it_up(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder)
        log = Log(market).follow((BABA, "1m"))
        stream = market.watch_klines(AAPL)
        task = asyncio.create_task(_fail(stream))
        market.begin(START)
        assert len(await log.all()) == 60 + 61
        with pytest.raises(ZeroDivisionError):
            await task

    asyncio.run(main())


@pytest.mark.parametrize("read", [0, 1])
def test_a_stream_that_was_dropped_does_not_hold_it_up(folder: Path, read: int) -> None:
    async def main() -> None:
        market = ReplayMarket(folder)
        stream = market.watch_klines(AAPL)
        log = Log(market).follow((BABA, "1m"))
        market.begin(START)
        for _ in range(read):
            await stream.__anext__()
        await turns()
        assert market.now() == minute(1)
        del stream
        gc.collect()
        assert len(await log.all()) == 60 + 61

    asyncio.run(main())


def test_a_closed_stream_does_not_hold_it_up(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder)
        stream: Any = market.watch_klines(AAPL)
        log = Log(market).follow((BABA, "1m"))
        market.begin(START)
        await stream.__anext__()
        await stream.aclose()
        assert len(await log.all()) == 60 + 61
        with pytest.raises(StopAsyncIteration):
            await stream.__anext__()

    asyncio.run(main())


def test_pressure_holds_when_each_item_is_read_in_a_task_of_its_own(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder)
        market.begin(START)
        stream: Any = market.watch_klines(BABA)
        for n in range(60):
            kline = await asyncio.create_task(stream.__anext__())
            assert kline.datetime == minute(n)
            await turns(5)
            assert market.now() == minute(n + 1)

    asyncio.run(main())


def test_one_stream_has_one_reader(folder: Path) -> None:
    async def main() -> None:
        stream: Any = ReplayMarket(folder).watch_klines(BABA)
        task = asyncio.create_task(stream.__anext__())
        await turns(3)
        with pytest.raises(InvalidRequest, match="another task"):
            await stream.__anext__()
        await cancel(task)

    asyncio.run(main())


# --------------------------------------------------------------------------- speeds


def test_a_finite_speed_keeps_the_time(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder, speed=3000)  # a minute in 20 ms
        assert (market.clocked, market.paced) == (True, False)
        arrivals: list[tuple[int, float]] = []

        async def read() -> None:
            async for kline in market.watch_klines(BABA):
                arrivals.append((kline.datetime + MINUTE_MS, time.monotonic()))

        log = Log(market).follow((AAPL, "1m"))
        task = asyncio.create_task(read())
        await turns()
        began = time.monotonic()
        market.begin(START, minute(10))
        await asyncio.sleep(0.01)
        assert START < market.now() < minute(1)
        rows = await log.all()
        await task
        assert [moment for moment, _ in arrivals] == [minute(n) for n in range(1, 11)]
        for moment, arrived in arrivals:
            assert arrived - began >= (moment - START) / 1000 / 3000
        assert arrivals[-1][1] - began < 2.0
        clocks = [ts for name, ts in rows if name == "clock"]
        assert clocks == [minute(n) for n in range(11)]
        assert market.now() == minute(10)

    asyncio.run(main())


def test_a_finite_speed_does_not_wait_for_readers_but_the_clock_does(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder, speed=600_000)
        gate = asyncio.Semaphore(0)
        slow: list[int] = []

        async def read_slowly() -> None:
            async for kline in market.watch_klines(AAPL):
                slow.append(kline.datetime)
                await gate.acquire()

        fast = Log(market).follow((BABA, "1m"), clock=False)
        clock = Log(market).follow()
        task = asyncio.create_task(read_slowly())
        await turns()
        market.begin(START)
        assert len(await fast.all()) == 60
        assert slow == [START]
        assert clock.rows == [("clock", START)]
        gate.release()
        await turns()
        assert slow == [START, minute(2)]
        assert clock.rows == [("clock", minute(n)) for n in range(3)]
        for _ in range(30):
            gate.release()
        await task
        assert slow == [minute(n) for n in range(0, 60, 2)]
        assert await clock.all() == [("clock", minute(n)) for n in range(61)]

    asyncio.run(main())


def test_at_a_finite_speed_unwatched_history_follows_the_clock(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder, speed=3_000, start=START, end=minute(30))
        await market.connect()
        deadline = time.monotonic() + 5
        while market.now() < minute(20):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)
        klines = await market.get_kline_histories(BABA)
        assert minute(20) <= klines.datetime[-1] + MINUTE_MS <= market.now()
        streamed = [kline.datetime async for kline in market.watch_klines(BABA)]
        assert streamed[-1] == minute(29)
        assert streamed[0] >= klines.datetime[-1] + MINUTE_MS

    asyncio.run(main())


def test_disconnecting_ends_streams_and_makes_it_an_archive_again(folder: Path) -> None:
    async def main() -> None:
        for speed in ("max", 1):
            market = ReplayMarket(folder, speed=speed, start=minute(10))
            await market.connect()
            stream = market.watch_klines(BABA)
            clock = market.watch_clock()
            assert len(await market.get_kline_histories(BABA)) == 10
            await market.disconnect()
            await market.disconnect()
            assert [kline async for kline in stream] == []
            assert [moment async for moment in clock] in ([], [minute(10)])
            assert len(await market.get_kline_histories(BABA)) == 60
            await market.connect()
            assert market.now() >= minute(10)
            assert len(await market.get_kline_histories(BABA)) == 10
            await market.disconnect()

    asyncio.run(main())


# --------------------------------------------------------------------------- ticks


def test_ticks_take_part_in_the_order_of_time(tmp_path: Path) -> None:
    folder_of(tmp_path, rising(BABA, START, 5))
    rows = [f"{minute(1) + n},{1 + n},{2 + n}" for n in (0, 0, 500)]
    path = tmp_path / f"{BABA}-tick.csv"
    path.write_text("\n".join(["datetime_utc_ms,bid,ask", *rows]))

    async def main() -> None:
        market = ReplayMarket(tmp_path)
        seen: list[tuple[str, int]] = []

        async def read(name: str, stream: AsyncIterator[Any]) -> None:
            async for item in stream:
                seen.append((name, item if name == "clock" else item.datetime))

        streams = {"kline": market.watch_klines(BABA), "tick": market.watch_ticks(BABA)}
        readers = [asyncio.create_task(read(name, s)) for name, s in streams.items()]
        readers.append(asyncio.create_task(read("clock", market.watch_clock())))
        market.begin(START, minute(2))
        await asyncio.gather(*readers)
        assert sorted(seen[1:4]) == [("kline", START), *[("tick", minute(1))] * 2]
        assert seen[4:] == [
            ("clock", minute(1)),
            ("tick", minute(1) + 500),
            ("clock", minute(1) + 500),
            ("kline", minute(1)),
            ("clock", minute(2)),
        ]
        with pytest.raises(InvalidRequest, match=r"US\.BABA-tick|no ticks"):
            ReplayMarket("generated").watch_ticks(BABA)

    asyncio.run(main())


# --------------------------------------------------------------------------- with the service


def test_a_service_passes_moments_on_in_order_and_ends(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder, start=minute(50))
        service = MarketService(market)
        events: list[Any] = []
        service.add_listener(events.append)
        await service.connect()
        for symbol in (BABA, AAPL, EURUSD):
            await service.watch(symbol)
        await until(lambda: bool(events) and isinstance(events[-1], FeedStatus))
        await service.stop()
        status = events.pop()
        assert (status.state, status.markets) == (FeedState.ENDED, ("FOREX", "US"))
        assert events[0] == Clock(("FOREX", "US"), minute(50))
        ends = [e.datetime if isinstance(e, Clock) else e.datetime + MINUTE_MS for e in events]
        assert ends == sorted(ends)
        assert [e.datetime for e in events if isinstance(e, Clock)] == [
            minute(n) for n in range(50, 61)
        ]

    asyncio.run(main())


def test_the_documented_use_as_a_module(folder: Path) -> None:
    async def main() -> None:
        service = MarketService(ReplayMarket(folder, start=minute(30)), [BABA])
        queue = service.start()
        symbol, kline = await queue.get()
        assert (symbol, kline["close"]) == (BABA, rising(BABA, START, 31)[-1].close)
        assert len(await service.get_kline_histories(BABA, limit=10)) == 10
        await service.stop()

    asyncio.run(main())


# --------------------------------------------------------------------------- what is refused


def test_it_begins_once(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder)
        with pytest.raises(InvalidRequest, match="before its start"):
            market.begin(minute(5), minute(4))
        for wrong in ("2020-11-03", 1.5, True, None):
            with pytest.raises(InvalidRequest, match="start must be UTC milliseconds"):
                market.begin(wrong)  # type: ignore[arg-type]
        market.begin(minute(5))
        with pytest.raises(InvalidRequest, match="running already"):
            market.begin(minute(5))

    asyncio.run(main())


def test_unknown_symbols_and_timeframes(folder: Path) -> None:
    async def main() -> None:
        market = ReplayMarket(folder)
        for symbol in ("US.NOPE", "SHFE.cu2002", "BABA"):
            with pytest.raises(UnknownSymbol, match=symbol):
                await market.get_kline_histories(symbol)
            with pytest.raises(UnknownSymbol, match=symbol):
                market.watch_klines(symbol)
            with pytest.raises(UnknownSymbol, match=symbol):
                await market.get_contract(symbol)
        with pytest.raises(UnknownTimeframe, match="7m"):
            market.watch_klines(BABA, "7m")
        with pytest.raises(InvalidRequest, match="limit"):
            await market.get_kline_histories(BABA, limit=0)

    asyncio.run(main())


def test_a_malformed_file_is_named_when_it_is_read(folder: Path) -> None:
    path = folder / "US.MSFT-1m.csv"
    path.write_text(f"datetime_utc_ms,open,high,low,close,volume\n{START},1,2,3,1,1\n")
    market = ReplayMarket(folder)
    with pytest.raises(DataError, match=r"US\.MSFT-1m\.csv, line 2: high lies below low"):
        market.watch_klines("US.MSFT")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"source": 7}, "source: "),
        ({"source": "nowhere"}, "source: nowhere does not exist"),
        ({"source": "nowhere.duckdb"}, r"source: nowhere\.duckdb does not exist"),
        ({"speed": "fast"}, "speed: "),
        ({"speed": 0}, "speed: "),
        ({"speed": -1.0}, "speed: "),
        ({"speed": True}, "speed: "),
        ({"start": "noon"}, "start: "),
        ({"start": 1.5}, "start: "),
        ({"end": False}, "end: "),
        ({"start": "2020-11-03", "end": "2020-11-02"}, "end: "),
        ({"shift_weeks": "2"}, "shift_weeks: "),
        ({"shift_weeks": {"US": 1.5}}, r"shift_weeks\.US: "),
        ({"shift_weeks": {"LSE": 1}}, r"shift_weeks\.LSE: no such"),
        ({"seed": -1}, "seed: "),
        ({"symbols": "US.BABA"}, "symbols: "),
        ({"symbols": ["BABA"]}, "symbols: 'BABA'"),
        ({"symbols": ["LSE.VOD"]}, r"symbols: LSE\.VOD"),
        ({"contracts": 5}, "contracts: "),
    ],
)
def test_a_wrong_setting_is_named(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{said}"):
        ReplayMarket(**arguments)


def test_a_folder_without_the_symbols_or_any_recording(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^symbols: US\.NOPE not recorded"):
        ReplayMarket(folder, symbols=["US.NOPE", BABA])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match="holds no file named"):
        ReplayMarket(empty)
    wrong = empty / "BABA.csv"
    wrong.touch()
    with pytest.raises(ConfigError, match=r"BABA\.csv is not named"):
        ReplayMarket(wrong)


def test_moments_in_several_forms(folder: Path) -> None:
    async def main() -> None:
        for start in (
            minute(0),
            "2020-11-03T15:00:00Z",
            "2020-11-03 16:00+01:00",
            "2020-11-03T15:00",
        ):
            market = ReplayMarket(folder, start=start)
            await market.connect()
            assert market.now() == START
            await market.disconnect()

    asyncio.run(main())


def test_shifts_by_symbol_and_market(folder: Path) -> None:
    async def main() -> None:
        week = 7 * 86_400_000
        market = ReplayMarket(folder, shift_weeks={"US": 1, BABA: 2})
        first = {s: (await market.get_kline_histories(s)).datetime[0] for s in (BABA, AAPL, EURUSD)}
        assert first == {BABA: START + 2 * week, AAPL: START + week, EURUSD: minute(5)}
        everything = ReplayMarket(folder, shift_weeks=-1)  # back into New York's summer time
        klines = await everything.get_kline_histories(BABA)
        assert klines.datetime[0] == at("2020-10-27 14:00")

    asyncio.run(main())


def test_importing_the_markets_imports_no_database_or_framework() -> None:
    code = (
        "import sys, livetrader_core.market as m\n"
        "m.ReplayMarket('generated'), m.MarketService, m.MarketBase\n"
        "print([n for n in ('duckdb', 'pandas', 'matplotlib', 'backtrader') if n in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
