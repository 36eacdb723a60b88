"""Mt4Market against the compiled expert advisor: klines, ticks, contracts, keys, clock."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from livetrader_core.clock import SpedClock, SteppedClock
from livetrader_core.errors import ConfigError, NotAllowed, Unavailable, UnknownSymbol
from livetrader_core.market.diagnosis import examine
from livetrader_core.market.finding import Verdict
from livetrader_core.market.mt4 import Mt4Market
from livetrader_core.market.mt4.contracts import Terms
from livetrader_core.market.mt4.heard import HeardBars
from livetrader_core.market.mt4.line import Line
from livetrader_core.market.mt4.messages import Quote
from livetrader_core.market.mt4.watches import RENEWAL, Watches
from livetrader_core.models import FeedState, Kline, Klines, Swap, Tick
from livetrader_core.rpc.keys import KeyPair
from livetrader_core.sim.recording import Recording
from tests.ea.build import compiler
from tests.ea.client import NOON, attached, connected
from tests.support.dwx_venue import EURUSD, MINUTE, USDJPY, Watch, eventually, generated
from tests.support.mt4_venue import BEAT, made_up, market_of, mt4

needs_compiler = pytest.mark.skipif(
    compiler() is None, reason="g++ is needed to compile the expert advisor (package g++)"
)
BOTH = (EURUSD, USDJPY)


def minutes_of(symbol: str, start: int, end: int) -> list[Kline]:
    klines = generated(symbol).klines
    first, last = np.searchsorted(klines.datetime, [start, end])
    return list(klines[int(first) : int(last)])


class Asked:
    """Counts what is asked of advisors, by method."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.methods: Counter[str] = Counter()
        request = Line.request

        async def counted(line: Line, method: str, *args: Any, **settings: Any) -> Any:
            self.methods[method] += 1
            return await request(line, method, *args, **settings)

        monkeypatch.setattr(Line, "request", counted)


# --------------------------------------------------------------------------- klines and ticks


@needs_compiler
def test_klines_come_from_the_bars_that_are_published(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)

    async def main() -> None:
        clock = SteppedClock(NOON)
        # Bars are over when the advisor says so, for nothing else tells within the five seconds.
        async with mt4([generated(EURUSD)], clock, late_ticks=5.0) as (_, market):
            watch = Watch(market, (EURUSD, "1m"))
            await watch.ready()
            await eventually(lambda: bool(asked.methods["watch"]))
            await asyncio.sleep(0.02)
            for minute in range(1, 4):
                clock.advance(NOON + minute * MINUTE + 3000)
                await watch.reach(NOON + minute * MINUTE)
            before = asked.methods["bars"]
            for minute in range(4, 24):
                clock.advance(NOON + minute * MINUTE + 3000)
                await watch.reach(NOON + minute * MINUTE)
            end = NOON + 23 * MINUTE
            assert len(minutes_of(EURUSD, NOON + 3 * MINUTE, end)) == 20
            assert asked.methods["bars"] == before
            # The minute before was not over when it began.
            assert watch.klines[EURUSD, "1m"] == minutes_of(EURUSD, NOON - MINUTE, end)
            await watch.stop()

    asyncio.run(main())


@needs_compiler
def test_a_minute_without_a_tick_is_looked_up_and_holds_nothing_up() -> None:
    whole = generated(EURUSD)
    lacking = [NOON + minute * MINUTE for minute in (2, 5, 6, 9)]
    kept = ~np.isin(whole.klines.datetime, lacking)
    columns = [column[kept] for column in whole.klines.columns()]
    klines = Klines.from_columns(EURUSD, "1m", whole.klines.datetime[kept], columns)
    holed = Recording(whole.contract, klines)

    async def main() -> None:
        clock = SteppedClock(NOON)
        async with mt4([holed], clock, late_ticks=2.0) as (_, market):
            watch = Watch(market, (EURUSD, "1m"))
            await watch.ready()
            for second in range(0, 12 * 60 + 3, 3):
                clock.advance(NOON + second * 1000)
                await asyncio.sleep(0.002)
            await watch.reach(NOON + 12 * MINUTE)
            opens = [kline.datetime for kline in watch.klines[EURUSD, "1m"]]
            minutes = range(NOON - MINUTE, NOON + 12 * MINUTE, MINUTE)
            assert opens == [minute for minute in minutes if minute not in lacking]
            await watch.stop()

    asyncio.run(main())


@needs_compiler
def test_ticks_as_the_quotes_change() -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        async with mt4([generated(symbol) for symbol in BOTH], clock) as (terminal, market):
            ticks: list[Tick] = []

            async def read(symbol: str) -> None:
                async for tick in market.watch_ticks(symbol):
                    ticks.append(tick)

            readers = [asyncio.ensure_future(read(symbol)) for symbol in BOTH]
            await eventually(lambda: {tick.symbol for tick in ticks} == set(BOTH))
            for minute in range(1, 6):
                clock.advance(NOON + minute * MINUTE)
                for symbol in BOTH:
                    bid, ask = terminal.model.quote(symbol[6:]) or (0.0, 0.0)
                    await eventually(
                        lambda symbol=symbol, shown=(bid, ask): any(
                            tick.symbol == symbol and (tick.bid, tick.ask) == shown
                            for tick in ticks
                        )
                    )
            assert all(NOON <= tick.datetime <= clock.now() for tick in ticks)
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    asyncio.run(main())


@needs_compiler
def test_history_waits_for_a_terminal_that_loads() -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        async with mt4([generated(EURUSD)], clock) as (terminal, market):
            terminal.switches.unloaded = 3
            found = await market.get_kline_histories(EURUSD, limit=1200)
            assert list(found) == minutes_of(EURUSD, 0, NOON)[-1200:]
            terminal.switches.unloaded = 1000
            with pytest.raises(Unavailable, match="open a chart of it"):
                await market.get_kline_histories(EURUSD, limit=10)

    asyncio.run(main())


# --------------------------------------------------------------------------- watches


@needs_compiler
def test_a_watch_is_renewed_each_minute_and_what_was_dropped_comes_again() -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        async with (
            mt4([generated(EURUSD)], clock) as (terminal, market),
            connected(terminal) as other,
        ):
            line, watches = market._working(), Watches()
            watches.add("prices", "EURUSD", line)
            await watches.update(line, 1000.0)
            assert (await other.ask("unwatch", "EURUSD"))["watched"] == 0
            await watches.update(line, 1000.0 + RENEWAL - 1)
            assert (await other.ask("ping"))["watched"] == 0
            await watches.update(line, 1000.0 + RENEWAL)
            assert (await other.ask("ping"))["watched"] == 1

    asyncio.run(main())


@needs_compiler
def test_bars_come_although_nothing_is_published(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        recordings = [generated(symbol) for symbol in BOTH]
        async with mt4(recordings, clock, {"MaximumSymbols": 1}) as (_, market):
            watch = Watch(market, (EURUSD, "1m"), (USDJPY, "1m"))
            await watch.ready()
            for minute in range(1, 6):
                clock.advance(NOON + minute * MINUTE)
                await watch.reach(NOON + minute * MINUTE)
            for symbol in BOTH:
                assert watch.klines[symbol, "1m"] == minutes_of(symbol, NOON, NOON + 5 * MINUTE)
            await watch.stop()

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert sum("MaximumSymbols" in record.getMessage() for record in caplog.records) == 1


def test_a_market_that_leaves_takes_its_subscriptions_along() -> None:
    async def main() -> None:
        async with made_up() as advisor:
            advisor.answers["contract"] = TERMS
            advisor.answers["tick"] = {"time": 1, "bid": 1.1, "ask": 1.2}
            advisor.answers["watch"] = {"watched": 1, "unknown": []}
            markets = [Mt4Market(advisor.endpoint) for _ in range(2)]
            for market in markets:
                await market.connect()
            assert markets[0]._working() is markets[1]._working()
            reader = asyncio.ensure_future(anext(markets[0].watch_ticks(EURUSD)))
            await eventually(lambda: b"tick|EURUSD|" in advisor.subscribed)
            await markets[0].disconnect()
            await eventually(lambda: b"tick|EURUSD|" not in advisor.subscribed)
            assert b"beat|" in advisor.subscribed
            assert markets[1]._working().lost is None
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            await markets[1].disconnect()

    asyncio.run(main())


def test_published_bars_are_used_only_where_none_lacks() -> None:
    heard = HeardBars()
    row = (1.0, 2.0, 0.5, 1.5, 7.0)
    assert heard.between(EURUSD, NOON, NOON + MINUTE) is None
    for minute in (0, 1, 1, 0, 2):
        heard.add(EURUSD, NOON + minute * MINUTE, row)
    found = heard.between(EURUSD, NOON + MINUTE, NOON + 3 * MINUTE)
    assert found is not None
    assert [kline.datetime for kline in found] == [NOON + MINUTE, NOON + 2 * MINUTE]
    assert found[0].volume == 7.0
    assert heard.between(EURUSD, NOON, NOON + 4 * MINUTE) is None
    assert heard.between(EURUSD, NOON - MINUTE, NOON + MINUTE) is None
    heard.add(EURUSD, NOON + 4 * MINUTE, row)
    assert heard.between(EURUSD, NOON + 2 * MINUTE, NOON + 5 * MINUTE) is None
    assert heard.between(EURUSD, NOON + 4 * MINUTE, NOON + 5 * MINUTE) is not None
    heard.forget()
    assert heard.between(EURUSD, NOON + 4 * MINUTE, NOON + 5 * MINUTE) is None


# --------------------------------------------------------------------------- contracts, symbols


@needs_compiler
def test_contracts_are_the_brokers() -> None:
    async def main() -> None:
        recordings = [generated(symbol) for symbol in BOTH]
        async with mt4(recordings, SteppedClock(NOON)) as (terminal, market):
            terminal.trading.lot_step = 0.05
            euro, yen = [await market.get_contract(symbol) for symbol in BOTH]
            assert (euro.price_tick, yen.price_tick) == (0.00001, 0.001)
            assert (euro.quantity_step, euro.min_quantity, euro.multiplier) == (0.05, 0.05, 1e5)
            assert (euro.currency, yen.currency) == ("USD", "JPY")
            assert euro.margin.rate == pytest.approx(0.01, rel=1e-3)
            assert yen.margin.rate == pytest.approx(0.01, rel=1e-3)
            # Half a point is paid, a quarter is got, for a night and a lot.
            assert euro.swap == Swap(pytest.approx(-0.5), pytest.approx(0.25))
            assert yen.swap == Swap(pytest.approx(-50.0), pytest.approx(25.0))
            with pytest.raises(UnknownSymbol, match="the terminal has no symbol GBPUSD"):
                await market.get_contract("FOREX.GBPUSD")
            with pytest.raises(UnknownSymbol, match="serves FOREX"):
                await market.get_contract("US.BABA")

    asyncio.run(main())


TERMS = {
    "symbol": "EURUSD",
    "digits": 5,
    "point": 0.00001,
    "lot_size": 100_000.0,
    "min_lot": 0.01,
    "lot_step": 0.01,
    "max_lot": 50.0,
    "stop_level": 20,
    "freeze_level": 5,
    "tick_value": 1.0,
    "tick_size": 0.00001,
    "margin_required": 1187.5,
    "swap_long": -2.0,
    "swap_short": 1.0,
    "swap_type": 0,
    "trade_allowed": True,
}


@pytest.mark.parametrize(
    ("swap_type", "quote", "long"),
    [
        (0, None, -2.0),
        (1, Quote(1, 1.1875, 1.1876), -2 * 1.1875),
        (2, Quote(1, 1.1875, 1.1876), -2 * 1.1875 * 100_000 / 100 / 360),
        (3, Quote(1, 1.1875, 1.1876), -2 * 1.1875),
        (1, None, 0.0),
    ],
)
def test_terms_of_a_broker(swap_type: int, quote: Quote | None, long: float) -> None:
    terms = Terms.read({**TERMS, "swap_type": swap_type})
    contract = terms.contract(EURUSD, 30, quote)
    assert contract.swap.long == pytest.approx(long)
    assert contract.margin.rate == pytest.approx(0.01 if quote else 1 / 30)
    assert (terms.stop_level, terms.freeze_level, terms.max_lot) == (20, 5, 50.0)


@needs_compiler
def test_symbols_are_the_brokers_without_its_ending() -> None:
    async def main() -> None:
        recordings = [generated(symbol) for symbol in BOTH]
        clock = SteppedClock(NOON)
        async with mt4(recordings, clock, {"suffix": ".m"}, suffix=".m") as (_, market):
            assert await market.list_symbols() == list(BOTH)
            watch = Watch(market, (EURUSD, "1m"))
            await watch.ready()
            clock.advance(NOON + MINUTE)
            await watch.reach(NOON + MINUTE)
            assert watch.klines[EURUSD, "1m"] == minutes_of(EURUSD, NOON, NOON + MINUTE)
            await watch.stop()
        async with mt4(recordings, clock, {"suffix": ".m"}) as (_, market):
            assert await market.list_symbols() == []
            with pytest.raises(UnknownSymbol, match="the setting 'suffix'"):
                await market.get_contract(EURUSD)

    asyncio.run(main())


# --------------------------------------------------------------------------- who may connect


@needs_compiler
def test_a_token_lets_in(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        async with attached(clock, [generated(EURUSD)], Token="s3cret") as terminal:
            for token in ("", "wr0ng"):
                stranger = market_of(terminal, clock, token=token)
                with pytest.raises(NotAllowed, match="set token"):
                    await stranger.connect()
            market = market_of(terminal, clock, token="s3cret")
            await market.connect()
            assert await market.list_symbols() == [EURUSD]
            assert "s3cret" not in repr(vars(market))
            await market.disconnect()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(main())
    assert "s3cret" not in caplog.text
    assert "wr0ng" not in caplog.text


@needs_compiler
def test_keys_let_in(tmp_path: Path) -> None:
    server, friend, stranger = (KeyPair.create(tmp_path, name) for name in ("ea", "me", "who"))
    inputs = {"CurveSecretKey": server.secret, "ClientKeys": friend.public}

    async def main() -> None:
        clock = SteppedClock(NOON)
        async with attached(clock, [generated(EURUSD)], **inputs) as terminal:
            refused: list[tuple[dict[str, Any], str]] = [
                ({}, "asks for keys: set keys and server_key"),
                ({"keys": stranger, "server_key": server.public}, stranger.public),
                ({"keys": friend, "server_key": stranger.public}, "is server_key the advisor's"),
            ]
            for settings, told in refused:
                market = market_of(terminal, clock, **settings)
                with pytest.raises(Unavailable) as error:
                    await market.connect()
                assert told in str(error.value)
            market = market_of(
                terminal, clock, keys=tmp_path / "me.key_secret", server_key=tmp_path / "ea.key"
            )
            await market.connect()
            watch = Watch(market, (EURUSD, "1m"))
            await watch.ready()
            clock.advance(NOON + MINUTE)
            await watch.reach(NOON + MINUTE)
            await watch.stop()
            await market.disconnect()

    asyncio.run(main())


# --------------------------------------------------------------------------- the clock


@needs_compiler
@pytest.mark.parametrize(
    ("server", "setting", "warns"),
    [("EET-US", "EET-US", False), ("UTC", "EET-US", True), ("EET-US", "UTC", True)],
)
def test_a_wrong_time_zone_is_warned_of_by_name(
    server: str, setting: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        shown = {"time_zone": server}
        async with mt4([generated(EURUSD)], clock, shown, time_zone=setting) as (_, market):
            # The first look of the advisor proves nothing; a quote must come.
            while (await market._working().request("ping"))["offset"] is None:
                clock.advance(clock.now() + 15_000)
                await asyncio.sleep(0.01)
            finding = next(f for f in await market.diagnose() if f.check == "time zone")
            assert finding.verdict is (Verdict.DOUBT if warns else Verdict.OK)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    told = [record.getMessage() for record in caplog.records]
    assert any(f"time_zone='{setting}'" in text and "2 h" in text for text in told) == warns
    assert len(told) == len(set(told))


@needs_compiler
def test_what_it_tells_the_doctor() -> None:
    async def main() -> None:
        async with mt4([generated(EURUSD)], SteppedClock(NOON)) as (terminal, market):
            found = {finding.check: finding for finding in await market.diagnose()}
            assert found["expert advisor"].verdict is Verdict.OK
            assert "LiveTrader 1.0 answers in" in found["expert advisor"].found
            assert found["broker"].verdict is Verdict.OK
            assert "Simulated-Demo, a demo account" in found["broker"].found
            assert found["time zone"].verdict is Verdict.SKIPPED
            terminal.switches.connected = False
            found = {finding.check: finding for finding in await market.diagnose()}
            assert found["broker"].verdict is Verdict.FAILED
            await market.disconnect()
            assert await market.diagnose() == []

    asyncio.run(main())


@needs_compiler
def test_a_terminal_without_its_broker_is_told() -> None:
    async def main() -> None:
        states: list[tuple[FeedState, str]] = []
        clock = SteppedClock(NOON)
        recording = generated(EURUSD)
        # Once the broker is back, nobody waits for the next attempt.
        async with mt4([recording], clock, retry=60.0, longest_retry=60.0) as (terminal, market):
            market.on_state = lambda state, reason: states.append((state, reason))
            watch = Watch(market, (EURUSD, "1m"))
            await watch.ready()
            terminal.switches.connected = False
            await eventually(lambda: bool(states))
            assert states[0][0] is FeedState.DISCONNECTED
            assert "no connection to its broker" in states[0][1]
            clock.advance(NOON + 2 * MINUTE)
            other = market_of(terminal, clock)
            with pytest.raises(Unavailable, match="no connection to its broker"):
                await other.connect()
            terminal.switches.connected = True
            await eventually(lambda: states[-1][0] is FeedState.CONNECTED)
            assert len(states) == 2
            await watch.reach(NOON + 2 * MINUTE)
            assert watch.klines[EURUSD, "1m"] == minutes_of(EURUSD, NOON, NOON + 2 * MINUTE)
            await watch.stop()

    asyncio.run(main())


@needs_compiler
def test_the_doctors_whole_round() -> None:
    async def main() -> None:
        clock = SpedClock(NOON, 60.0)
        recordings = [generated(symbol) for symbol in BOTH]
        async with attached(clock, recordings) as terminal:
            market = Mt4Market(terminal.endpoint, clock=clock)
            found = await examine(market, None, 10.0)
        told = {finding.check: finding for finding in found}
        assert {"reachable", "symbols", "bars", "subscription", "broker"} <= set(told)
        bad = [finding for finding in found if finding.verdict is Verdict.FAILED]
        assert not bad
        assert told["subscription"].verdict is Verdict.OK
        assert "tick 1e-05, 100000 USD" in told["symbols"].found

    asyncio.run(main())


def test_quotes_of_friday_are_not_late_but_those_of_a_slow_line_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    codes = ("EURUSD", "GBPUSD", "USDJPY")

    async def main() -> None:
        async with made_up() as advisor:
            ticks: list[Tick] = []
            advisor.answers["hello"]["offset"] = None
            advisor.answers["contract"] = TERMS
            advisor.answers["ping"] = {**BEAT, "offset": None}
            advisor.answers["tick"] = {"time": 1, "bid": 1.1, "ask": 1.2}
            advisor.answers["watch"] = {"watched": 3, "unknown": []}
            market = Mt4Market(advisor.endpoint, time_zone="UTC")
            await market.connect()

            async def read(code: str) -> None:
                async for tick in market.watch_ticks(f"FOREX.{code}"):
                    ticks.append(tick)

            readers = [asyncio.ensure_future(read(code)) for code in codes]
            topics = {b"tick|%s|" % code.encode() for code in codes}
            await eventually(lambda: topics <= advisor.subscribed)
            for number, age in ((1, 200_000), (2, 20)):
                told = time.time() - age
                for place, code in enumerate(codes):
                    body = {"symbol": code, "time": round(told) + place, "bid": 1.1, "ask": 1.2}
                    await advisor.publish(f"tick|{code}|", number, body)
                await eventually(lambda number=number: len(ticks) == 3 * number)
                late = [finding.check for finding in await market.diagnose()]
                assert ("clock" in late) == (number == 2)
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            await market.disconnect()

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert sum("quotes come" in record.getMessage() for record in caplog.records) == 1


# --------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"endpoint": "127.0.0.1:28282"}, "endpoint: "),
        ({"endpoint": "ipc:///tmp/x"}, "endpoint: must be tcp"),
        ({"endpoint": "tcp://there:0"}, "endpoint: "),
        ({"publications": "tcp://there"}, "publications: "),
        ({"token": "ü"}, "token: "),
        ({"token": "x" * 257}, "token: "),
        ({"keys": "/nowhere.key_secret"}, "server_key: keys is set"),
        ({"server_key": "x" * 40}, "keys: server_key is set"),
        ({"keys": "/nowhere.key_secret", "server_key": "x" * 40}, "keys: /nowhere"),
        ({"time_zone": "EET-JP"}, "time_zone: there is no 'EET-JP'"),
        ({"suffix": "a;b"}, "suffix: "),
        ({"markets": []}, "markets: "),
        ({"timeout": -1}, "timeout: "),
        ({"connect_timeout": "soon"}, "connect_timeout: "),
        ({"retry": 0}, "retry: "),
        ({"late_ticks": -1}, "late_ticks: "),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as told:
        Mt4Market(**settings)
    assert str(told.value).startswith(message)
