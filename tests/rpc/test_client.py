"""The blocking client and its asynchronous twin."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import zmq

from livetrader_core.errors import (
    LiveTraderError,
    NotConnected,
    OutcomeUnknown,
    RequestTimeout,
    TooBusy,
    UnknownSymbol,
)
from livetrader_core.models import OrderStatus
from livetrader_core.rpc import AsyncClient, Client, Server, protocol
from livetrader_core.service import MarketService
from livetrader_core.trade import TradeService
from tests.rpc.wiring import ipc_endpoint, run
from tests.support.serving import serving
from tests.support.ticking_market import TickingMarket, tick_kline
from tests.trade.scripted_venue import ScriptedVenue, order


@pytest.fixture
def endpoint() -> Iterator[str]:
    def make() -> tuple[object, ...]:
        return MarketService(TickingMarket(history=300)), TradeService(ScriptedVenue())

    with serving(make) as bound:
        yield bound


@pytest.fixture
def mute() -> Iterator[str]:
    """An endpoint where somebody greets and never answers again."""
    with ipc_endpoint() as bound:
        ended = threading.Event()

        def greet() -> None:
            with zmq.Context.instance().socket(zmq.ROUTER) as router:
                router.linger = 0
                router.bind(bound)
                while not ended.is_set():
                    if not router.poll(10):
                        continue
                    identity, body = router.recv_multipart()
                    request = protocol.decode_request(body)
                    if request.method == "hello":
                        greeting = protocol.Greeting(2, "x", "run", ".events", 1.0, 8, "", {})
                        reply = protocol.Reply(greeting.to_dict())
                        router.send_multipart([identity, *protocol.encode_reply(request.id, reply)])

        thread = threading.Thread(target=greet)
        thread.start()
        yield bound
        ended.set()
        thread.join()


def test_the_documented_use(endpoint: str) -> None:
    client = Client()
    client.connect(endpoint)
    klines = client.get_kline_histories("US.A", None, 100)
    client.close()
    assert list(klines) == [tick_kline("US.A", n) for n in range(200, 300)]


def test_every_question(endpoint: str) -> None:
    with Client() as client:
        client.connect(endpoint)
        assert client.list_symbols() == ["US.A"]
        assert client.get_contract("US.A").currency == "USD"
        assert client.status()["version"]
        assert client.create_order(order("a-1")).status is OrderStatus.ACCEPTED
        assert [o.client_order_id for o in client.fetch_orders()] == ["a-1"]
        assert [o.client_order_id for o in client.fetch_open_orders()] == ["a-1"]
        assert client.modify_order("a-1", price=2.0).price == 2.0
        client.cancel_order("a-1")
        assert client.fetch_order("b-1") is None
        assert client.fetch_fills() == []
        assert client.fetch_positions() == []
        assert client.fetch_balance() == []
        with pytest.raises(UnknownSymbol, match=r"US\.NONE"):
            client.get_contract("US.NONE")


def test_the_client_works_inside_a_running_loop(endpoint: str) -> None:
    async def main() -> None:
        with Client() as client:
            client.connect(endpoint)
            assert len(client.get_kline_histories("US.A", None, 5)) == 5

    run(main)


def test_threads_share_a_client(endpoint: str) -> None:
    with Client() as client, ThreadPoolExecutor(8) as pool:
        client.connect(endpoint)
        lengths = pool.map(
            lambda limit: len(client.get_kline_histories("US.A", None, limit)), range(1, 200)
        )
        assert list(lengths) == list(range(1, 200))


@pytest.mark.parametrize("target", ["ipc:///tmp/nobody-here", "tcp://127.0.0.1:9", "inproc://no"])
def test_a_dead_endpoint_is_an_error_within_the_timeout_that_names_it(target: str) -> None:
    async def main() -> None:
        with pytest.raises((NotConnected, RequestTimeout), match=target):
            await AsyncClient(timeout=0.2).connect(target)

    began = time.monotonic()
    with pytest.raises((NotConnected, RequestTimeout), match=target):
        Client(timeout=0.2).connect(target)
    run(main)
    assert 0.35 < time.monotonic() - began < 2.0


def test_a_client_that_was_not_connected_says_so() -> None:
    with pytest.raises(NotConnected, match=r"connect\(\)"):
        Client().list_symbols()


def test_a_server_that_does_not_answer_is_a_timeout_and_orders_are_unknown(mute: str) -> None:
    async def main() -> None:
        async with AsyncClient(timeout=0.1) as client:
            await client.connect(mute)
            with pytest.raises(RequestTimeout, match="list_symbols"):
                await client.list_symbols()
            with pytest.raises(OutcomeUnknown, match="fetch_order"):
                await client.create_order(order())
            with pytest.raises(OutcomeUnknown):
                await client.modify_order("a-1", 1.0)
            open_one = asyncio.ensure_future(client.create_order(order()))
            await asyncio.sleep(0.01)
            await client.close()
            with pytest.raises(OutcomeUnknown, match="closed"):
                await open_one
            with pytest.raises(NotConnected):
                await client.create_order(order())

    with Client(timeout=0.1) as client:
        client.connect(mute)
        with pytest.raises(RequestTimeout, match="list_symbols"):
            client.list_symbols()
        with pytest.raises(OutcomeUnknown, match="fetch_order"):
            client.create_order(order())
        with pytest.raises(OutcomeUnknown):
            client.modify_order("a-1", 1.0)
        with pytest.raises(RequestTimeout):  # it can be asked again
            client.cancel_order("a-1")
    run(main)


def test_a_late_reply_is_not_taken_for_the_next_ones() -> None:
    def answer(router: zmq.Socket[bytes]) -> None:
        requests = []
        while len(requests) < 4:
            identity, body = router.recv_multipart()
            requests.append(protocol.decode_request(body))
            if len(requests) in (2, 3):
                continue  # given up before they are answered
            for request in [requests[0]] if len(requests) == 1 else requests[1:]:
                greeting = protocol.Greeting(2, "x", "run", ".events", 1.0, 8, "", {}).to_dict()
                result = greeting if request.method == "hello" else [str(request.id)]
                reply = protocol.encode_reply(request.id, protocol.Reply(result))
                router.send_multipart([identity, *reply])

    with zmq.Context.instance().socket(zmq.ROUTER) as router, Client() as client:
        router.bind("inproc://late-reply")
        thread = threading.Thread(target=answer, args=(router,))
        thread.start()
        client.connect("inproc://late-reply")
        client.timeout = 0.05
        for _ in range(2):
            with pytest.raises(RequestTimeout):
                client.list_symbols()
        client.timeout = 5.0
        assert client.list_symbols() == ["4"]
        thread.join()


def test_waiting_for_other_threads_counts_into_the_timeout(mute: str) -> None:
    with Client(timeout=0.3) as client:
        client.connect(mute)
        errors: list[LiveTraderError] = []

        def ask() -> None:
            try:
                client.list_symbols()
            except LiveTraderError as error:
                errors.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - began < 1.0
        assert {type(error) for error in errors} <= {RequestTimeout, TooBusy}
        assert len(errors) == 4


def test_a_client_outlives_its_server() -> None:
    with serving(lambda: (MarketService(TickingMarket()),)) as endpoint:
        client = Client(timeout=0.3)
        client.connect(endpoint)
        assert client.list_symbols() == ["US.A"]
    with pytest.raises((NotConnected, RequestTimeout)):
        client.list_symbols()
    with pytest.raises((NotConnected, OutcomeUnknown)):
        client.create_order(order())
    client.close()


def test_a_client_finds_a_server_that_was_started_again() -> None:
    with ipc_endpoint() as bound, Client() as client:
        for start in range(2):
            server = Server(MarketService(TickingMarket()))
            server.bind(bound)
            thread = threading.Thread(target=server.run)
            thread.start()
            try:
                if start == 0:
                    client.connect(bound)
                assert client.list_symbols() == ["US.A"]
            finally:
                server.close()
                thread.join()


def test_nothing_is_left_of_a_request_that_was_cancelled(endpoint: str) -> None:
    async def main() -> None:
        async with AsyncClient() as client:
            await client.connect(endpoint)
            asked = asyncio.ensure_future(client.list_symbols())
            await asyncio.sleep(0)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            assert await client.list_symbols() == ["US.A"]
            assert not client._waiting

    run(main)
