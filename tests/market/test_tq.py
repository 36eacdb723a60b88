"""TqMarket against a simulated venue: an unmodified TqApi in between."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from livetrader_core.errors import ConfigError, InvalidRequest, NotConnected, UnknownSymbol
from livetrader_core.market.finding import Verdict
from livetrader_core.market.tq import market as market_module
from livetrader_core.market.tq.market import TqMarket
from livetrader_core.models import VALUE_COLUMNS, FeedState, Kline, Klines, Tick
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.venue import Fault, FaultKind, random_faults
from livetrader_core.timeframe import MINUTE_MS
from tests.conformance.tq_rig import TqRig
from tests.support.data import proving
from tests.support.futures import future, future_symbols, futures

COPPER, REBAR, MEAL, EGGS, GOLD = future_symbols()


def opening(recording: Recording, day: int) -> int:
    """When the first kline of the recording's trading day ``day`` (from 0) opens."""
    days = sorted(set(recording.trading_days.tolist()))
    return int(recording.klines.datetime[np.searchsorted(recording.trading_days, days[day])])


def morning(day: int = 6, hour_utc: int = 1) -> int:
    """09:00 in Beijing on a day on which all of them trade."""
    start = opening(future(COPPER), day + 1)
    return start // 86_400_000 * 86_400_000 + (24 + hour_utc) * 3_600_000


@asynccontextmanager
async def connected(
    recordings: Iterable[Recording], start: int, **settings: Any
) -> AsyncIterator[tuple[TqRig, TqMarket]]:
    rig = TqRig(list(recordings), start)
    await rig.open()
    market = rig.another(**settings)
    try:
        await market.connect()
        yield rig, market
    finally:
        await market.disconnect()
        await rig.close()


class Reader:
    """Reads streams of a market, and steps the venue's clock from one given moment to the next."""

    def __init__(self, rig: TqRig, market: TqMarket) -> None:
        self.rig = rig
        self.market = market
        self.klines: dict[str, list[Kline]] = defaultdict(list)
        self.moment = 0
        self._told = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def watch(self, *symbols: str, timeframe: str = "1m") -> None:
        for symbol in symbols:
            await self.market.get_contract(symbol)
            self._start(self._read(symbol, timeframe))
        self._start(self._clock())
        await asyncio.sleep(0)

    def _start(self, work: Any) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def _read(self, symbol: str, timeframe: str) -> None:
        async for kline in self.market.watch_klines(symbol, timeframe):
            self.klines[symbol].append(kline)

    async def _clock(self) -> None:
        async for moment in self.market.watch_clock():
            self.moment = moment
            self._told.set()

    async def step(self, minutes: int, stride: int = 1) -> None:
        """Move the clock on by ``minutes``, waiting for each moment to be settled."""
        for _ in range(0, minutes, stride):
            now = self.rig.clock.now()
            await self.rig.advance(now // MINUTE_MS * MINUTE_MS + stride * MINUTE_MS)
            await self.settled()

    async def settled(self, patience: float = 20.0) -> None:
        deadline = time.monotonic() + patience
        while self.moment < self.rig.clock.now() // MINUTE_MS * MINUTE_MS:
            self._told.clear()
            left = deadline - time.monotonic()
            assert left > 0, f"stuck at {self.moment}, the clock is at {self.rig.clock.now()}"
            waiting = asyncio.ensure_future(self._told.wait())
            await asyncio.wait([waiting], timeout=left)
            waiting.cancel()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def check(self, symbol: str, start: int, recording: Recording | None = None) -> None:
        """The stream of ``symbol`` equals the venue's bars that closed after ``start``."""
        bars = (recording or self.rig.recordings[symbol]).klines
        ends = bars.datetime + MINUTE_MS
        wanted = bars[
            np.searchsorted(ends, start, "right") : np.searchsorted(ends, self.moment, "right")
        ]
        same(Klines.of(symbol, "1m", self.klines[symbol]), wanted)


def same(found: Klines, wanted: Klines) -> None:
    assert found.datetime.tolist() == wanted.datetime.tolist()
    for name in VALUE_COLUMNS:
        assert np.array_equal(getattr(found, name), getattr(wanted, name)), name


def stumps(recordings: Iterable[Recording], until: int) -> list[Recording]:
    """The recordings up to ``until`` (UTC ms)."""
    return [replace(one, klines=one.closed(until)) for one in recordings]


# --------------------------------------------------------------------------- settings, connecting


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"user": " "}, "^user: must be the name of an account"),
        ({"password": ""}, "^password: is empty"),
        ({"auth_url": "ftp://x"}, "^auth_url: must begin with http://"),
        ({"md_url": "http://x"}, "^md_url: must begin with ws://"),
        ({"reconnect_after": 0}, "^reconnect_after: must be a number of seconds above 0"),
        ({"timeout": "soon"}, "^timeout: must be a number of seconds above 0"),
        ({"grace": True}, "^grace: must be a number of seconds above 0"),
        ({"clock": "noon"}, "^clock: expected"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TqMarket(**{"user": "me", "password": "secret", **settings})


def test_a_refused_login_is_told_at_once() -> None:
    async def main() -> None:
        rig = TqRig(futures(1), morning())
        await rig.open()
        market = rig.another(password="wrong")
        began = time.monotonic()
        with pytest.raises(ConfigError, match=r"^user: http://127.* refused the login of 'some"):
            await market.connect()
        assert time.monotonic() - began < 8  # with the import of tqsdk
        await market.disconnect()
        await rig.close()

    asyncio.run(main())


def test_hosts_that_cannot_be_reached_are_named_within_the_timeout() -> None:
    def free_port() -> int:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            return int(one.getsockname()[1])

    async def main() -> None:
        rig = TqRig(futures(1), morning())
        await rig.open()
        closed = free_port()
        with pytest.raises(NotConnected, match=rf"^auth_url: http://127.0.0.1:{closed} cannot"):
            await rig.another(auth_url=f"http://127.0.0.1:{closed}").connect()
        began = time.monotonic()
        with pytest.raises(NotConnected, match=rf"^md_url: no quotes from ws://127.0.0.1:{closed}"):
            await rig.another(md_url=f"ws://127.0.0.1:{closed}", timeout=0.5).connect()
        assert time.monotonic() - began < 5
        await rig.close()

    asyncio.run(main())
    assert not [one for one in threading.enumerate() if one.name == "livetrader-tq"]


def test_nothing_is_left_behind(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    before = dict(os.environ)

    async def main() -> None:
        async with connected(futures(1), morning()) as (rig, market):
            await market.connect()  # once is enough
            reader = Reader(rig, market)
            await reader.watch(COPPER)
            await reader.step(2)
            await reader.stop()
        with pytest.raises(NotConnected, match="not connected"):
            await market.list_symbols()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert not [one for one in threading.enumerate() if one.name == "livetrader-tq"]
    assert dict(os.environ) == before
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("minute", "verdict", "found"),
    [(30, Verdict.OK, "the last quote of .* is 0.0 s"), (80, Verdict.SKIPPED, "does not trade")],
)
def test_what_it_tells_the_doctor(minute: int, verdict: Verdict, found: str) -> None:
    async def main() -> None:
        async with connected(futures(2), morning() + minute * MINUTE_MS) as (_, market):
            login, clock = await market.diagnose()
            assert login.verdict is Verdict.OK
            assert login.found.startswith("'somebody' at http://127.0.0.1:")
            assert clock.verdict is verdict
            assert re.search(found, clock.found)

    asyncio.run(main())


# --------------------------------------------------------------------------- contracts


def test_contracts_symbols_and_main_contracts() -> None:
    async def main() -> None:
        async with connected(futures(3), morning()) as (_, market):
            mains = [f"{symbol[:-4]}_main" for symbol in (COPPER, REBAR, MEAL)]
            assert await market.list_symbols() == sorted([COPPER, REBAR, MEAL, *mains])
            ours, theirs = await market.get_contract(COPPER), future(COPPER).contract
            for name in ("price_tick", "multiplier", "currency", "sessions", "quantity_step"):
                assert getattr(ours, name) == getattr(theirs, name), name
            price = float(future(COPPER).closed(morning()).close[-1])
            assert ours.margin.per_unit == pytest.approx(theirs.margin_of(price))
            assert ours.commission.per_unit == pytest.approx(theirs.commission_of(1, price))
            assert ours.expires_at > morning()
            assert await market.main_contract(mains[0]) == COPPER
            main_contract = await market.get_contract(mains[0])
            assert main_contract == replace(ours, symbol=mains[0], name=main_contract.name)
            with pytest.raises(UnknownSymbol, match="is no main contract"):
                await market.main_contract(COPPER)

    asyncio.run(main())


def test_many_contracts_are_asked_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(market_module, "_SINGLY", 1)

    async def main() -> None:
        async with connected(futures(4), morning()) as (rig, market):
            contracts = [await market.get_contract(symbol) for symbol in rig.recordings]
            assert [contract.symbol for contract in contracts] == list(rig.recordings)
            fresh = rig.another()
            await fresh.connect()
            assert [await fresh.get_contract(symbol) for symbol in reversed(rig.recordings)] == [
                *reversed(contracts)
            ]
            with pytest.raises(UnknownSymbol, match="lists no such contract"):
                await fresh.get_contract("SHFE.zz2002")
            await fresh.disconnect()

    asyncio.run(main())


def test_unknown_symbols_are_refused_without_waiting() -> None:
    async def main() -> None:
        async with connected(futures(1), morning()) as (_, market):
            for symbol, message in (
                ("SHFE.zz2002", "SHFE.zz2002: the venue lists no such contract"),
                ("SHFE.zz_main", "SHFE.zz_main: the venue lists no such contract"),
                ("US.BABA", "US.BABA: tqsdk serves SHFE, INE"),
                ("rb2605", "write MARKET.CODE"),
            ):
                with pytest.raises(UnknownSymbol, match=message):
                    await market.get_contract(symbol)
                with pytest.raises(UnknownSymbol, match=message):
                    await market.get_kline_histories(symbol, limit=1)
                with pytest.raises(UnknownSymbol, match=message):
                    await anext(market.watch_klines(symbol))

    asyncio.run(main())


# --------------------------------------------------------------------------- history


def test_history_by_count_by_time_and_with_the_forming_kline() -> None:
    recording, start = future(COPPER), morning() + 30 * MINUTE_MS

    async def main() -> None:
        async with connected([recording], start + 20_000) as (_, market):
            closed = recording.closed(start)
            same(await market.get_kline_histories(COPPER, limit=5), closed[-5:])
            same(await market.get_kline_histories(COPPER, limit=500), closed[-500:])
            same(await market.get_kline_histories(COPPER), closed)
            first, last = int(closed.datetime[-300]), int(closed.datetime[-100])
            found = await market.get_kline_histories(COPPER, from_ts=first, to_ts=last)
            same(found, closed[-300:-100])
            found = await market.get_kline_histories(COPPER, limit=10, to_ts=last)
            same(found, closed[-110:-100])
            found = await market.get_kline_histories(COPPER, from_ts=start, forming=True)
            [kline] = list(found)
            assert not kline.closed
            assert kline == recording.forming(start + 20_000)
            assert len(await market.get_kline_histories(COPPER, from_ts=start)) == 0
            assert len(await market.get_kline_histories(COPPER, from_ts=start + 10**9)) == 0
            assert len(await market.get_kline_histories(COPPER, to_ts=int(closed.datetime[0]))) == 0
            with pytest.raises(InvalidRequest, match="limit must be at least 1"):
                await market.get_kline_histories(COPPER, limit=0)

    asyncio.run(main())


def test_daily_klines_open_with_their_night_session() -> None:
    recording, start = future(COPPER), morning()
    sessions = recording.contract.sessions

    async def main() -> None:
        async with connected([recording], start) as (_, market):
            days = await market.get_kline_histories(COPPER, timeframe="1d", forming=True)
            assert days.trading_day is not None
            assert not days[-1].closed
            assert days[-1].trading_day == sessions.trading_day(start)
            assert days[-2].closed
            for day in days:
                assert sessions.trading_day(day.datetime) == day.trading_day
                assert day.datetime == sessions.open_of(sessions.trading_date(day.datetime))

    asyncio.run(main())


def test_history_beyond_what_tqsdk_gives_is_refused_not_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording = future(GOLD)
    start = int(recording.klines.datetime[1500])
    monkeypatch.setattr(market_module, "WIDTHS", (64, 1000))

    async def main() -> None:
        async with connected([recording], start) as (_, market):
            everything = await market.get_kline_histories(GOLD)
            same(everything, recording.closed(start)[-len(everything) :])
            assert 999 <= len(everything) <= 1000
            same(await market.get_kline_histories(GOLD, limit=999), recording.closed(start)[-999:])
            oldest = int(everything.datetime[0])
            await market.get_kline_histories(GOLD, from_ts=oldest)
            for request in ({"limit": 1200}, {"from_ts": oldest - 1}):
                with pytest.raises(InvalidRequest, match=f"the oldest opens at {oldest}"):
                    await market.get_kline_histories(GOLD, **request)

    asyncio.run(main())


@pytest.mark.parametrize("symbol", future_symbols())
def test_every_recorded_bar_comes_out_as_it_was_recorded(symbol: str) -> None:
    recording = future(symbol)
    whole = 9_999
    ends = [*range(whole, len(recording.klines), whole), len(recording.klines)]
    if not proving():
        ends = ends[-1:]

    async def main() -> None:
        start = int(recording.klines.datetime[ends[0] - 1]) + MINUTE_MS
        async with connected([recording], start) as (rig, market):
            for end in ends:
                await rig.advance(int(recording.klines.datetime[end - 1]) + MINUTE_MS)
                limit = min(end, whole)
                found = await market.get_kline_histories(symbol, limit=limit)
                same(found, recording.klines[end - limit : end])

    asyncio.run(main())


# --------------------------------------------------------------------------- streams


def test_a_day_and_its_night_are_given_bar_by_bar() -> None:
    recordings = futures(3)
    start = morning() + 5 * 3_600_000 + 40 * MINUTE_MS  # the last hours of a day, then its night

    async def main() -> None:
        async with connected(recordings, start) as (rig, market):
            reader = Reader(rig, market)
            await reader.watch(COPPER, REBAR, MEAL, f"{COPPER[:-4]}_main")
            await reader.step(30)
            await reader.step(8 * 60, stride=5)
            for symbol in (COPPER, REBAR, MEAL):
                reader.check(symbol, start)
            reader.check(f"{COPPER[:-4]}_main", start, rig.recordings[COPPER])
            assert not any(not kline.closed for kline in reader.klines[COPPER])
            await reader.stop()

    asyncio.run(main())


def test_a_bar_is_settled_at_its_close_also_before_a_break() -> None:
    recording = future(COPPER)
    start = morning() + 74 * MINUTE_MS  # 10:14; the break begins at 10:15

    async def main() -> None:
        async with connected([recording], start) as (rig, market):
            reader = Reader(rig, market)
            await reader.watch(COPPER)
            await reader.step(1)
            assert reader.klines[COPPER][-1].datetime == start
            await reader.step(20)
            reader.check(COPPER, start)
            await reader.stop()

    asyncio.run(main())


def test_a_leap_over_days_leaves_no_hole() -> None:
    recordings = futures(2)
    start = morning()

    async def main() -> None:
        async with connected(recordings, start) as (rig, market):
            reader = Reader(rig, market)
            await reader.watch(COPPER, REBAR)
            await reader.step(2)
            await rig.advance(start + 3 * 86_400_000)
            await reader.settled()
            reader.check(COPPER, start)
            reader.check(REBAR, start)
            await reader.stop()

    asyncio.run(main())


def test_longer_timeframes_are_streamed() -> None:
    recording, start = future(COPPER), morning()

    async def main() -> None:
        async with connected([recording], start) as (rig, market):
            reader = Reader(rig, market)
            await reader.watch(COPPER, timeframe="15m")
            await reader.step(61)
            found = reader.klines[COPPER]
            assert [kline.datetime for kline in found] == [
                start + n * 15 * MINUTE_MS for n in range(4)
            ]
            asked = await market.get_kline_histories(COPPER, from_ts=start, timeframe="15m")
            same(Klines.of(COPPER, "15m", found), asked)
            await reader.stop()

    asyncio.run(main())


def test_ticks_come_once_with_their_own_volume() -> None:
    recording, start = future(COPPER), morning() + 10_000
    ticks: list[Tick] = []

    async def main() -> None:
        async with connected([recording], start) as (rig, market):

            async def read() -> None:
                async for tick in market.watch_ticks(COPPER):
                    ticks.append(tick)

            reading = asyncio.get_running_loop().create_task(read())
            wanted = [t for t in recording.ticks(start, start + 300_000) if t.datetime > start]
            while len(ticks) < len(wanted):
                await asyncio.sleep(0.05)
                await rig.advance(min(rig.clock.now() + 15_000, start + 300_000))
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            assert ticks == wanted

    asyncio.run(main())


# --------------------------------------------------------------------------- faults


def test_a_stalled_line_never_gives_half_a_bar() -> None:
    recording, start = future(COPPER), morning()

    async def main() -> None:
        async with connected([recording], start) as (rig, market):
            reader = Reader(rig, market)
            await reader.watch(COPPER)
            await reader.step(1)
            await rig.advance(rig.clock.now() + 45_000)
            rig.inject(Fault(FaultKind.STALL, seconds=0.4))
            await asyncio.sleep(0.05)
            for _ in range(5):
                await rig.advance(rig.clock.now() + MINUTE_MS)
                await asyncio.sleep(0.02)
            assert len(reader.klines[COPPER]) == 1
            await reader.settled()
            reader.check(COPPER, start)
            await reader.stop()

    asyncio.run(main())


@pytest.mark.parametrize("kind", [FaultKind.CUT, FaultKind.RESTART])
def test_a_lost_line_is_told_and_replaced_and_what_was_missed_comes(kind: FaultKind) -> None:
    recording, start = future(COPPER), morning()

    async def main() -> None:
        async with connected([recording], start) as (rig, market):
            told: list[FeedState] = []
            market.on_state = lambda state, why: told.append(state)
            reader = Reader(rig, market)
            await reader.watch(COPPER)
            await reader.step(3)
            rig.inject(Fault(kind, seconds=0.2))
            await reader.step(3)
            assert told == [FeedState.DISCONNECTED, FeedState.CONNECTED]
            reader.check(COPPER, start)
            same(
                await market.get_kline_histories(COPPER, limit=6),
                recording.closed(rig.clock.now())[-6:],
            )
            await reader.stop()

    asyncio.run(main())


def test_an_empty_answer_is_not_taken_for_an_empty_history() -> None:
    recording, start = future(COPPER), morning()

    async def main() -> None:
        async with connected([recording], start) as (rig, market):
            rig.inject(Fault(FaultKind.EMPTY, count=1))
            same(await market.get_kline_histories(COPPER, limit=5), recording.closed(start)[-5:])

    asyncio.run(main())


def test_a_venue_that_does_not_answer_is_a_dead_line() -> None:
    recording, start = future(COPPER), morning()

    async def main() -> None:
        async with connected([recording], start, timeout=0.5) as (rig, market):
            lost = asyncio.Event()
            market.on_state = lambda state, why: lost.set()
            reader = Reader(rig, market)
            await reader.watch(COPPER)
            await reader.step(1)
            rig.inject(Fault(FaultKind.STALL, seconds=1.5))
            await rig.advance(start + 2 * MINUTE_MS)
            await asyncio.sleep(0.05)
            await rig.advance(start + 3 * MINUTE_MS - 1)  # long enough to doubt
            await lost.wait()
            await reader.settled()
            reader.check(COPPER, start)
            await reader.stop()

    asyncio.run(main())


def test_a_tqapi_that_holds_too_much_is_replaced_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording, start = future(COPPER), morning()
    monkeypatch.setattr(market_module, "MAX_ROWS", 500)

    async def main() -> None:
        async with connected([recording], start) as (rig, market):
            told: list[FeedState] = []
            market.on_state = lambda state, why: told.append(state)
            reader = Reader(rig, market)
            await reader.watch(COPPER)
            await reader.step(2)
            first = market._line
            await market.get_kline_histories(COPPER, limit=900)
            while market._line is first:
                await reader.step(1)
                await asyncio.sleep(0.01)
                await rig.advance(rig.clock.now() + 1000)
            await reader.step(5)
            reader.check(COPPER, start)
            assert told == []
            await reader.stop()

    asyncio.run(main())


#: Random schedules that one connection goes through, one after the other.
_SCHEDULES = 10 if proving() else 4


@pytest.mark.long
@pytest.mark.parametrize("batch", range(100 if proving() else 1))
def test_after_any_faults_the_stream_equals_the_venues_bars(
    batch: int, record_property: Callable[[str, object], None]
) -> None:
    start = morning() + 60 * MINUTE_MS
    took: dict[str, list[float]] = defaultdict(list)

    async def while_it_trades(rig: TqRig, reader: Reader) -> None:
        sessions = future(COPPER).contract.sessions
        while not all(sessions.is_open(rig.clock.now() + n * MINUTE_MS) for n in (0, 20)):
            await reader.step(5, stride=5)

    async def schedule(seed: int, rig: TqRig, reader: Reader) -> None:
        await while_it_trades(rig, reader)
        for pause, fault in random_faults(seed, rig.venue.faults, 3, 0.3):
            began = time.monotonic()
            rig.inject(fault)
            await reader.step(2)
            took[fault.kind.value].append(time.monotonic() - began)
            await asyncio.sleep(pause / 3)
            await reader.step(3)
        await reader.step(3)
        reader.check(COPPER, start)
        reader.check(REBAR, start)

    async def main() -> None:
        async with connected(futures(2), start) as (rig, market):
            reader = Reader(rig, market)
            await reader.watch(COPPER, REBAR)
            await reader.step(1)
            for seed in range(batch * _SCHEDULES, (batch + 1) * _SCHEDULES):
                await schedule(seed, rig, reader)
            await reader.stop()

    asyncio.run(main())
    record_property("tq schedules of faults", _SCHEDULES)
    for kind, seconds in took.items():
        record_property(f"tq: seconds to be whole again after {kind}", seconds)
