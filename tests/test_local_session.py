"""LocalSession: the same as a session with a server, without a wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from livetrader_core.errors import InvalidRequest, NotConnected, UnknownSymbol
from livetrader_core.local import LocalSession
from livetrader_core.market import ReplayMarket
from livetrader_core.models import Clock, FeedState, FeedStatus, Kline, TradeEvent
from livetrader_core.rpc import RemoteSession, Server
from livetrader_core.service import MarketService
from livetrader_core.session import Session
from livetrader_core.trade import TradeService
from tests.rpc.wiring import run, until
from tests.support.scripted_market import START
from tests.support.ticking_market import MINUTE, TickingMarket, tick_kline
from tests.trade.scripted_venue import ScriptedVenue, order

DAY = 1_762_214_400_000  # 2025-11-04, a Tuesday
both = pytest.mark.parametrize("kind", ["local", "remote"])


@asynccontextmanager
async def opened(
    kind: str,
    market: MarketService | None = None,
    trade: TradeService | None = None,
    trade_from: int | None = None,
) -> AsyncIterator[tuple[Session, list[Any]]]:
    """A session of either kind, and what it delivers."""
    events: list[Any] = []
    server: Server | None = None
    session: Session
    if kind == "local":
        session = LocalSession(market, trade)
    else:
        server = Server(*(s for s in (market, trade) if s is not None), heartbeat=0.1)
        session = RemoteSession(server.bind("inproc://alike"))
        await server.start()
    await session.open(events.append, trade_from)
    try:
        yield session, events
    finally:
        await session.close()
        if server is not None:
            await server.stop()


def numbers(events: list[Any]) -> list[int]:
    return [int(event.volume) for event in events if isinstance(event, Kline)]


@both
@pytest.mark.parametrize("ahead", [0, 1])
def test_history_and_stream_join_without_a_hole(kind: str, ahead: int) -> None:
    async def main() -> None:
        # Its history may have a kline before it is published.
        market = TickingMarket(interval=0.001, lag=-ahead)
        async with opened(kind, MarketService(market)) as (session, events):
            history = await session.subscribe("US.A", limit=7)
            await until(lambda: len(numbers(events)) > 20)
            got = [int(kline.volume) for kline in history] + numbers(events)
            assert got == list(range(got[0], got[0] + len(got)))

    run(main)


@both
def test_only_what_was_subscribed_comes_and_only_while_it_is(kind: str) -> None:
    async def main() -> None:
        market = TickingMarket(["US.A", "US.B"])
        service = MarketService(market)
        async with opened(kind, service) as (session, events):
            await service.watch("US.B")
            await session.subscribe("US.A", limit=0)
            await market.close_one()
            await until(lambda: len(events) == 2)
            assert events == [tick_kline("US.A", 20), Clock(("US",), START + 21 * MINUTE)]
            await session.unsubscribe("US.A")
            await market.close_one()
            await until(lambda: len(events) == 3)
            assert events[2] == Clock(("US",), START + 22 * MINUTE)

    run(main)


@both
def test_a_second_subscription_disturbs_nothing(kind: str) -> None:
    async def main() -> None:
        market = TickingMarket()
        async with opened(kind, MarketService(market)) as (session, events):
            histories = await asyncio.gather(*(session.subscribe("US.A") for _ in range(3)))
            assert [len(history) for history in histories] == [20, 20, 20]
            await market.close_one(3)
            await until(lambda: numbers(events) == [20, 21, 22])

    run(main)


@both
def test_what_there_is_not(kind: str) -> None:
    async def main() -> None:
        async with opened(kind, MarketService(TickingMarket())) as (session, _):
            with pytest.raises(UnknownSymbol):
                await session.subscribe("US.NONE")
            with pytest.raises(InvalidRequest):
                await session.subscribe("US.A", limit=-1)
            with pytest.raises(InvalidRequest):
                await session.begin_replay(START)
            assert len(await session.subscribe("US.A")) == 20
            assert session.info.markets["US"].clocked
            assert session.info.markets["US"].trade is None

    run(main)


def test_a_session_without_a_service_says_so() -> None:
    async def main() -> None:
        async with opened("local", MarketService(TickingMarket())) as (session, _):
            with pytest.raises(NotConnected, match="trade"):
                await session.fetch_orders()
        async with opened("local", None, TradeService(ScriptedVenue())) as (session, _):
            with pytest.raises(NotConnected, match="market"):
                await session.subscribe("US.A")

    run(main)


@both
@pytest.mark.parametrize(("trade_from", "first"), [(0, 1), (3, 4), (-1, 5)])
def test_trade_events_from_a_number_on(kind: str, trade_from: int, first: int) -> None:
    async def main() -> None:
        trade = TradeService(ScriptedVenue())
        await trade.connect()
        for number in range(2):
            await trade.create_order(order(f"a-{number}"))
        async with opened(kind, None, trade, trade_from) as (session, events):
            assert (await session.create_order(order("b-1"))).order_id == "v-b-1"
            await until(lambda: len(events) == 7 - first)
            assert [event.seq for event in events] == list(range(first, 7))

    run(main)


@both
def test_trade_events_come_before_the_clock_that_counts_them(kind: str) -> None:
    async def main() -> None:
        market, trade = TickingMarket(), TradeService(ScriptedVenue())
        async with opened(kind, MarketService(market), trade, 0) as (session, events):
            await session.subscribe("US.A", limit=0)
            for number in range(20):
                await trade.create_order(order(f"a-{number}"))
                await market.close_one()
            await until(lambda: numbers(events)[-1:] == [39])
            await until(lambda: isinstance(events[-1], Clock))
            seq = 0
            for event in events:
                if isinstance(event, TradeEvent):
                    seq = event.seq
                elif isinstance(event, Clock):
                    assert event.trade_seq <= seq
            assert seq == trade.seq == 40

    run(main)


@both
def test_a_replay_moves_with_its_acknowledgements_and_ends(kind: str) -> None:
    start = DAY + 15 * 3_600_000
    end = start + 30 * MINUTE

    async def main() -> None:
        symbols = ["US.BABA", "FOREX.EURUSD"]
        market = ReplayMarket("generated", speed="max", symbols=symbols)
        async with opened(kind, MarketService(market)) as (session, events):
            await session.follow()
            await session.begin_replay(start, end)
            history = [await session.subscribe(symbol, limit=3) for symbol in symbols]
            assert [int(k.datetime[-1]) for k in history] == [start - MINUTE] * 2
            acked = -1
            while not (events and isinstance(events[-1], FeedStatus)):
                clocks = [event.datetime for event in events if isinstance(event, Clock)]
                assert all(ts <= max(acked, start) + MINUTE for ts in clocks)
                if clocks and clocks[-1] > acked:
                    acked = clocks[-1]
                    await session.ack(acked)
                await asyncio.sleep(0.001)
            assert events[-1].state is FeedState.ENDED
            for symbol in symbols:
                got = [e.datetime for e in events if isinstance(e, Kline) and e.symbol == symbol]
                assert got == list(range(start, end, MINUTE))

    run(main)


@both
def test_a_follower_that_thinks_for_longer_than_the_lease_is_waited_for(kind: str) -> None:
    class Paced(TickingMarket):
        paced = True

    async def main() -> None:
        service = MarketService(Paced())
        service.pacer.lease = 0.2
        async with opened(kind, service) as (session, _):
            await session.follow()
            waiting = asyncio.ensure_future(service.pacer.wait(START))
            await asyncio.sleep(0.5)
            assert len(service.pacer.followers) == 1
            assert not waiting.done()
            await session.ack(START)
            await asyncio.wait_for(waiting, 2)

    run(main)


def test_an_acknowledgement_waits_for_orders_but_not_for_the_tasks_that_placed_them() -> None:
    async def main() -> None:
        venue = ScriptedVenue()
        held = asyncio.Event()

        async def hold(_: object) -> None:
            await held.wait()

        venue.on_create = hold
        service = MarketService(TickingMarket())
        async with opened("local", service, TradeService(venue)) as (session, _):
            await session.follow()

            async def trader() -> None:
                await session.create_order(order())
                await asyncio.Event().wait()

            trading = asyncio.ensure_future(trader())
            await until(lambda: venue.arrived)
            acking = asyncio.ensure_future(session.ack(START))
            await asyncio.sleep(0.02)
            assert not acking.done()
            held.set()
            await asyncio.wait_for(acking, 2)
            trading.cancel()
            await asyncio.gather(trading, return_exceptions=True)

    run(main)


def test_a_listener_that_fails_ends_no_stream() -> None:
    async def main() -> None:
        market = TickingMarket()
        got: list[Any] = []

        def listener(event: Any) -> None:
            got.append(event)
            raise ValueError("a bug of the user's")

        session = LocalSession(MarketService(market))
        await session.open(listener)
        await session.subscribe("US.A", limit=0)
        await market.close_one(3)
        assert numbers(got) == [20, 21, 22]
        await session.close()
        await session.close()

    run(main)
