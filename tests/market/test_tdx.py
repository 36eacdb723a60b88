"""TdxMarket against a simulated TDX server: history, streams, hosts, settings."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import uvloop

from livetrader_core.clock import SteppedClock
from livetrader_core.errors import (
    ConfigError,
    LiveTraderError,
    NotConnected,
    ProtocolError,
    Unavailable,
    UnknownSymbol,
    UnknownTimeframe,
)
from livetrader_core.market.aggregate import aggregate
from livetrader_core.market.generated import GeneratedSource
from livetrader_core.market.recorded import read_klines
from livetrader_core.market.sources import FileSource
from livetrader_core.market.specs import default_contract
from livetrader_core.market.tdx import TdxMarket
from livetrader_core.models import FeedState, Klines
from livetrader_core.registry import load_market
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.tdx_server import TdxServer
from livetrader_core.sim.venue import Fault, FaultKind
from livetrader_core.timeframe import DAY_MS, MINUTE_MS
from tests.market.samples import at, rising
from tests.market.tdx_bench import OPEN, SHORT, reading, record, stepping, stocks, tdx, until
from tests.support.data import recorded_data

NOON = at("2020-11-02 12:00", "America/New_York")


def assert_same(got: Klines, expected: Klines) -> None:
    assert got.datetime.tolist() == expected.datetime.tolist()
    for name in ("open", "high", "low", "close", "volume", "open_interest"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), name)


# --------------------------------------------------------------------------- recorded data


def long_recordings() -> list[Recording]:
    """Every file of minutes that TDX could have, or generated ones over both clock changes."""
    folder = recorded_data()
    if folder is None:
        names = ["US.BABA", "US.AAPL", "SHFE.cu2605", "DCE.m2605"]
        made = GeneratedSource(names, start="2025-10-13", days=60)
        return [Recording(made.contract(s), made.klines(s)) for s in made.symbols()]
    source = FileSource(folder)
    symbols = [s for s in source.symbols() if s.partition(".")[0] in ("US", "SHFE", "DCE")]
    recordings = []
    for symbol in symbols:
        contract = source.contract(symbol)
        recordings.append(Recording(contract, source.klines(symbol, "1m", contract)))
    return recordings


@pytest.mark.parametrize("america", [True, False], ids=["stocks", "futures"])
def test_every_recorded_bar_comes_out_as_it_is(america: bool) -> None:
    chosen = [r for r in long_recordings() if r.symbol.startswith("US.") == america]
    markets = sorted({r.symbol.partition(".")[0] for r in chosen})
    end = max(int(r.klines.datetime[-1]) for r in chosen) + DAY_MS

    async def main() -> None:
        async with tdx(chosen, end, markets=markets) as (market, _, _):
            for recording in chosen:
                klines = await market.get_kline_histories(recording.symbol)
                assert_same(klines, recording.klines)
            assert market.doubts == []

    asyncio.run(main())


def test_every_recorded_day_comes_out_as_it_is() -> None:
    folder = recorded_data()
    contract = default_contract("US.BABA")
    if folder is None:
        minutes = GeneratedSource(["US.BABA"], start="2024-10-01", days=400).klines("US.BABA")
        days = aggregate(minutes, "1d", contract.sessions)
        days.volume[:] = days.volume // 100 * 100
    else:
        path = folder / "US.BABA-1d.csv.gz"
        days = read_klines(path, "US.BABA", "1d", contract.sessions)
    end = int(days.datetime[-1]) + DAY_MS

    async def main() -> None:
        async with tdx(record(Klines.empty("US.BABA", "1m")), end, daily={"US.BABA": days}) as (
            market,
            _,
            _,
        ):
            klines = await market.get_kline_histories("US.BABA", timeframe="1d")
            assert klines.datetime.tolist() == days.datetime.tolist()
            assert klines.trading_day is not None
            assert klines.trading_day.tolist() == days.trading_day.tolist()  # type: ignore[union-attr]
            for name in ("open", "high", "low", "close"):
                np.testing.assert_allclose(getattr(klines, name), getattr(days, name), atol=5e-5)
            np.testing.assert_array_equal(klines.volume, days.volume // 100 * 100)

    asyncio.run(main())


# --------------------------------------------------------------------------- history


def test_history_by_count_by_date_and_before_a_date() -> None:
    early = OPEN - 5 * 60 * MINUTE_MS
    days = [rising("US.BABA", early + n * DAY_MS, 750, price=300.0) for n in range(2)]
    recordings = record(Klines.concat(days))
    klines = recordings[0].klines

    async def main() -> None:
        now = int(klines.datetime[-1]) + MINUTE_MS
        async with tdx(recordings, now) as (market, server, _):
            ask = market.get_kline_histories
            assert_same(await ask("US.BABA", limit=5), klines[-5:])
            assert server.answered[0x23FF] <= 4  # two for the trial of the host
            assert_same(await ask("US.BABA", limit=1000), klines[-1000:])
            start, end = int(klines.datetime[200]), int(klines.datetime[1200])
            assert_same(await ask("US.BABA", from_ts=start), klines[200:])
            assert_same(await ask("US.BABA", from_ts=start, to_ts=end), klines[200:1200])
            assert_same(await ask("US.BABA", to_ts=end, limit=10), klines[1190:1200])
            assert_same(await ask("US.BABA", from_ts=start, limit=3), klines[-3:])
            assert_same(await ask("US.BABA", limit=9999), klines)
            assert len(await ask("US.BABA", to_ts=int(klines.datetime[0]))) == 0
            assert len(await ask("US.BABA", from_ts=now)) == 0

    asyncio.run(main())


def test_long_past_bars_are_looked_for() -> None:
    days = [rising("US.BABA", OPEN + n * DAY_MS, 390, price=100.0 + n) for n in range(60)]
    klines = Klines.concat([day for n, day in enumerate(days) if n % 7 < 5])

    async def main() -> None:
        now = int(klines.datetime[-1]) + MINUTE_MS
        async with tdx(record(klines), now) as (market, server, _):
            before = server.answered[0x23FF]
            for last in (500, 1000, 5000, 9000, len(klines) - 1):
                got = await market.get_kline_histories(
                    "US.BABA", to_ts=int(klines.datetime[last]), limit=300
                )
                assert_same(got, klines[last - 300 : last])
            got = await market.get_kline_histories(
                "US.BABA",
                from_ts=int(klines.datetime[1000]),
                to_ts=int(klines.datetime[3000]),
                timeframe="5m",
            )
            assert_same(got, aggregate(klines[1000:3000], "5m", US))
            assert server.answered[0x23FF] - before < 60

    asyncio.run(main())


def test_only_closed_bars_unless_the_forming_one_is_asked_for() -> None:
    recordings = stocks()
    klines = recordings[1].klines

    async def main() -> None:
        now = OPEN + 10 * MINUTE_MS + 20_000
        async with tdx(recordings, now) as (market, _, _):
            closed = await market.get_kline_histories("US.BABA", limit=3)
            assert_same(closed, klines[7:10])
            both = await market.get_kline_histories("US.BABA", limit=3, forming=True)
            assert both.forming
            assert both.datetime.tolist() == klines.datetime[7:11].tolist()
            assert not both[3].closed
            assert both.volume[3] < klines.volume[10]
            until = await market.get_kline_histories(
                "US.BABA", limit=3, to_ts=int(klines.datetime[10]), forming=True
            )
            assert_same(until, klines[7:10])

    asyncio.run(main())


@pytest.mark.parametrize("timeframe", ["3m", "5m", "15m", "1h", "4h"])
def test_longer_bars_begin_when_everyones_do(timeframe: str) -> None:
    recordings = stocks()
    klines = recordings[1].klines

    async def main() -> None:
        async with tdx(recordings, NOON) as (market, _, _):
            known = klines[: int(np.searchsorted(klines.datetime, NOON))]
            whole = aggregate(known, timeframe, US)
            ends = US.kline_ends(whole.datetime, timeframe)
            expected = whole[: int(np.searchsorted(ends, NOON, side="right"))]
            got = await market.get_kline_histories("US.BABA", timeframe=timeframe)
            assert_same(got, expected)
            got = await market.get_kline_histories("US.BABA", limit=2, timeframe=timeframe)
            assert_same(got, expected[-2:])

    asyncio.run(main())


US = default_contract("US.BABA").sessions


def test_a_day_that_is_not_over_forms() -> None:
    first = rising("US.BABA", OPEN, 390)
    second = rising("US.BABA", OPEN + DAY_MS, 390, price=200.0)
    recordings = record(Klines.concat([first, second]))

    async def main() -> None:
        async with tdx(recordings, NOON + DAY_MS) as (market, _, _):
            days = await market.get_kline_histories("US.BABA", timeframe="1d")
            assert days.trading_day is not None
            assert days.trading_day.tolist() == [20201102]
            assert days.volume.tolist() == [first.volume.sum() // 100 * 100]
            both = await market.get_kline_histories("US.BABA", timeframe="1d", forming=True)
            assert [kline.closed for kline in both] == [True, False]

    asyncio.run(main())


def test_a_first_daily_volume_that_cannot_be_is_left_out() -> None:
    days = [rising("US.BABA", OPEN + n * DAY_MS, 10) for n in range(4)]
    recordings = record(Klines.concat(days))

    async def main() -> None:
        now = OPEN + 4 * DAY_MS
        async with tdx(recordings, now, implausible_oldest=True) as (market, _, _):
            got = await market.get_kline_histories("US.BABA", limit=2, timeframe="1d")
            assert got.trading_day is not None
            assert got.trading_day.tolist() == [20201104, 20201105]
            got = await market.get_kline_histories("US.BABA", timeframe="1d")
            assert got.trading_day is not None
            assert got.trading_day.tolist() == [20201103, 20201104, 20201105]
            assert got.volume.max() < 100_000

    asyncio.run(main())


def test_a_delay_holds_bars_back() -> None:
    recordings = stocks()

    async def main() -> None:
        async with tdx(recordings, NOON, delay_ms=15 * MINUTE_MS) as (market, _, _):
            assert market.delay_ms == 15 * MINUTE_MS
            klines = await market.get_kline_histories("US.BABA", limit=1)
            assert klines.datetime.tolist() == [NOON - 16 * MINUTE_MS]

    asyncio.run(main())


def test_what_the_venue_does_not_have() -> None:
    async def main() -> None:
        async with tdx(stocks(), NOON) as (market, _, _):
            with pytest.raises(UnknownSymbol, match=r"US\.NONE: TDX has no NONE"):
                await market.get_contract("US.NONE")
            with pytest.raises(UnknownSymbol, match=r"US\.NONE"):
                await market.get_kline_histories("US.NONE", limit=1)
            with pytest.raises(UnknownSymbol, match="serves US"):
                await market.get_contract("SHFE.rb2605")
            with pytest.raises(UnknownTimeframe):
                await market.get_kline_histories("US.BABA", timeframe="7m")
            with pytest.raises(UnknownSymbol):
                market.watch_klines("FOREX.EURUSD")

    asyncio.run(main())


def test_contracts_and_symbols() -> None:
    async def main() -> None:
        async with tdx(stocks(), NOON) as (market, _, _):
            assert await market.list_symbols() == ["US.AAPL", "US.BABA"]
            contract = await market.get_contract("US.BABA")
            assert (contract.currency, contract.name) == ("USD", "BABA")
            assert contract.sessions == US

    asyncio.run(main())


@pytest.mark.parametrize(
    ("symbol", "begin"),
    [
        ("HK.00700", "2020-11-03 09:30"),
        ("HK.08001", "2020-11-03 09:30"),
        ("CZCE.SR101", "2020-11-02 21:00"),
        ("CFFEX.IF2011", "2020-11-03 09:30"),
        ("INE.sc2012", "2020-11-02 21:00"),
    ],
)
def test_other_markets_it_can_quote(symbol: str, begin: str) -> None:
    klines = rising(symbol, at(begin, "Asia/Shanghai"), 60)

    async def main() -> None:
        now = at("2020-11-03 16:00", "Asia/Shanghai")
        market_code = symbol.partition(".")[0]
        async with tdx(record(klines), now, markets=[market_code]) as (market, _, _):
            assert_same(await market.get_kline_histories(symbol), klines)
            assert await market.list_symbols() == [symbol]
            contract = await market.get_contract(symbol)
            assert contract.currency == ("HKD" if market_code == "HK" else "CNY")
            days = await market.get_kline_histories(symbol, timeframe="1d", forming=True)
            assert days.trading_day is not None
            assert days.trading_day.tolist() == [20201103]
            assert days.volume.tolist() == [klines.volume.sum()]

    asyncio.run(main())


def test_a_symbol_that_never_traded_has_no_bars() -> None:
    async def main() -> None:
        recordings = [*stocks(), *record(Klines.empty("US.NEW", "1m"))]
        async with tdx(recordings, NOON) as (market, _, _):
            assert len(await market.get_kline_histories("US.NEW")) == 0
            assert (await market.get_contract("US.NEW")).currency == "USD"

    asyncio.run(main())


# --------------------------------------------------------------------------- streams


def test_streams_give_each_closed_bar_once_and_then_the_clock() -> None:
    recordings = stocks()
    klines = recordings[1].klines

    async def main() -> None:
        async with (
            tdx(recordings, OPEN - 5 * MINUTE_MS) as (market, _, clock),
            reading(market, ("US.BABA", "1m"), ("US.AAPL", "1m"), ("US.BABA", "5m")) as streams,
            stepping(market, clock) as stepper,
        ):
            for moment in range(OPEN - 4 * MINUTE_MS, OPEN + 30 * MINUTE_MS, MINUTE_MS):
                await stepper.to(moment)
                passed = max(0, (moment - OPEN) // MINUTE_MS)
                assert streams[0].times == klines.datetime[:passed].tolist()
                assert streams[1].times == streams[0].times
                assert len(streams[2].klines) == passed // 5
            # A leap is filled.
            await stepper.to(OPEN + 300 * MINUTE_MS)
            assert streams[0].times == klines.datetime[:300].tolist()
            assert_same(Klines.of("US.BABA", "1m", streams[0].klines), klines[:300])
            assert_same(
                Klines.of("US.BABA", "5m", streams[2].klines), aggregate(klines[:300], "5m", US)
            )

    asyncio.run(main())


def test_nothing_is_asked_every_minute_while_the_market_is_closed() -> None:
    async def main() -> None:
        evening = at("2020-11-02 21:00", "America/New_York")
        async with (
            tdx(stocks(), evening) as (market, server, clock),
            reading(market, ("US.BABA", "1m")),
            stepping(market, clock) as stepper,
        ):
            before = server.answered[0x23FF]
            for n in range(1, 61):
                await stepper.to(evening + n * MINUTE_MS)
            assert server.answered[0x23FF] - before <= 5

    asyncio.run(main())


def test_a_futures_night_and_the_day_after_it_stream_in_order() -> None:
    evening, morning = (
        at("2019-12-13 21:00", "Asia/Shanghai"),
        at("2019-12-16 09:00", "Asia/Shanghai"),
    )
    klines = Klines.concat(
        [rising("SHFE.cu2002", evening, 240), rising("SHFE.cu2002", morning, 75, price=200.0)]
    )

    async def main() -> None:
        start = evening - 5 * MINUTE_MS
        async with (
            tdx(record(klines), start, markets=["SHFE"]) as (market, _, clock),
            reading(market, ("SHFE.cu2002", "1m")) as (stream,),
            stepping(market, clock) as stepper,
        ):
            for moment in (evening + 200 * MINUTE_MS, evening + DAY_MS, morning + 75 * MINUTE_MS):
                await stepper.to(moment)
                closed = klines.datetime + MINUTE_MS <= moment
                assert stream.times == klines.datetime[closed].tolist()

    asyncio.run(main())


def test_ticks_are_quotes_that_changed() -> None:
    recordings = stocks()

    async def main() -> None:
        async with tdx(recordings, OPEN + 1_000, tick_ms=1000) as (market, _, clock):
            ticks = market.watch_ticks("US.BABA")
            first = asyncio.ensure_future(ticks.__anext__())  # type: ignore[arg-type]
            await asyncio.sleep(0)
            while not first.done():
                clock.advance(clock.now() + 1000)
                await asyncio.sleep(0.01)
            tick = await first
            low = recordings[1].klines.low[0]
            assert tick.last in (recordings[1].klines.open[0], low)
            assert tick.ask == pytest.approx(tick.last + 0.01)
            assert OPEN < tick.datetime <= clock.now()
            await ticks.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())


# --------------------------------------------------------------------------- lines and hosts


def states(market: TdxMarket) -> list[FeedState]:
    told: list[FeedState] = []
    market.on_state = lambda state, reason: told.append(state)
    return told


def test_a_cut_line_is_told_and_mended_without_a_hole() -> None:
    recordings = stocks()

    async def main() -> None:
        async with (
            tdx(recordings, OPEN) as (market, server, clock),
            reading(market, ("US.BABA", "1m")) as (stream,),
            stepping(market, clock) as stepper,
        ):
            told = states(market)
            await stepper.to(OPEN + 5 * MINUTE_MS)
            server.inject(Fault(FaultKind.CUT))
            await until(lambda: told)
            assert told[0] is FeedState.DISCONNECTED
            await stepper.to(OPEN + 20 * MINUTE_MS)
            assert told == [FeedState.DISCONNECTED, FeedState.CONNECTED]
            assert stream.times == recordings[1].klines.datetime[:20].tolist()

    asyncio.run(main())


def test_a_host_that_is_gone_comes_back() -> None:
    recordings = stocks()

    async def main() -> None:
        async with (
            tdx(recordings, OPEN) as (market, server, clock),
            reading(market, ("US.BABA", "1m")) as (stream,),
            stepping(market, clock) as stepper,
        ):
            told = states(market)
            server.inject(Fault(FaultKind.RESTART, seconds=0.2))
            await stepper.to(OPEN + 20 * MINUTE_MS)
            assert told == [FeedState.DISCONNECTED, FeedState.CONNECTED]
            assert stream.times == recordings[1].klines.datetime[:20].tolist()

    asyncio.run(main())


def test_requests_fail_in_time_while_nothing_answers() -> None:
    async def main() -> None:
        async with tdx(stocks(), NOON, timeout=0.05) as (market, server, _):
            server.inject(Fault(FaultKind.STALL, seconds=1.0))
            with pytest.raises(Unavailable, match=server.endpoint):
                await market.get_kline_histories("US.BABA", limit=1)

    asyncio.run(main())


def test_nobody_there() -> None:
    async def main() -> None:
        server = TdxServer(stocks(), SteppedClock(NOON))
        await server.start()
        await server.stop()
        market = TdxMarket(server.endpoint, **SHORT)
        with pytest.raises(Unavailable, match=f"host: .*{server.endpoint}"):
            await market.connect()
        await market.disconnect()
        with pytest.raises(Unavailable, match="connect"):
            await market.get_kline_histories("US.BABA", limit=1)

    asyncio.run(main())


def test_the_host_that_gives_bars_is_chosen_and_left_when_it_stops() -> None:
    recordings = stocks()

    async def main() -> None:
        clock = SteppedClock(NOON)
        hollow = TdxServer(record(Klines.empty("US.BABA", "1m")), clock)
        good, other = TdxServer(recordings, clock), TdxServer(recordings, clock)
        gone = TdxServer(recordings, clock)
        servers = [hollow, good, other, gone]
        for server in servers:
            await server.start()
        await gone.stop()
        market = TdxMarket([server.endpoint for server in servers], clock=clock, **SHORT)
        try:
            await market.connect()
            assert len(await market.get_kline_histories("US.BABA", limit=5)) == 5
            used = max((good, other), key=lambda server: server.answered.get(0x23FF, 0))
            spare = other if used is good else good
            used.inject(Fault(FaultKind.EMPTY, count=30))
            before = spare.answered[0x23FF]
            for _ in range(3):
                assert len(await market.get_kline_histories("US.BABA", limit=5)) == 5
            assert spare.answered[0x23FF] > before
            reports = await market.examine()
            assert [str(host.address) for host in reports] == [s.endpoint for s in servers]
            assert [bool(host.newest) for host in reports] == [
                server is spare for server in servers
            ]
            assert [host.failures for host in reports] == [0, 0, 0, 1]
            assert gone.endpoint in reports[3].why
            assert all(abs(host.clock_error) < 1000 for host in reports[:3])
        finally:
            await market.disconnect()
            for server in servers:
                await server.stop()

    asyncio.run(main())


def test_a_host_that_stands_still_is_left_for_one_that_does_not() -> None:
    recordings = stocks()

    async def main() -> None:
        clock, stopped = SteppedClock(OPEN), SteppedClock(OPEN + MINUTE_MS)
        stuck, moving = TdxServer(recordings, stopped), TdxServer(recordings, clock)
        await stuck.start()
        await moving.start()
        market = TdxMarket([stuck.endpoint, moving.endpoint], clock=clock, **SHORT)
        try:
            await market.connect()
            told = states(market)
            async with (
                reading(market, ("US.BABA", "1m")) as (stream,),
                stepping(market, clock) as stepper,
            ):
                for n in range(1, 31):
                    await stepper.to(OPEN + n * MINUTE_MS)
                await until(lambda: len(stream.klines) > 20)
                await stepper.to(OPEN + 31 * MINUTE_MS)
                assert stream.times == recordings[1].klines.datetime[:31].tolist()
                assert told == []
        finally:
            await market.disconnect()
            await stuck.stop()
            await moving.stop()

    asyncio.run(main())


def test_a_silent_line_is_kept_alive_and_a_dead_one_noticed() -> None:
    async def main() -> None:
        async with tdx(stocks(), NOON, heartbeat=0.05, timeout=0.1) as (market, server, _):
            told = states(market)
            await until(lambda: server.answered.get(0x23F0, 0) >= 3)
            assert told == []
            server.inject(Fault(FaultKind.STALL, seconds=0.3))
            await until(lambda: told == [FeedState.DISCONNECTED, FeedState.CONNECTED])

    asyncio.run(main())


#: Prices of the symbols lie in ranges of their own.
def belongs(klines: Klines) -> bool:
    low, high = (50.0, 250.0) if klines.symbol == "US.AAPL" else (251.0, 500.0)
    return bool(len(klines) == 0 or (klines.low.min() > low and klines.high.max() < high))


@pytest.mark.parametrize("kind", [*FaultKind])
def test_never_another_symbols_bars(kind: FaultKind) -> None:
    recordings = stocks()

    async def one(market: TdxMarket, number: int) -> int:
        symbol = recordings[number % 2].symbol
        try:
            klines = await market.get_kline_histories(symbol, limit=1 + number % 7)
        except LiveTraderError:
            return 0
        assert klines.symbol == symbol
        assert belongs(klines)
        expected = recordings[number % 2].klines
        last = int(np.searchsorted(expected.datetime, NOON))
        assert_same(klines, expected[last - 1 - number % 7 : last])
        return 1

    async def main() -> None:
        settings = {"timeout": 0.05, "connect_timeout": 0.2, "connections": 3}
        async with tdx(recordings, NOON, **settings) as (market, server, _):
            await market.get_contract("US.BABA")
            right = 0
            for wave in range(6):
                server.inject(Fault(kind, seconds=0.06, count=2))
                asked = [asyncio.ensure_future(one(market, n)) for n in range(20)]
                await asyncio.sleep(0)
                if wave % 2:
                    await asyncio.sleep(0.002)
                    for task in asked[::5]:
                        task.cancel()
                for result in await asyncio.gather(*asked, return_exceptions=True):
                    if isinstance(result, Exception):
                        raise result
                    right += result if isinstance(result, int) else 0
            assert right > 30, right
            # And in the end it is as good as new.
            assert await one(market, 1) == 1

    asyncio.run(main())


def test_it_runs_on_uvloop_as_well() -> None:
    recordings = stocks()

    async def main() -> None:
        async with (
            tdx(recordings, OPEN) as (market, server, clock),
            reading(market, ("US.BABA", "1m")) as (stream,),
            stepping(market, clock) as stepper,
        ):
            await stepper.to(OPEN + 5 * MINUTE_MS)
            server.inject(Fault(FaultKind.CUT))
            server.inject(Fault(FaultKind.FRAGMENT, count=5))
            await stepper.to(OPEN + 20 * MINUTE_MS)
            assert stream.times == recordings[1].klines.datetime[:20].tolist()

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


# --------------------------------------------------------------------------- labels


def test_a_wrong_label_setting_is_told_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with tdx(stocks(), NOON, us_labels="new-york") as (market, _, _):
            with pytest.raises(ProtocolError, match="order"):
                await market.get_kline_histories("US.BABA")
            assert any("us_labels = 'new-york'" in doubt for doubt in market.doubts)

    asyncio.run(main())
    assert "us_labels = 'trading-date' would explain it" in caplog.text


# --------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": []}, "host: name at least one"),
        ({"host": "somewhere:http"}, "host: expected ip:port"),
        ({"host": "1.2.3.4:99999"}, "host: expected ip:port"),
        ({"markets": ["LSE"]}, "markets: must be some of US.*'LSE'"),
        ({"markets": []}, "markets: must be"),
        ({"markets": ["US", "SHFE"]}, "delay_ms: US quotes"),
        ({"delay_ms": -1}, "delay_ms: must be"),
        ({"us_labels": "utc"}, "us_labels: must be one of trading-date"),
        ({"futures_labels": "utc"}, "futures_labels: must be"),
        ({"stamp": "middle"}, "stamp: must be"),
        ({"timeout": 0}, "timeout: must be above 0"),
        ({"connections": 0}, "connections: must be"),
        ({"clock": "now"}, "clock: expected"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TdxMarket(**{"host": "127.0.0.1:7727", **settings})


def test_delays_differ_by_market() -> None:
    assert TdxMarket("127.0.0.1").delay_ms == 15 * MINUTE_MS
    assert TdxMarket("127.0.0.1", markets=["SHFE", "DCE"]).delay_ms == 0


def test_it_is_registered() -> None:
    assert load_market("tdx") is TdxMarket


@contextmanager
def missing(package: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    imported = builtins.__import__

    def refuse(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=package)
        return imported(name, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", refuse)
        yield


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    market = TdxMarket("127.0.0.1:1")
    with (
        missing("pytdx", monkeypatch),
        pytest.raises(ConfigError, match=r"pip install 'livetrader\[tdx\]'"),
    ):
        asyncio.run(market.connect())


def test_it_says_so_before_it_is_connected() -> None:
    with pytest.raises(NotConnected, match="connect"):
        asyncio.run(TdxMarket("127.0.0.1:1").get_contract("US.BABA"))
