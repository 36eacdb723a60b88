"""DwxMarket against the simulated terminal: history, streams, ticks, and what goes wrong."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import numpy as np
import pytest

from livetrader_core.clock import SpedClock, SteppedClock, SystemClock
from livetrader_core.errors import (
    ConfigError,
    InvalidRequest,
    NotConnected,
    Unavailable,
    UnknownSymbol,
    UnknownTimeframe,
)
from livetrader_core.market.aggregate import aggregate
from livetrader_core.market.dwx import DwxMarket
from livetrader_core.market.finding import Verdict
from livetrader_core.models import FeedState, Klines, Tick
from livetrader_core.registry import load_market
from livetrader_core.service import MarketService
from livetrader_core.sim.mt4_terminal import Mt4Terminal, free_port
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.venue import Fault, FaultKind
from tests.market.samples import at
from tests.support.dwx_venue import (
    EURUSD,
    MINUTE,
    USDJPY,
    Watch,
    eventually,
    generated,
    market_of,
    recorded,
    venue,
)

BUILDS = ["current", "patched", "early"]
NOON = at("2020-11-04 12:00")


def same(found: Klines, expected: Klines) -> bool:
    columns = zip(found.columns(), expected.columns(), strict=True)
    return bool(
        np.array_equal(found.datetime, expected.datetime)
        and all(np.array_equal(a, b) for a, b in columns)
    )


def part(klines: Klines, start: int, end: int) -> Klines:
    """Those that open in [start, end)."""
    first, last = np.searchsorted(klines.datetime, [start, end])
    return klines[int(first) : int(last)]


# --------------------------------------------------------------------------- history


@pytest.mark.parametrize(
    ("name", "symbol", "start", "zone"),
    [
        ("2020-10_2021-01", EURUSD, "2020-10-25", "EET-US"),
        ("2019-10_2020-03", EURUSD, "2019-10-20", "EET-EU"),
        ("2013-10", USDJPY, "2013-09-29", "Europe/London"),
    ],
)
def test_every_recorded_bar_comes_out_identical(
    name: str, symbol: str, start: str, zone: str
) -> None:
    recording = recorded(name, symbol, start)

    async def main() -> None:
        clock = SteppedClock(int(recording.klines.datetime[-1]) + MINUTE)
        shown = {"time_zone": zone}
        # In a loaded moment, thousands of bars take their time to be written out and read.
        async with venue([recording], clock, shown, time_zone=zone, timeout=20.0) as (_, market):
            found = await market.get_kline_histories(symbol)
        assert same(found, recording.klines)

    asyncio.run(main())


@pytest.mark.parametrize("build", BUILDS)
def test_history_by_count_and_by_date(build: str) -> None:
    recording = generated(EURUSD)
    closed = recording.closed(NOON)

    async def main() -> None:
        async with venue([recording], SteppedClock(NOON), {"build": build}) as (_, market):
            ask = market.get_kline_histories
            assert same(await ask(EURUSD, limit=100), closed[-100:])
            assert same(await ask(EURUSD, limit=7000), closed[-7000:])
            assert same(await ask(EURUSD), closed)
            start, end = NOON - 90 * MINUTE, NOON - 30 * MINUTE
            assert same(await ask(EURUSD, start, to_ts=end), part(closed, start, end))
            assert same(await ask(EURUSD, start, 10, end), part(closed, start, end)[-10:])
            assert same(await ask(EURUSD, to_ts=end, limit=3), part(closed, 0, end)[-3:])
            assert same(await ask(EURUSD, start + 1), part(closed, start + MINUTE, NOON))
            # Sunday morning, before everything, and beyond the end.
            sunday = at("2020-11-01 12:00")
            assert not len(await ask(EURUSD, sunday, to_ts=sunday + 3_600_000))
            assert not len(await ask(EURUSD, 0, to_ts=at("2000-01-01")))
            assert not len(await ask(EURUSD, NOON + MINUTE))
            assert same(await ask(EURUSD, start, to_ts=NOON * 2), part(closed, start, NOON))

    asyncio.run(main())


@pytest.mark.parametrize("zone", ["EET-US", "EET-EU", "Asia/Kolkata"])
@pytest.mark.parametrize("timeframe", ["3m", "5m", "15m", "30m", "1h", "2h", "4h", "1d"])
def test_longer_klines_are_those_of_other_venues(timeframe: str, zone: str) -> None:
    recording = generated(EURUSD)
    sessions = recording.contract.sessions
    expected = aggregate(recording.closed(NOON), timeframe, sessions)
    closed = expected[: int((sessions.kline_ends(expected.datetime, timeframe) <= NOON).sum())]

    async def main() -> None:
        clock = SteppedClock(NOON)
        shown = {"time_zone": zone}
        # In a loaded moment, thousands of bars take their time to be written out and read.
        async with venue([recording], clock, shown, time_zone=zone, timeout=20.0) as (_, market):
            ask = market.get_kline_histories
            found = await ask(EURUSD, timeframe=timeframe)
            assert same(found, closed)
            assert same(await ask(EURUSD, limit=5, timeframe=timeframe), closed[-5:])
            if timeframe == "1d":
                assert found.trading_day is not None
                assert found.trading_day.tolist() == closed.trading_day.tolist()  # type: ignore[union-attr]

    asyncio.run(main())


def test_the_forming_kline_is_the_last_row() -> None:
    recording = generated(EURUSD)
    now = NOON + 40_000

    async def main() -> None:
        async with venue([recording], SteppedClock(now)) as (_, market):
            found = await market.get_kline_histories(EURUSD, limit=3, forming=True)
            assert len(found) == 4
            assert found.forming
            assert [kline.closed for kline in found] == [True, True, True, False]
            expected = recording.forming(now)
            assert expected is not None
            assert (found[-1].close, found[-1].high) == (expected.close, expected.high)
            hours = await market.get_kline_histories(EURUSD, timeframe="1h", limit=1, forming=True)
            assert hours.datetime.tolist() == [NOON - 60 * MINUTE, NOON]
            past = await market.get_kline_histories(EURUSD, to_ts=NOON, limit=1, forming=True)
            assert not past.forming

    asyncio.run(main())


def test_a_hole_in_the_history_is_looked_over() -> None:
    whole = generated(EURUSD, "2020-08-01", 95)
    hole = (whole.klines.datetime < at("2020-09-01")) | (whole.klines.datetime > at("2020-10-15"))
    rows = np.flatnonzero(hole)
    first, last = rows[np.diff(rows, prepend=-1) > 1].max(), len(whole.klines)
    cut = int(np.searchsorted(whole.klines.datetime, at("2020-09-01")))
    klines = Klines.concat([whole.klines[:cut], whole.klines[int(first) : last]])
    recording = Recording(whole.contract, klines)

    async def main() -> None:
        async with venue([recording], SteppedClock(at("2020-11-03"))) as (_, market):
            found = await market.get_kline_histories(EURUSD)
        assert same(found, recording.closed(at("2020-11-03")))

    asyncio.run(main())


# --------------------------------------------------------------------------- streams


@pytest.mark.parametrize("build", BUILDS)
def test_closed_klines_come_at_their_moment_with_the_clock_behind_them(build: str) -> None:
    recordings = [generated(EURUSD), generated(USDJPY)]
    end = NOON + 12 * MINUTE

    async def main() -> None:
        clock = SteppedClock(NOON)
        async with venue(recordings, clock, {"build": build}) as (_, market):
            watch = Watch(market, (EURUSD, "1m"), (USDJPY, "1m"), (EURUSD, "5m"))
            await watch.ready()
            for minute in range(1, 13):
                clock.advance(NOON + minute * MINUTE)
                await watch.reach(NOON + minute * MINUTE)
            for recording in recordings:
                expected = list(part(recording.klines, NOON, end))
                assert watch.klines[recording.symbol, "1m"] == expected
            fives = [NOON, NOON + 5 * MINUTE]
            assert [k.datetime for k in watch.klines[EURUSD, "5m"]] == fives
            check_order(watch)
            await watch.stop()

    asyncio.run(main())


def check_order(watch: Watch) -> None:
    """Every kline lies between the clock before its end and the one that tells of it."""
    moment = 0
    for item in watch.order:
        if isinstance(item, int):
            assert item > moment
            moment = item
        else:
            minutes = {"1m": 1, "5m": 5, "1h": 60}[item.timeframe]
            assert item.datetime + minutes * MINUTE > moment


def test_a_leap_of_the_clock_leaves_nothing_out() -> None:
    recordings = [generated(EURUSD), generated(USDJPY)]
    start, end = at("2020-10-30 20:30"), at("2020-11-03 09:00")

    async def main() -> None:
        clock = SteppedClock(start)
        async with venue(recordings, clock, chunk=500) as (_, market):
            keys = [(EURUSD, "1m"), (USDJPY, "1m"), (EURUSD, "1h"), (EURUSD, "1d")]
            watch = Watch(market, *keys)
            await watch.ready()
            clock.advance(end)
            await watch.reach(end)
            for recording in recordings:
                expected = list(part(recording.klines, start, end))
                assert watch.klines[recording.symbol, "1m"] == expected
            opens = [kline.datetime for kline in watch.klines[EURUSD, "1h"]]
            assert opens[0] == at("2020-10-30 20:00")
            assert opens[-1] == end - 60 * MINUTE
            days = [kline.trading_day for kline in watch.klines[EURUSD, "1d"]]
            assert days == [20201030, 20201102]
            await watch.stop()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "symbol", "begin", "change"),
    [
        ("2020-10_2021-01", EURUSD, "2020-10-25", "2020-11-01"),  # the US leaves summer time
        ("2020-10_2021-01", EURUSD, "2020-10-25", "2020-10-25"),  # the EU does
        ("2019-10_2020-03", EURUSD, "2019-10-20", "2019-10-27"),  # the EU does
        ("2019-10_2020-03", EURUSD, "2019-10-20", "2019-11-03"),  # the US does
        ("2013-10", USDJPY, "2013-09-29", "2013-10-27"),
        ("2013-10", USDJPY, "2013-09-29", "2013-11-03"),
    ],
)
@pytest.mark.parametrize("zone", ["EET-US", "EET-EU"])
def test_streams_over_a_change_to_winter_time(
    name: str, symbol: str, begin: str, change: str, zone: str
) -> None:
    over_a_change(recorded(name, symbol, begin), change, zone)


@pytest.mark.parametrize(
    ("begin", "change"), [("2020-03-01", "2020-03-08"), ("2020-03-20", "2020-03-29")]
)
@pytest.mark.parametrize("zone", ["EET-US", "EET-EU"])
def test_streams_over_a_change_to_summer_time(begin: str, change: str, zone: str) -> None:
    over_a_change(generated(EURUSD, begin, 14), change, zone)


def over_a_change(recording: Recording, change: str, zone: str) -> None:
    """From an hour before the week's end to an hour into the next, by steps."""
    symbol, sunday = recording.symbol, at(change)
    opens = recording.klines.datetime
    first = int(np.searchsorted(opens, sunday))
    start = max(int(opens[max(0, first - 1)]) - 60 * MINUTE, int(opens[0]) - 60 * MINUTE)
    start -= start % (60 * MINUTE)
    end = int(opens[first]) + 60 * MINUTE

    async def main() -> None:
        clock = SteppedClock(start)
        shown = {"time_zone": zone}
        # In a loaded moment, thousands of bars take their time to be written out and read.
        async with venue([recording], clock, shown, time_zone=zone, timeout=20.0) as (_, market):
            watch = Watch(market, (symbol, "1m"))
            await watch.ready()
            while clock.now() < end:
                step = MINUTE if recording.contract.sessions.is_open(clock.now()) else 60 * MINUTE
                clock.advance(min(end, clock.now() + step))
                await watch.reach(clock.now())
            assert watch.klines[symbol, "1m"] == list(part(recording.klines, start, end))
            await watch.stop()

    asyncio.run(main())


def test_an_hour_passed_twice_while_trading_keeps_its_first_pass() -> None:
    """A zone that changes while forex is open: the terminal itself has one bar a minute only."""
    recording = generated(EURUSD, "2020-10-19", 14)
    # Teheran left summer time on Monday, 2020-09-21, 00:00, which is Sunday 19:30 UTC; Amman on
    # Friday, 2020-10-30, 01:00 local, which is Thursday 22:00 UTC, while forex trades.
    change = at("2020-10-29 22:00")
    settings = {"time_zone": "Asia/Amman"}
    kept = (recording.klines.datetime < change) | (
        recording.klines.datetime >= change + 60 * MINUTE
    )

    async def main() -> None:
        clock = SteppedClock(change + 180 * MINUTE)
        async with venue([recording], clock, settings, **settings) as (_, market):
            found = await market.get_kline_histories(EURUSD, change - 180 * MINUTE)
        expected = recording.klines.datetime[kept]
        inside = (expected >= change - 180 * MINUTE) & (expected < change + 180 * MINUTE)
        assert found.datetime.tolist() == expected[inside].tolist()

    asyncio.run(main())


def test_a_bar_whose_last_ticks_may_be_late_waits_for_a_sign() -> None:
    recording = generated(EURUSD)

    async def main() -> None:
        clock = SteppedClock(NOON)
        async with venue([recording], clock, late_ticks=2.0) as (terminal, market):
            watch = Watch(market, (EURUSD, "1m"))
            await eventually(lambda: bool(terminal.expert.rates))
            # No tick of the next minute has come: the terminal is deaf for the moment.
            terminal.model.lag = 1000
            clock.advance(NOON + MINUTE)
            found = await market.get_kline_histories(EURUSD, limit=1)
            assert found[0].datetime == NOON - MINUTE
            await eventually(lambda: len(watch.klines[EURUSD, "1m"]) == 1)
            # The clock goes on, and the time for late ticks is over.
            terminal.model.lag = 0
            clock.advance(NOON + MINUTE + 2000)
            await watch.reach(NOON + MINUTE)
            expected = list(part(recording.klines, NOON - MINUTE, NOON + MINUTE))
            assert watch.klines[EURUSD, "1m"] == expected
            # A bar of the next minute says the same at once.
            clock.advance(NOON + 2 * MINUTE)
            await watch.reach(NOON + 2 * MINUTE)
            await watch.stop()

    asyncio.run(main())


def test_history_asked_for_after_watching_leaves_no_hole() -> None:
    recording = generated(EURUSD)

    async def main() -> None:
        clock = SteppedClock(NOON + 30_000)
        async with venue([recording], clock) as (_, market):
            watch = Watch(market, (EURUSD, "1m"))
            await watch.ready()
            past = await market.get_kline_histories(EURUSD, limit=2)
            clock.advance(NOON + 2 * MINUTE)
            await watch.reach(NOON + 2 * MINUTE)
            opens = [*past.datetime.tolist(), *(k.datetime for k in watch.klines[EURUSD, "1m"])]
            assert opens == [NOON + n * MINUTE for n in range(-2, 2)]
            await watch.stop()

    asyncio.run(main())


class RealTime(SystemClock):
    """The computer's clock, set to another day."""

    def __init__(self, now: int) -> None:
        self._ahead = now - super().now()

    def now(self) -> int:
        return super().now() + self._ahead


def test_at_real_speed_a_sign_of_the_next_bar_brings_the_kline_at_once() -> None:
    recording = generated(EURUSD)

    async def main() -> None:
        clock = RealTime(NOON - 1500)
        terminal = Mt4Terminal([recording], clock, freeze=0.0)
        await terminal.start()
        market = market_of(terminal, clock)
        await market.connect()
        stream = market.watch_klines(EURUSD)
        kline = await anext(stream)
        assert kline == part(recording.klines, NOON - MINUTE, NOON)[0]
        assert NOON <= clock.now() < NOON + 1500  # without the sign it would wait for 2 s
        await stream.aclose()  # type: ignore[attr-defined]
        await market.disconnect()
        await terminal.stop()

    asyncio.run(main())


def test_time_that_runs_fast() -> None:
    recordings = [generated(EURUSD), generated(USDJPY)]

    async def main() -> None:
        clock = SpedClock(NOON - 20_000, 600.0)
        terminal = Mt4Terminal(recordings, clock, build="patched", freeze=0.0)
        await terminal.start()
        market = market_of(terminal, clock)
        await market.connect()
        watch = Watch(market, (EURUSD, "1m"), (USDJPY, "1m"))
        await watch.reach(NOON + 10 * MINUTE)
        for recording in recordings:
            found = watch.klines[recording.symbol, "1m"]
            end = found[-1].datetime + MINUTE
            assert end >= NOON + 10 * MINUTE
            assert found == list(part(recording.klines, found[0].datetime, end))
        check_order(watch)
        await watch.stop()
        await market.disconnect()
        await terminal.stop()

    asyncio.run(main())


# --------------------------------------------------------------------------- ticks


@pytest.mark.parametrize("build", BUILDS)
def test_ticks_have_bid_and_ask_and_the_time_of_their_arrival(build: str) -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        recording = generated(EURUSD)
        async with venue([recording, generated(USDJPY)], clock, {"build": build}) as (
            terminal,
            market,
        ):
            ticks: list[Tick] = []

            async def read() -> None:
                async for tick in market.watch_ticks(EURUSD):
                    ticks.append(tick)

            reader = asyncio.create_task(read())
            await eventually(lambda: terminal.expert.prices == ["EURUSD"])
            while len(ticks) < 3:
                clock.advance(clock.now() + 15_000)
                await asyncio.sleep(0.005)
            assert {tick.symbol for tick in ticks} == {EURUSD}
            quotes = {(t.bid, t.ask) for t in recording.ticks(NOON - MINUTE, clock.now())}
            assert {(tick.bid, tick.ask) for tick in ticks} <= quotes
            assert all(NOON < tick.datetime <= clock.now() for tick in ticks)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            await eventually(lambda: terminal.expert.prices == [])

    asyncio.run(main())


# --------------------------------------------------------------------------- symbols


def test_symbols_contracts_and_suffixes() -> None:
    async def main() -> None:
        recordings = [generated(EURUSD, days=3), generated(USDJPY, days=3)]
        clock = SteppedClock(at("2020-10-20 12:00"))
        settings = {"suffix": ".pro"}
        async with venue(recordings, clock, settings, **settings, symbols=[EURUSD]) as (_, market):
            assert await market.list_symbols() == [EURUSD]
            contract = await market.get_contract(USDJPY)
            assert (contract.multiplier, contract.currency) == (100_000.0, "JPY")
            assert contract.price_tick == 0.001
            assert len(await market.get_kline_histories(USDJPY, limit=3)) == 3
            assert await market.list_symbols() == [EURUSD, USDJPY]
            with pytest.raises(UnknownSymbol, match=r"no symbol GBPUSD\.pro.*suffix"):
                await market.get_contract("FOREX.GBPUSD")
            with pytest.raises(UnknownSymbol, match=r"no symbol GBPUSD\.pro"):
                await anext(market.watch_klines("FOREX.GBPUSD"))
            with pytest.raises(UnknownSymbol, match=r"no symbol GBPUSD\.pro"):
                await anext(market.watch_ticks("FOREX.GBPUSD"))
            with pytest.raises(UnknownSymbol, match="serves FOREX"):
                await market.get_contract("US.BABA")
            with pytest.raises(UnknownSymbol):
                market.watch_klines("FOREX.NOPE")
            with pytest.raises(UnknownTimeframe):
                market.watch_klines(EURUSD, "7m")
            with pytest.raises(InvalidRequest, match="limit"):
                await market.get_kline_histories(EURUSD, limit=0)

    asyncio.run(main())


def test_the_service_routes_to_it() -> None:
    async def main() -> None:
        recording = generated(EURUSD)
        clock = SteppedClock(NOON)
        async with venue([recording], clock) as (_, market):
            service = MarketService(market, [EURUSD])
            queue = service.start()
            await eventually(lambda: bool(service._watches))
            clock.advance(NOON + MINUTE)
            symbol, kline = await asyncio.wait_for(queue.get(), 10)
            assert (symbol, kline) == (EURUSD, part(recording.klines, NOON, NOON + MINUTE)[0])
            await service.stop()

    asyncio.run(main())


# --------------------------------------------------------------------------- life


def test_hosts_of_both_kinds() -> None:
    async def main() -> None:
        recording = generated(EURUSD)
        for host in ("localhost", "::1"):
            ports = [free_port("127.0.0.1") for _ in range(3)]
            market = DwxMarket(host, *ports, connect_timeout=0.5)
            with pytest.raises(Unavailable, match="refused"):
                await market.connect()
        clock = SteppedClock(NOON)
        async with venue([recording], clock, host="localhost") as (_, market):
            assert len(await market.get_kline_histories(EURUSD, limit=2)) == 2

    asyncio.run(main())


def test_nobody_there_is_unavailable_and_leaves_nothing_behind() -> None:
    async def main() -> None:
        threads = threading.active_count()
        ports = [free_port("127.0.0.1") for _ in range(3)]
        market = DwxMarket("127.0.0.1", *ports, connect_timeout=0.5)
        with pytest.raises(Unavailable, match=f"{ports[0]}.*MetaTrader"):
            await market.connect()
        with pytest.raises(NotConnected):
            await market.get_kline_histories(EURUSD)
        await market.disconnect()
        assert threading.active_count() == threads
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_peer_that_does_not_speak_is_unavailable() -> None:
    async def main() -> None:
        writers: list[asyncio.StreamWriter] = []

        def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)

        servers = [await asyncio.start_server(listen, "127.0.0.1", 0) for _ in range(3)]
        ports = [server.sockets[0].getsockname()[1] for server in servers]
        market = DwxMarket("127.0.0.1", *ports, connect_timeout=0.2)
        with pytest.raises(Unavailable, match="no expert advisor"):
            await market.connect()
        for closing in (*writers, *servers):
            closing.close()
            await closing.wait_closed()

    asyncio.run(main())


def test_it_can_be_connected_again() -> None:
    async def main() -> None:
        recording = generated(EURUSD, days=3)
        clock = SteppedClock(at("2020-10-20 12:00"))
        async with venue([recording], clock) as (_, market):
            await market.connect()
            await market.disconnect()
            await market.disconnect()
            assert len(asyncio.all_tasks()) == 3  # this one, and the terminal's two
            await market.connect()
            assert len(await market.get_kline_histories(EURUSD, limit=3)) == 3

    asyncio.run(main())


@pytest.mark.parametrize(
    ("blocked", "advice"),
    [
        ("TRADING_IS_NOT_ALLOWED", "AutoTrading"),
        ("NO_BROKER_CONNECTION", "login"),
        ("DLLS_DISABLED", "DLL"),
    ],
)
def test_a_blocked_terminal_says_what_to_do(blocked: str, advice: str) -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        terminal = Mt4Terminal([generated(EURUSD)], clock, freeze=0.0)
        await terminal.start()
        terminal.expert.blocked = blocked
        market = market_of(terminal, clock)
        with pytest.raises(Unavailable, match=f"{blocked}.*{advice}"):
            await market.connect()
        terminal.expert.blocked = None
        states: list[tuple[FeedState, str]] = []
        market.on_state = lambda state, reason: states.append((state, reason))
        await market.connect()
        watch = Watch(market, (EURUSD, "1m"))
        await watch.ready()
        terminal.expert.blocked = blocked
        with pytest.raises(Unavailable, match=blocked):
            await market.get_kline_histories(EURUSD)
        clock.advance(NOON + MINUTE)
        await eventually(lambda: len(states) == 2)
        terminal.expert.blocked = None
        await watch.reach(NOON + MINUTE)
        await eventually(lambda: len(states) == 3)
        kinds = [state for state, _ in states]
        assert kinds == [FeedState.CONNECTED, FeedState.DISCONNECTED, FeedState.CONNECTED]
        assert blocked in states[1][1]
        await watch.stop()
        await market.disconnect()
        await terminal.stop()

    asyncio.run(main())


@pytest.mark.parametrize("kind", [FaultKind.CUT, FaultKind.RESTART])
def test_after_a_lost_line_lists_are_sent_again_and_nothing_is_missing(kind: FaultKind) -> None:
    recording = generated(EURUSD)

    async def main() -> None:
        clock = SteppedClock(NOON)
        async with venue([recording], clock) as (terminal, market):
            states: list[FeedState] = []
            market.on_state = lambda state, reason: states.append(state)
            watch = Watch(market, (EURUSD, "1m"))
            ticks = market.watch_ticks(EURUSD)
            first = asyncio.ensure_future(anext(ticks))
            await watch.ready()
            await eventually(lambda: bool(terminal.expert.prices and terminal.expert.rates))
            terminal.inject(Fault(kind, 0.1))
            clock.advance(NOON + 3 * MINUTE)
            await watch.reach(NOON + 3 * MINUTE)
            assert terminal.expert.prices == ["EURUSD"]
            assert terminal.expert.rates == [("EURUSD", 1)]
            expected = list(part(recording.klines, NOON, NOON + 3 * MINUTE))
            assert watch.klines[EURUSD, "1m"] == expected
            assert states == [FeedState.DISCONNECTED, FeedState.CONNECTED]
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await watch.stop()

    asyncio.run(main())


def test_a_silent_advisor_is_noticed_by_its_heartbeat() -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        async with venue([generated(EURUSD)], clock, timeout=0.1, connect_timeout=0.1) as (
            terminal,
            market,
        ):
            states: list[tuple[FeedState, str]] = []
            market.on_state = lambda state, reason: states.append((state, reason))
            terminal.inject(Fault(FaultKind.STALL, 0.6))
            await eventually(lambda: len(states) == 2)
            assert [state for state, _ in states] == [FeedState.DISCONNECTED, FeedState.CONNECTED]
            assert "HEARTBEAT" in states[0][1]

    asyncio.run(main())


def test_a_late_answer_is_never_taken_for_the_next_ones() -> None:
    """The late answer even reaches the new connection: the advisor sends to whoever is there."""
    recording = generated(EURUSD)
    closed = recording.closed(NOON)

    async def main() -> None:
        clock = SteppedClock(NOON)
        async with venue([recording], clock, timeout=0.15, heartbeat=60.0) as (terminal, market):
            states: list[FeedState] = []
            market.on_state = lambda state, reason: states.append(state)
            ask = market.get_kline_histories
            await ask(EURUSD, limit=1)
            await eventually(lambda: not terminal.expert.prices)
            for hours in range(1, 6):
                terminal.inject(Fault(FaultKind.LATE, 0.25))
                start = NOON - hours * 3_600_000
                with pytest.raises(Unavailable, match="HIST"):
                    await ask(EURUSD, start, to_ts=start + 600_000)
                await eventually(lambda count=2 * hours: len(states) == count)
                found = await ask(EURUSD, start - 600_000, to_ts=start)
                assert same(found, part(closed, start - 600_000, start))

    asyncio.run(main())


def test_a_cancelled_request_does_not_give_its_answer_to_the_next() -> None:
    recording = generated(EURUSD)
    closed = recording.closed(NOON)

    async def main() -> None:
        async with venue([recording], SteppedClock(NOON)) as (terminal, market):
            ask = market.get_kline_histories
            await ask(EURUSD, limit=1)
            for minutes in range(20, 25):
                terminal.inject(Fault(FaultKind.LATE, 0.02))
                start = NOON - minutes * MINUTE
                given_up = asyncio.ensure_future(ask(EURUSD, start, to_ts=NOON))
                await asyncio.sleep(0.005)
                given_up.cancel()
                found = await ask(EURUSD, start, to_ts=start + 2 * MINUTE)
                assert same(found, part(closed, start, start + 2 * MINUTE))

    asyncio.run(main())


@pytest.mark.parametrize("build", BUILDS)
def test_doubled_and_empty_answers_change_nothing(build: str) -> None:
    recordings = [generated(EURUSD), generated(USDJPY)]

    async def main() -> None:
        clock = SteppedClock(NOON)
        async with venue(recordings, clock, {"build": build}, chunk=300) as (terminal, market):
            for kind in (FaultKind.DUPLICATE, FaultKind.EMPTY):
                for count in (1, 2, 3):
                    terminal.inject(Fault(kind, count=count))
                    for recording in recordings:
                        found = await market.get_kline_histories(recording.symbol, limit=1000)
                        assert same(found, recording.closed(NOON)[-1000:])

    asyncio.run(main())


# --------------------------------------------------------------------------- the zone


@pytest.mark.parametrize(
    ("server", "setting", "warns"),
    [
        ("EET-US", "EET-US", False),
        ("EET-EU", "EET-US", False),  # they differ for some weeks of the year only
        ("UTC", "EET-US", True),
        ("EET-US", "UTC", True),
    ],
)
@pytest.mark.parametrize("build", ["current", "patched"])
def test_a_wrong_time_zone_is_warned_of_by_name(
    server: str, setting: str, warns: bool, build: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        terminal = {"time_zone": server, "build": build}
        async with venue([generated(EURUSD)], clock, terminal, time_zone=setting) as (sim, market):
            watch = Watch(market, (EURUSD, "1m"))
            await watch.ready()
            for minute in range(1, 7):
                await eventually(lambda: bool(sim.expert.rates))
                clock.advance(NOON + minute * MINUTE + 1)
                await watch.reach(NOON + minute * MINUTE)
                await asyncio.sleep(0.005)
            await watch.stop()

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    told = [record.getMessage() for record in caplog.records]
    assert any(f"time_zone='{setting}'" in text and "2 h" in text for text in told) == warns
    assert len(told) == len(set(told))


@pytest.mark.parametrize(
    ("build", "zone", "verdict", "told"),
    [
        ("current", "EET-US", Verdict.OK, "the terminal shows 13:59, as EET-US has it"),
        ("current", "UTC", Verdict.DOUBT, "+2 h"),
        ("patched", "EET-US", Verdict.SKIPPED, "no quote is fresh"),
    ],
)
def test_what_it_tells_the_doctor(build: str, zone: str, verdict: Verdict, told: str) -> None:
    async def main() -> None:
        clock = SteppedClock(NOON - 1)
        async with venue([generated(EURUSD)], clock, {"build": build}, time_zone=zone) as (
            terminal,
            market,
        ):
            advisor, found = await market.diagnose()
            assert advisor.verdict is Verdict.OK
            assert ("does not tell" in advisor.found) == (build == "patched")
            assert found.verdict is verdict
            assert told in found.found
            terminal.expert.blocked = "NO_BROKER_CONNECTION"
            if build == "current":
                failed = (await market.diagnose())[0]
                assert failed.verdict is Verdict.FAILED
                assert "NO_BROKER_CONNECTION" in failed.found
            await market.disconnect()
            assert await market.diagnose() == []

    asyncio.run(main())


# --------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "tcp://there"}, "host: "),
        ({"host": ""}, "host: "),
        ({"push_port": 0}, "push_port: "),
        ({"sub_port": 70_000}, "sub_port: "),
        ({"time_zone": "EET-JP"}, "time_zone: there is no 'EET-JP'"),
        ({"time_zone": "UTC+25"}, "time_zone: "),
        ({"symbols": "FOREX.EURUSD"}, "symbols: "),
        ({"symbols": ["US.BABA"]}, "symbols: US.BABA"),
        ({"suffix": "a;b"}, "suffix: "),
        ({"markets": []}, "markets: "),
        ({"timeout": -1}, "timeout: "),
        ({"retry": "soon"}, "retry: "),
        ({"late_ticks": -1}, "late_ticks: "),
        ({"chunk": 1}, "chunk: "),
        ({"clock": "tomorrow"}, "clock: "),
    ],
)
def test_settings_at_fault_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DwxMarket(**settings)
    assert str(caught.value).startswith(message)


def test_it_is_registered() -> None:
    assert load_market("dwx") is DwxMarket
