"""RemoteSession: nothing missing, nothing twice, nothing out of order."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from livetrader_core.errors import (
    LiveTraderError,
    NotConnected,
    RequestTimeout,
    UnknownSymbol,
)
from livetrader_core.models import Clock, FeedState, FeedStatus, Kline, TradeEvent
from livetrader_core.rpc import AsyncClient, RemoteSession, Server, protocol
from livetrader_core.rpc.endpoints import Endpoint
from livetrader_core.service import MarketService
from livetrader_core.trade import TradeService
from tests.rpc.wiring import ipc_endpoint, joined, opened, run, served, until
from tests.support.line import NEAR, Line
from tests.support.scripted_market import START
from tests.support.serving import serving
from tests.support.ticking_market import MINUTE, TickingMarket, tick_kline
from tests.trade.scripted_venue import ScriptedVenue, order

BEAT = 0.05


def numbers(events: list[Any], symbol: str = "US.A") -> list[int]:
    return [int(e.volume) for e in events if isinstance(e, Kline) and e.symbol == symbol]


def trade_numbers(events: list[Any]) -> list[int]:
    return [e.seq for e in events if isinstance(e, TradeEvent)]


def states(events: list[Any]) -> list[FeedState]:
    return [e.state for e in events if isinstance(e, FeedStatus)]


def lose(server: Server, which: Callable[[bytes], bool]) -> Callable[[], None]:
    """Publications with such topics are lost from now on, until the returned is called."""
    publisher = server._publisher
    send = publisher._send

    def lossy(topic: bytes, body: bytes) -> None:
        if not which(topic):
            send(topic, body)

    publisher._send = lossy

    def mend() -> None:
        publisher._send = send

    return mend


def in_order(events: list[Any], symbols: list[str]) -> None:
    """No clock may come before the klines of its moment, nor before its trade events."""
    newest = dict.fromkeys(symbols, -1)
    traded = 0
    for event in events:
        if isinstance(event, Kline):
            assert event.datetime > newest[event.symbol]
            newest[event.symbol] = event.datetime
        elif isinstance(event, TradeEvent):
            assert event.seq == traded + 1
            traded = event.seq
        elif isinstance(event, Clock):
            assert all(ts == -1 or ts + MINUTE >= event.datetime for ts in newest.values())
            assert traded >= event.trade_seq


# ---- the good case


@pytest.mark.parametrize("lag", [-1, 0, 2])
@pytest.mark.parametrize("limit", [None, 5, 0])
def test_history_and_stream_join_without_a_hole(lag: int, limit: int | None) -> None:
    async def main() -> None:
        # Its history is behind what was published, or ahead of it.
        market = TickingMarket(interval=0.001, lag=max(lag, 0))
        if lag < 0:
            close = market.close_one

            async def slowly(count: int = 1) -> None:
                market.lag = -1
                await asyncio.sleep(0.002)
                market.lag = 0
                await close(count)

            market.close_one = slowly  # type: ignore[method-assign]
        with ipc_endpoint() as path:
            await join_again_and_again(market, path)

    async def join_again_and_again(market: TickingMarket, path: str) -> None:
        async with served(MarketService(market), endpoint=path) as (_, endpoint):
            async with opened(endpoint) as (session, events):
                await session.subscribe("US.A", limit=0)
                await until(lambda: len(numbers(events)) > lag)
            for _ in range(10):
                async with opened(endpoint) as (session, events):
                    history = await session.subscribe("US.A", limit=limit)
                    assert limit is None or len(history) == limit
                    await until(lambda: len(numbers(events)) > 10)
                    got = [int(k.volume) for k in history] + numbers(events)
                    assert got == list(range(got[0], got[0] + len(got)))
                    assert session.breaks == 0

    run(main)


def test_events_follow_in_the_order_of_publication() -> None:
    async def main() -> None:
        market = TickingMarket(["US.A", "US.B"])
        async with joined(MarketService(market)) as (_, session, events):
            await session.subscribe("US.A")
            await session.subscribe("US.B", limit=0)
            await market.close_one(2)
            await until(lambda: len(events) == 6)
            moment = START + 21 * MINUTE
            assert events[:3] == [
                tick_kline("US.A", 20),
                tick_kline("US.B", 20),
                Clock(("US",), moment),
            ]

    run(main)


def test_a_second_subscription_gives_history_and_disturbs_nothing() -> None:
    async def main() -> None:
        market = TickingMarket()
        async with joined(MarketService(market)) as (_, session, events):
            both = await asyncio.gather(*(session.subscribe("US.A") for _ in range(2)))
            assert [len(klines) for klines in both] == [20, 20]
            await market.close_one(2)
            assert len(await session.subscribe("US.A", limit=3)) == 3
            assert len(await session.subscribe("US.A", limit=0)) == 0
            await market.close_one()
            await until(lambda: len(numbers(events)) >= 3)
            assert numbers(events) == [20, 21, 22]

    run(main)


def test_after_unsubscribing_nothing_comes_and_it_can_be_taken_up_again() -> None:
    async def main() -> None:
        market = TickingMarket()
        async with joined(MarketService(market)) as (_, session, events):
            await session.subscribe("US.A")
            await session.unsubscribe("US.A")
            await market.close_one(3)
            await until(lambda: len(events) == 3)  # clocks
            assert numbers(events) == []
            assert len(await session.subscribe("US.A")) == 23
            await market.close_one()
            await until(lambda: numbers(events) == [23])

    run(main)


def test_a_subscription_that_fails_leaves_nothing() -> None:
    async def main() -> None:
        async with joined(MarketService(TickingMarket())) as (_, session, _):
            for _ in range(2):
                with pytest.raises(UnknownSymbol):
                    await session.subscribe("US.NONE")
            assert len(await session.subscribe("US.A")) == 20

    run(main)


def test_a_listener_that_fails_loses_only_what_it_failed_on() -> None:
    async def main() -> None:
        market = TickingMarket(clocked=False)
        got: list[int] = []

        def listener(event: Any) -> None:
            if isinstance(event, Kline):
                got.append(int(event.volume))
                raise ValueError("a bug of the user's")

        async with served(MarketService(market)) as (_, endpoint):
            session = RemoteSession(endpoint)
            await session.open(listener)
            await session.subscribe("US.A")
            await market.close_one(3)
            await until(lambda: got == [20, 21, 22])
            assert session.breaks == 0
            await session.close()
            await session.close()

    run(main)


# ---- losses


@pytest.mark.parametrize("lost", ["some", "the last", "more than is remembered"])
def test_lost_klines_are_filled_in_and_told(lost: str) -> None:
    count = 400 if lost == "more than is remembered" else 3

    async def main() -> None:
        market = TickingMarket(clocked=False)
        async with joined(MarketService(market), heartbeat=BEAT) as (server, session, events):
            await session.subscribe("US.A")
            await market.close_one(2)
            mend = lose(server, lambda topic: topic.startswith(b"k|"))
            await market.close_one(count)
            mend()
            if lost != "the last":
                await market.close_one()
            await until(lambda: len(numbers(events)) == market.count - 20)
            await until(lambda: states(events)[-1:] == [FeedState.CONNECTED])
            await market.close_one(2)
            await until(lambda: len(numbers(events)) == market.count - 20)
            assert numbers(events) == list(range(20, market.count))
            assert states(events) == [FeedState.DISCONNECTED, FeedState.CONNECTED]

    run(main)


def test_a_clock_waits_for_the_klines_of_its_moment() -> None:
    async def main() -> None:
        market = TickingMarket()
        async with joined(MarketService(market), heartbeat=10.0) as (server, session, events):
            await session.subscribe("US.A")
            mend = lose(server, lambda topic: topic.startswith(b"k|"))
            await market.close_one()
            mend()
            await until(lambda: any(isinstance(e, Clock) for e in events))
            assert numbers(events) == [20]
            in_order(events, ["US.A"])

    run(main)


def test_a_lost_clock_or_end_is_told_after_the_next_heartbeat() -> None:
    async def main() -> None:
        market = TickingMarket()
        service = MarketService(market)
        async with joined(service, heartbeat=BEAT) as (server, session, events):
            await session.subscribe("US.A")
            mend = lose(server, lambda topic: topic == protocol.CONTROL)
            await market.close_one()
            service._publish(FeedStatus(("US",), FeedState.ENDED, "over"))
            mend()
            await until(lambda: FeedState.ENDED in states(events))
            assert Clock(("US",), START + 21 * MINUTE) in events
            in_order(events, ["US.A"])
            assert states(events) == [FeedState.DISCONNECTED, FeedState.ENDED]

    run(main)


def test_who_comes_late_is_told_the_clock_and_the_end() -> None:
    async def main() -> None:
        market = TickingMarket()
        service = MarketService(market)
        async with served(service) as (_, endpoint):
            await market.close_one()
            service._publish(FeedStatus(("US",), FeedState.ENDED, "over"))
            async with opened(endpoint) as (_, events):
                assert events == [
                    Clock(("US",), START + 21 * MINUTE),
                    FeedStatus(("US",), FeedState.ENDED, "over"),
                ]

    run(main)


def test_a_subscriber_too_slow_for_its_buffers_gets_everything_all_the_same() -> None:
    async def main() -> None:
        market = TickingMarket(clocked=False)
        async with joined(MarketService(market), heartbeat=BEAT, hwm=10) as (
            server,
            session,
            events,
        ):
            await session.subscribe("US.A")
            for _ in range(3):
                for _ in range(500):  # nobody reads meanwhile
                    server._publisher.on_market(tick_kline("US.A", market.count))
                    market.count += 1
                await until(lambda: len(numbers(events)) == market.count - 20)
            assert numbers(events) == list(range(20, market.count))
            assert session.breaks >= 3

    run(main)


def test_rubbish_among_the_publications_is_passed_over() -> None:
    async def main() -> None:
        market = TickingMarket()
        async with joined(MarketService(market)) as (server, session, events):
            await session.subscribe("US.A")
            seeded = random.Random(3)
            for topic in (protocol.CONTROL, protocol.HEARTBEAT, b"k|US.A|1m\0"):
                for _ in range(50):
                    server._publish(topic, seeded.randbytes(seeded.randrange(30)))
            await market.close_one()
            await until(lambda: numbers(events) == [20])

    run(main)


# ---- lines and servers that break


def test_a_silent_line_is_told_within_three_beats_and_repaired() -> None:
    async def main() -> None:
        market = TickingMarket(["US.A", "US.B"], interval=0.002)
        trade = TradeService(ScriptedVenue())
        async with served(
            MarketService(market), trade, endpoint="tcp://127.0.0.1:*", heartbeat=BEAT
        ) as (_, endpoint):
            async with AsyncClient() as client:
                events_port = int((await client.connect(endpoint)).events)
            port = Endpoint.parse(endpoint).port
            async with (
                Line([port, events_port]) as line,
                opened(f"tcp://{NEAR}:{port}", 0, timeout=0.5) as (session, events),
            ):
                await session.subscribe("US.A", limit=0)
                await session.subscribe("US.B", limit=0)
                for number in range(4):
                    await trade.create_order(order(f"a-{number}"))
                    before = len(events)
                    line.stall()
                    began = time.monotonic()
                    await until(lambda: FeedState.DISCONNECTED in states(events[before:]))  # noqa: B023
                    assert time.monotonic() - began < 10 * BEAT
                    await trade.create_order(order(f"b-{number}"))
                    line.cut()
                    await asyncio.sleep(0.05 * number)
                    line.restore()
                    await until(lambda: states(events[before:])[-1] is FeedState.CONNECTED)  # noqa: B023
                market.pause()
                await until(lambda: numbers(events)[-1] == market.count - 1)
                for symbol in ("US.A", "US.B"):
                    got = numbers(events, symbol)
                    assert got == list(range(got[0], market.count))
                in_order(events, ["US.A", "US.B"])
                assert trade_numbers(events) == list(range(1, trade.seq + 1))

    run(main)


def test_a_loop_that_was_busy_takes_no_line_for_dead() -> None:
    def make() -> tuple[object, ...]:
        return (MarketService(TickingMarket(interval=0.005)),)

    async def main(endpoint: str) -> None:
        async with opened(endpoint) as (session, events):
            await session.subscribe("US.A", limit=0)
            for _ in range(4):
                time.sleep(6 * BEAT)  # noqa: ASYNC251
                await asyncio.sleep(BEAT)
            assert states(events) == []
            assert session.breaks == 0

    with serving(make, heartbeat=BEAT) as endpoint:
        run(lambda: main(endpoint))


def test_requests_while_the_line_is_down_end_within_their_timeout() -> None:
    async def main() -> None:
        with ipc_endpoint() as endpoint:
            server = Server(MarketService(TickingMarket()), heartbeat=BEAT)
            server.bind(endpoint)
            await server.start()
            async with opened(endpoint, timeout=0.3) as (session, events):
                await server.stop()
                for _ in range(3):
                    began = time.monotonic()
                    with pytest.raises((NotConnected, RequestTimeout)):
                        await session.list_symbols()
                    with pytest.raises(LiveTraderError):
                        await session.subscribe("US.A")
                    with pytest.raises(LiveTraderError):
                        await session.create_order(order())
                    assert time.monotonic() - began < 1.5
                assert states(events) == [FeedState.DISCONNECTED]

    run(main)


@pytest.mark.parametrize("meanwhile", [0, 3, 600])
def test_a_server_that_was_started_anew_goes_on_where_the_old_one_ended(
    meanwhile: int, tmp_path: Path
) -> None:
    async def start(endpoint: str, count: int) -> tuple[Server, TickingMarket, TradeService]:
        market = TickingMarket(["US.A", "US.B"], history=count)
        trade = TradeService(ScriptedVenue(), tmp_path / "journal")
        server = Server(MarketService(market), trade, heartbeat=BEAT)
        server.bind(endpoint)
        await server.start()
        return server, market, trade

    async def main() -> None:
        with ipc_endpoint() as endpoint:
            server, market, trade = await start(endpoint, 20)
            async with opened(endpoint, 0, timeout=1.0) as (session, events):
                await session.subscribe("US.A")
                await session.subscribe("US.B")
                await session.follow(5)
                await market.close_one(3)
                await session.create_order(order("a-1"))
                await until(lambda: numbers(events, "US.B") == [20, 21, 22])
                first = session.info.start_id
                await server.stop()
                server, market, trade = await start(endpoint, market.count + meanwhile)
                await until(lambda: session.info.start_id != first)
                await trade.create_order(order("a-2"))
                await market.close_one(2)
                for symbol in ("US.A", "US.B"):
                    await until(lambda: numbers(events, symbol)[-1] == market.count - 1)  # noqa: B023
                    assert numbers(events, symbol) == list(range(20, market.count))
                await until(lambda: server.stats()["followers"])
                await until(lambda: len(trade_numbers(events)) == trade.seq)
                assert trade_numbers(events) == list(range(1, trade.seq + 1))
                assert states(events) == [FeedState.DISCONNECTED, FeedState.CONNECTED]
                assert (await session.create_order(order("a-1"))).client_order_id == "a-1"
            await server.stop()

    run(main)


def test_a_server_that_begins_anew_with_its_recording_gives_nothing_twice() -> None:
    async def main() -> None:
        with ipc_endpoint() as endpoint:
            market = TickingMarket()
            async with served(MarketService(market), endpoint=endpoint, heartbeat=BEAT):
                session = RemoteSession(endpoint, timeout=1.0)
                events: list[Any] = []
                await session.open(events.append, None)
                await session.subscribe("US.A")
                await market.close_one(10)
                await until(lambda: numbers(events) == list(range(20, 30)))
                first = session.info.start_id
            market = TickingMarket()
            async with served(MarketService(market), endpoint=endpoint, heartbeat=BEAT):
                await until(lambda: session.info.start_id != first)
                await until(lambda: states(events)[-1] is FeedState.CONNECTED)
                await market.close_one(15)
                await until(lambda: numbers(events)[-1] == 34)
                await session.close()
            assert numbers(events) == list(range(20, 35))

    run(main)


# ---- trade events


def test_trade_events_are_replayed_from_any_number_and_none_is_lost() -> None:
    async def main() -> None:
        trade = TradeService(ScriptedVenue())
        async with served(trade, heartbeat=BEAT) as (server, endpoint):
            for number in range(30):
                await trade.create_order(order(f"a-{number}"))
            assert trade.seq == 60
            async with (
                opened(endpoint, 0) as (_, everything),
                opened(endpoint, 57) as (_, some),
                opened(endpoint, -1) as (_, later),
                opened(endpoint) as (_, none),
            ):
                await trade.create_order(order("b-1"))
                mend = lose(server, lambda topic: topic == protocol.TRADE)
                await trade.create_order(order("b-2"))
                mend()
                for events, first in ((everything, 1), (some, 58), (later, 61)):
                    await until(lambda: trade_numbers(events)[-1:] == [64])  # noqa: B023
                    assert trade_numbers(events) == list(range(first, 65))
                assert trade_numbers(none) == []

    run(main)


def test_trade_events_beyond_a_page_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_EVENTS", 7)

    async def main() -> None:
        trade = TradeService(ScriptedVenue())
        async with served(trade) as (_, endpoint):
            for number in range(15):
                await trade.create_order(order(f"a-{number}"))
            async with opened(endpoint, 1) as (_, events):
                assert [e.seq for e in events] == list(range(2, 31))

    run(main)


# ---- pacing


class PacedMarket(TickingMarket):
    paced = True


def test_a_paced_stream_waits_for_the_acknowledgement() -> None:
    async def main() -> None:
        market = PacedMarket(interval=0.001)
        service = MarketService(market)
        async with joined(service, heartbeat=BEAT) as (_, session, events):
            await session.subscribe("US.A", limit=0)
            await session.follow(2)

            def clocks() -> list[int]:
                return [e.datetime for e in events if isinstance(e, Clock)]

            for _ in range(10):
                await until(lambda: len(clocks()) > 0)
                acked = clocks()[-1]
                await session.ack(acked)
                await until(lambda: clocks()[-1] == acked + 3 * MINUTE)  # noqa: B023
                await asyncio.sleep(0.01)
                assert clocks()[-1] == acked + 3 * MINUTE
            await session.close()
            assert service.pacer.followers == ()

    run(main)


def test_an_acknowledgement_waits_for_the_orders_of_its_moment() -> None:
    async def main() -> None:
        venue = ScriptedVenue()
        held = asyncio.Event()

        async def hold(_: object) -> None:
            await held.wait()

        venue.on_create = hold
        service = MarketService(PacedMarket())
        async with joined(service, TradeService(venue)) as (_, session, _):
            await session.follow()
            placing = asyncio.ensure_future(session.create_order(order()))
            await until(lambda: venue.arrived)
            acking = asyncio.ensure_future(session.ack(START))
            await asyncio.sleep(0.05)
            follower = next(iter(service.pacer._followers.values()))
            assert not acking.done()
            assert follower.acked == -1
            held.set()
            await asyncio.gather(placing, acking)
            await until(lambda: follower.acked == START)

    run(main)


def test_a_follower_stays_in_while_its_session_lives_and_a_dead_one_is_dropped() -> None:
    async def main() -> None:
        market = PacedMarket(interval=0.001)
        service = MarketService(market)
        service.pacer.lease = 0.3
        async with joined(service, heartbeat=BEAT) as (_, session, _):
            await session.follow()
            await asyncio.sleep(0.6)
            assert len(service.pacer.followers) == 1
            session._monitor.cancel()  # type: ignore[union-attr]
            await until(lambda: service.pacer.followers == ())

    run(main)
