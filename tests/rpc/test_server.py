"""The server: many requests at once, deadlines, limits, and whatever else may arrive."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
import zmq

from livetrader_core.errors import (
    InvalidRequest,
    LiveTraderError,
    OrderRejected,
    OutcomeUnknown,
    RequestTimeout,
    TooBusy,
    UnknownMethod,
    UnknownSymbol,
    UnknownTimeframe,
    VersionMismatch,
)
from livetrader_core.models import Contract, KillState, OrderStatus, Position
from livetrader_core.rpc import AsyncClient, Client, Server, calls, protocol
from livetrader_core.rpc.calls import Call
from livetrader_core.service import MarketService
from livetrader_core.trade import TradeService
from tests.rpc.wiring import ROOT, ipc_endpoint, opened, run, served, until, until_sync
from tests.support.scripted_market import START
from tests.support.ticking_market import MINUTE, TickingMarket
from tests.trade.scripted_venue import ScriptedVenue, order


def raw(method: str, *args: Any) -> Call[Any]:
    return Call(method, args, lambda reply: reply.result)


class SlowMarket(TickingMarket):
    """Answers for a contract when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.asked = 0
        self.cancelled = 0

    async def get_contract(self, symbol: str) -> Contract:
        self.asked += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await super().get_contract(symbol)


# ---- requests


def test_many_requests_at_once_each_get_their_own_answer() -> None:
    async def main() -> None:
        market = MarketService(TickingMarket(history=200))
        async with served(market) as (_, endpoint), AsyncClient() as client:
            await client.connect(endpoint)

            async def ask(limit: int) -> None:
                klines = await client.get_kline_histories("US.A", None, limit)
                assert len(klines) == limit

            for _ in range(5):
                await asyncio.gather(*(ask(limit) for limit in range(1, 101)))

    run(main)


def test_a_slow_request_does_not_hold_up_the_next() -> None:
    async def main() -> None:
        slow = SlowMarket()
        async with served(MarketService(slow)) as (_, endpoint), AsyncClient() as client:
            await client.connect(endpoint)
            first = asyncio.ensure_future(client.get_contract("US.A"))
            await until(lambda: slow.asked)
            assert await client.list_symbols() == ["US.A"]
            assert not first.done()
            slow.go.set()
            assert (await first).symbol == "US.A"

    run(main)


def test_a_request_that_takes_too_long_is_given_up_on_both_sides() -> None:
    async def main() -> None:
        slow = SlowMarket()
        async with served(MarketService(slow)) as (server, endpoint), AsyncClient() as client:
            await client.connect(endpoint)
            with pytest.raises(RequestTimeout, match="get_contract"):
                await client.call(calls.get_contract("US.A"), timeout=0.05)
            await until(lambda: slow.cancelled == 1)
            assert server.stats()["open_requests"] == 0
            assert server.stats()["timeouts"] == 1

    run(main)


def test_a_late_reply_is_not_taken_for_the_next_ones() -> None:
    async def answer_late(router: zmq.Socket[Any]) -> None:
        requests = []
        while len(requests) < 3:
            await until(lambda: router.poll(0))
            identity, body = router.recv_multipart()
            request = protocol.decode_request(body)
            if request.method == "hello":
                greeting = protocol.Greeting(2, "x", "run", ".events", 1.0, 8, "", {})
                reply = protocol.Reply(greeting.to_dict())
                router.send_multipart([identity, *protocol.encode_reply(request.id, reply)])
                continue
            requests.append(request)
            if len(requests) == 3:  # the answers to the two that were given up come first
                for old in requests:
                    reply = protocol.Reply([str(old.id)])
                    router.send_multipart([identity, *protocol.encode_reply(old.id, reply)])

    async def main() -> None:
        with zmq.Context.instance().socket(zmq.ROUTER) as router:
            router.bind("inproc://late")
            answering = asyncio.ensure_future(answer_late(router))
            async with AsyncClient() as client:
                await client.connect("inproc://late")
                for _ in range(2):
                    with pytest.raises(RequestTimeout):
                        await client.call(calls.list_symbols(), timeout=0.05)
                assert await client.list_symbols() == ["4"]  # hello was 1
            await answering

    run(main)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (raw("no_such_method"), UnknownMethod),
        (raw("__init__"), UnknownMethod),
        (raw("get_contract"), InvalidRequest),
        (raw("get_contract", "US.A", 1), InvalidRequest),
        (raw("get_contract", 5), InvalidRequest),
        (raw("get_contract", "US.NONE"), UnknownSymbol),
        (raw("get_contract", "XX.A"), UnknownSymbol),
        (raw("get_contract", "nonsense"), UnknownSymbol),
        (raw("get_kline_histories", "US.A", None, 0, None, "1m", False), InvalidRequest),
        (raw("get_kline_histories", "US.A", None, 1_000_000, None, "1m", False), InvalidRequest),
        (raw("get_kline_histories", "US.A", None, True, None, "1m", False), InvalidRequest),
        (raw("get_kline_histories", "US.A", None, 1, None, "7m", False), UnknownTimeframe),
        (raw("get_kline_histories", "US.A", 2**63, 1, None, "1m", False), InvalidRequest),
        (raw("subscribe", "US.A|", "1m", None, None), InvalidRequest),
        (raw("subscribe", "US.NONE", "1m", None, None), UnknownSymbol),
        (raw("begin_replay", START, None), InvalidRequest),
        (raw("follow", "me", -1), InvalidRequest),
        (raw("fetch_orders", 0, 1), UnknownMethod),
        (raw("events_after", 0, 0), InvalidRequest),
    ],
)
def test_a_wrong_request_is_answered_with_what_is_wrong(
    call: Call[Any], error: type[Exception]
) -> None:
    async def main() -> None:
        async with served(MarketService(TickingMarket())) as (server, endpoint):
            async with AsyncClient() as client:
                await client.connect(endpoint)
                with pytest.raises(error):
                    await client.call(call)
            assert server.stats()["streams"] == {}

    run(main)


def test_an_order_that_cannot_be_read_is_refused_by_the_field() -> None:
    async def main() -> None:
        trade = TradeService(ScriptedVenue())
        async with served(trade) as (_, endpoint), AsyncClient() as client:
            await client.connect(endpoint)
            for fields in ({}, {"side": "up"}, {**order().to_dict(), "colour": "red"}):
                with pytest.raises(InvalidRequest, match="not an order"):
                    await client.call(raw("create_order", fields))
            with pytest.raises(InvalidRequest, match="quantity"):
                await client.call(raw("create_order", {**order().to_dict(), "quantity": "x"}))

    run(main)


def test_a_failure_inside_is_logged_and_told_without_its_insides(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(TickingMarket):
        async def list_symbols(self) -> list[str]:
            raise ValueError("secret insides")

    async def main() -> None:
        async with served(MarketService(Broken())) as (_, endpoint), AsyncClient() as client:
            await client.connect(endpoint)
            with pytest.raises(LiveTraderError, match="its log says why") as caught:
                await client.list_symbols()
            assert "secret" not in str(caught.value)
            assert (await client.get_contract("US.A")).symbol == "US.A"

    with caplog.at_level(logging.ERROR):
        run(main)
    assert "secret insides" in caplog.text


# ---- limits


def test_a_client_with_too_many_open_requests_is_told_so_and_others_are_served() -> None:
    async def main() -> None:
        slow = SlowMarket()
        async with (
            served(MarketService(slow), max_in_flight=5) as (_, endpoint),
            AsyncClient() as greedy,
            AsyncClient() as other,
        ):
            await greedy.connect(endpoint)
            await other.connect(endpoint)
            asked = [asyncio.ensure_future(greedy.get_contract("US.A")) for _ in range(8)]
            await until(lambda: sum(task.done() for task in asked) == 3)
            assert await other.list_symbols() == ["US.A"]
            slow.go.set()
            results = await asyncio.gather(*asked, return_exceptions=True)
            assert sum(isinstance(result, TooBusy) for result in results) == 3
            assert sum(isinstance(result, Contract) for result in results) == 5
            assert await greedy.list_symbols() == ["US.A"]

    run(main)


def test_a_client_has_only_so_many_streams() -> None:
    async def main() -> None:
        symbols = ["US.A", "US.B", "US.C"]
        market = MarketService(TickingMarket(symbols))
        async with (
            served(market, max_subscriptions=2) as (_, endpoint),
            opened(endpoint) as (session, _),
        ):
            await session.subscribe("US.A")
            await session.subscribe("US.B")
            with pytest.raises(TooBusy, match=r"US\.C"):
                await session.subscribe("US.C")
            await session.unsubscribe("US.A")
            assert len(await session.subscribe("US.C")) == 20

    run(main)


def test_a_message_over_the_limit_does_not_reach_the_server() -> None:
    with ipc_endpoint() as endpoint:

        async def main() -> None:
            async with served(MarketService(TickingMarket()), endpoint=endpoint) as (server, _):
                with zmq.Context.instance().socket(zmq.DEALER) as dealer:
                    dealer.linger = 0
                    dealer.connect(endpoint)
                    dealer.send(b"x" * (protocol.MAX_REQUEST + 1))
                    async with AsyncClient() as client:
                        await client.connect(endpoint)
                        assert await client.list_symbols() == ["US.A"]
                assert server.stats()["bad_frames"] == 0

        run(main)


# ---- bad input


def _rubbish(seeded: random.Random) -> list[bytes]:
    good = protocol.encode_request(
        seeded.randrange(1, 9), seeded.choice(["status", "state", "subscribe", "ack"]), 500, [1]
    )
    kind = seeded.randrange(6)
    if kind == 0:
        return [seeded.randbytes(seeded.randrange(60))]
    if kind == 1:
        return [seeded.randbytes(5) for _ in range(seeded.randrange(1, 6))]
    if kind == 2:
        changed = bytearray(good)
        changed[seeded.randrange(len(changed))] = seeded.randrange(256)
        return [bytes(changed)]
    if kind == 3:
        return [good[: seeded.randrange(len(good))]]
    if kind == 4:
        return [b"\x91" * seeded.randrange(1, 3000)]  # lists in lists
    return [protocol.pack([seeded.randrange(9), "hello", 5, [seeded.randbytes(3), None]])]


def test_two_thousand_rubbish_messages_do_not_end_the_server() -> None:
    seeded = random.Random(7)

    async def main() -> None:
        async with served(MarketService(TickingMarket()), TradeService(ScriptedVenue())) as (
            server,
            endpoint,
        ):
            sockets = [zmq.Context.instance().socket(zmq.DEALER) for _ in range(4)]
            subscriber = zmq.Context.instance().socket(zmq.XSUB)
            try:
                for dealer in sockets:
                    dealer.linger = 0
                    dealer.connect(endpoint)
                subscriber.connect(endpoint + ".events")
                for number in range(2000):
                    seeded.choice(sockets).send_multipart(_rubbish(seeded))
                    subscriber.send(seeded.randbytes(seeded.randrange(1, 50)))
                    if number % 50 == 0:
                        await asyncio.sleep(0)
                async with AsyncClient() as client:
                    await client.connect(endpoint)
                    assert await client.list_symbols() == ["US.A"]
                stats = server.stats()
                assert stats["bad_frames"] > 500
                assert stats["open_requests"] == 0
            finally:
                for socket in (*sockets, subscriber):
                    socket.close(linger=0)

    run(main)


def test_a_bad_request_with_an_id_is_answered() -> None:
    async def main() -> None:
        async with served(MarketService(TickingMarket())) as (_, endpoint):
            with zmq.Context.instance().socket(zmq.DEALER) as dealer:
                dealer.connect(endpoint)
                dealer.send(protocol.pack([41, 5, 5, 5]))
                await until(lambda: dealer.poll(0))
                number, error = protocol.decode_reply(dealer.recv_multipart())
                assert number == 41
                assert type(error).__name__ == "ProtocolError"

    run(main)


def test_another_protocol_version_is_refused_by_both_numbers() -> None:
    async def main() -> None:
        market = MarketService(TickingMarket())
        async with served(market) as (_, endpoint), AsyncClient() as client:
            await client.connect(endpoint)
            for args in ((3, "9.9.9", "inproc"), (99, "9.9.9"), ("x",), ()):
                with pytest.raises(VersionMismatch, match="protocol 2"):
                    await client.call(raw("hello", *args))

    run(main)


def test_a_client_of_another_version_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with ipc_endpoint() as endpoint:
        server = Server(MarketService(TickingMarket()))
        server.bind(endpoint)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            monkeypatch.setattr(protocol, "PROTOCOL", 3)
            with pytest.raises(VersionMismatch, match="speaks protocol 3"):
                Client().connect(endpoint)
        finally:
            server.close()
            thread.join()


# ---- trading


def test_trading_goes_through_with_every_field() -> None:
    async def main() -> None:
        venue = ScriptedVenue()
        async with served(TradeService(venue)) as (_, endpoint), AsyncClient() as client:
            await client.connect(endpoint)
            placed = await client.create_order(order("a-1").but(price=1.5, as_of=START))
            assert placed.status is OrderStatus.ACCEPTED
            assert placed.as_of == START
            assert await client.create_order(order("a-1").but(price=1.5)) == placed
            assert venue.arrived == ["a-1"]
            assert (await client.modify_order("a-1", quantity=5.0)).quantity == 5.0
            venue.fill("a-1", 2.0, "t-1")
            await venue.told()
            assert [fill.quantity for fill in await client.fetch_fills()] == [2.0]
            await client.cancel_order("a-1")
            await venue.told()
            found = await client.fetch_order("a-1")
            assert found is not None
            assert found.status is OrderStatus.CANCELED
            assert await client.fetch_orders() == [found]
            assert await client.fetch_open_orders() == []
            assert await client.fetch_order("never") is None
            assert await client.fetch_positions() == [Position("US.A", 2.0, 100.0)]
            assert await client.fetch_balance() == []
            given_up = await client.give_up_order(order("a-2"))
            assert given_up.status is OrderStatus.REJECTED
            assert (await client.create_order(order("a-2"))) == given_up
            assert (await client.kill(reason="enough")).on
            with pytest.raises(OrderRejected, match=r"kill switch is on \(enough\)"):
                await client.create_order(order("a-3"))
            assert (await client.kill_state()).reason == "enough"
            assert await client.lift() == KillState()
            report = await client.reconcile()
            assert (report.differences, report.foreign, report.blocked) == ((), (), False)
            venue.take(order("theirs"))
            assert [o.client_order_id for o in await client.venue_orders()] == ["theirs"]

    run(main)


def test_many_orders_and_fills_come_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livetrader_core.rpc.client.MAX_EVENTS", 3)

    async def main() -> None:
        venue = ScriptedVenue()
        async with served(TradeService(venue)) as (_, endpoint), AsyncClient() as client:
            await client.connect(endpoint)
            names = [f"a-{number}" for number in range(7)]
            for name in names:
                await client.create_order(order(name))
                venue.fill(name, 1.0, f"t-{name}")
            await venue.told()
            assert [o.client_order_id for o in await client.fetch_orders()] == names
            assert [fill.client_order_id for fill in await client.fetch_fills()] == names
            with pytest.raises(InvalidRequest, match="limit must lie between"):
                await client.call(raw("fetch_orders", 0, 1_000_000))
            with pytest.raises(InvalidRequest, match="offset must not be negative"):
                await client.call(raw("fetch_fills", 0, -1, 5))

    run(main)


def test_an_order_without_an_answer_is_unknown_and_never_a_plain_timeout() -> None:
    async def main() -> None:
        venue = ScriptedVenue()
        held = asyncio.Event()

        async def hold(_: object) -> None:
            await held.wait()

        venue.on_create = hold
        async with served(TradeService(venue)) as (_, endpoint), AsyncClient() as client:
            await client.connect(endpoint)
            with pytest.raises(OutcomeUnknown, match="create_order"):
                await client.call(calls.create_order(order("a-1")), timeout=0.1)
            held.set()  # it had reached the venue, and goes on there
            await until(lambda: "a-1" in venue.orders)
            assert (await client.create_order(order("a-1"))).status is OrderStatus.ACCEPTED
            assert venue.arrived == ["a-1"]

    run(main)


# ---- life


def test_the_status_tells_what_there_is() -> None:
    async def main() -> None:
        market = TickingMarket()
        services = (MarketService(market), TradeService(ScriptedVenue()))
        async with served(*services) as (_, endpoint), opened(endpoint) as (session, events):
            await session.subscribe("US.A")
            await market.close_one(3)
            await until(lambda: len(events) == 6)
            status = await session.status()
            assert status["start_id"] == session.info.start_id
            assert status["streams"] == {"US.A 1m": 3}
            assert status["clocks"] == {"US": START + 23 * MINUTE}
            assert status["clients"] >= 1
            assert status["uptime"] >= 0
            assert session.info.markets["US"].trade == "live"

    run(main)


@pytest.mark.parametrize("services", [(), ("text",)])
def test_what_is_no_service_is_refused(services: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidRequest):
        Server(*services)


def test_a_second_market_service_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="second"):
        Server(MarketService(TickingMarket()), MarketService(TickingMarket()))


def test_a_server_is_ended_while_a_venue_does_not_answer() -> None:
    class Silent(TickingMarket):
        async def connect(self) -> None:
            await asyncio.sleep(60.0)

    with ipc_endpoint() as endpoint:
        server = Server(MarketService(Silent()))
        server.bind(endpoint)
        thread = threading.Thread(target=server.run)
        thread.start()
        time.sleep(0.2)
        server.close()
        thread.join(10.0)
        assert not thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_server_process_cleanly(number: signal.Signals) -> None:
    code = (
        "import sys; from livetrader_core.rpc import Server;"
        "from livetrader_core.service import MarketService;"
        "from tests.support.ticking_market import TickingMarket;"
        "server = Server(MarketService(TickingMarket(interval=0.01)));"
        "server.bind(sys.argv[1]); server.run()"
    )
    with ipc_endpoint() as endpoint:
        process = subprocess.Popen(
            [sys.executable, "-c", code, endpoint],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with Client(timeout=20) as client:
            client.connect(endpoint)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, b"", b"")


def test_a_server_in_a_thread_leaves_nothing_behind() -> None:
    threads = threading.active_count()
    with ipc_endpoint() as endpoint:
        server = Server(MarketService(TickingMarket(interval=0.005)))
        server.bind(endpoint)
        thread = threading.Thread(target=server.run)
        thread.start()
        with Client() as client:
            client.connect(endpoint)
            until_sync(lambda: client.status()["published"] > 2)
        server.close()
        server.close()
        thread.join(10)
    assert threading.active_count() == threads


def test_close_before_run_ends_it_at_once() -> None:
    server = Server(MarketService(TickingMarket()))
    server.bind("inproc://early")
    server.close()
    server.run()
