"""Keys: who is let in over tcp, and what each may do there."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import zmq

from livetrader_core.errors import ConfigError, InsecureEndpoint, LiveTraderError, NotAllowed
from livetrader_core.models import Kline, OrderStatus, TradeEvent
from livetrader_core.rpc import (
    Allowed,
    AsyncClient,
    Client,
    Guard,
    KeyPair,
    Keys,
    RemoteSession,
    Role,
    Server,
    calls,
    protocol,
)
from livetrader_core.rpc.client import client_socket
from livetrader_core.rpc.endpoints import Endpoint
from livetrader_core.rpc.guard import may_read
from livetrader_core.service import MarketService
from livetrader_core.trade import TradeService
from tests.rpc.wiring import ipc_endpoint, opened, run, served, until
from tests.support.ticking_market import TickingMarket
from tests.trade.scripted_venue import ScriptedVenue, order

NEAR = "tcp://127.0.0.1:*"
SERVER = KeyPair.new()
READER, TRADER, OWNER, STRANGER = (KeyPair.new() for _ in range(4))
CLIENTS = {
    READER.public: Allowed("reader", Role.MARKET),
    TRADER.public: Allowed("trader", Role.TRADE),
    OWNER.public: Allowed("owner", Role.ADMIN),
}


def keys(pair: KeyPair) -> Keys:
    return Keys(pair, SERVER.public)


@asynccontextmanager
async def guarded() -> AsyncIterator[tuple[Server, str, TickingMarket]]:
    """A server with keys on a tcp endpoint."""
    market = TickingMarket()
    services = MarketService(market), TradeService(ScriptedVenue())
    guard = Guard(SERVER, CLIENTS)
    async with served(*services, endpoint=NEAR, guard=guard, heartbeat=0.1) as (server, endpoint):
        yield server, endpoint, market


async def refusal(endpoint: str, shown: Keys | None) -> str:
    client = AsyncClient(timeout=1.0, keys=shown)
    with pytest.raises(LiveTraderError) as caught:
        await client.connect(endpoint)
    await client.close()
    return str(caught.value)


def test_each_key_that_does_not_fit_is_told_as_what_it_is() -> None:
    async def main() -> None:
        async with guarded() as (server, endpoint, _):
            assert "asks for keys" in await refusal(endpoint, None)
            told = await refusal(endpoint, keys(STRANGER))
            assert STRANGER.public in told
            assert "[server.clients]" in told
            wrong = Keys(TRADER, STRANGER.public)
            assert "is the server key the one" in await refusal(endpoint, wrong)
            assert server.stats()["requests"] == 0
        async with served(MarketService(TickingMarket()), endpoint=NEAR) as (_, endpoint):
            assert "has no keys" in await refusal(endpoint, keys(TRADER))

    run(main)


def test_a_blocking_client_is_told_the_same() -> None:
    async def main() -> None:
        async with guarded() as (_, endpoint, _market):

            def connect(shown: Keys | None) -> str:
                with Client(timeout=1.0, keys=shown) as client:
                    client.connect(endpoint)
                    return str(client.list_symbols())

            loop = asyncio.get_running_loop()
            assert await loop.run_in_executor(None, connect, keys(READER)) == "['US.A']"
            with pytest.raises(LiveTraderError, match="asks for keys"):
                await loop.run_in_executor(None, connect, None)

    run(main)


def test_a_role_is_what_a_client_may_do() -> None:
    async def main() -> None:
        async with guarded() as (_, endpoint, _market):
            async with opened(endpoint, keys=keys(READER)) as (session, _):
                assert len(await session.subscribe("US.A")) == 20
                for refused in (
                    session.create_order(order()),
                    session.fetch_positions(),
                    session.kill(),
                    session.lift(),
                ):
                    with pytest.raises(NotAllowed, match="reader has market"):
                        await refused
                assert session.breaks == 0
            async with opened(endpoint, -1, keys=keys(TRADER)) as (session, events):
                done = await session.create_order(order())
                assert done.status is OrderStatus.ACCEPTED
                await until(lambda: any(isinstance(e, TradeEvent) for e in events))
                await session.kill()
                with pytest.raises(NotAllowed, match="lift needs the role admin"):
                    await session.lift()
            async with opened(endpoint, keys=keys(OWNER)) as (session, _):
                assert (await session.lift()).on is False

    run(main)


def test_every_method_that_touches_money_needs_a_role() -> None:
    async def main() -> None:
        async with guarded() as (_, endpoint, _market):
            client = AsyncClient(timeout=2.0, keys=keys(READER))
            await client.connect(endpoint)
            for call in (
                calls.create_order(order()),
                calls.cancel_order("a"),
                calls.modify_order("a", None, 1.0, None),
                calls.give_up_order(order()),
                calls.fetch_order("a"),
                calls.fetch_orders(0, 1),
                calls.fetch_open_orders(),
                calls.fetch_fills(0, 0, 1),
                calls.fetch_positions(None),
                calls.fetch_balance(None),
                calls.events_after(0, 1),
                calls.venue_orders(),
                calls.kill(False, ""),
                calls.kill_state(),
                calls.lift(),
                calls.reconcile(False),
                calls.begin_replay(0, None),
            ):
                with pytest.raises(NotAllowed):
                    await client.call(call)
            await client.close()

    run(main)


def test_orders_are_published_to_none_who_may_not_trade() -> None:
    assert may_read(Role.TRADE, b"")
    for prefix in (b"", b"o", protocol.TRADE, protocol.TRADE + b"x"):
        assert not may_read(Role.MARKET, prefix)
    assert may_read(Role.MARKET, b"k|US.A|1m\0")

    async def main() -> None:
        async with guarded() as (_, endpoint, market):
            target = Endpoint.parse(endpoint)
            async with opened(endpoint, -1, keys=keys(TRADER)) as (session, events):
                hello = AsyncClient(timeout=2.0, keys=keys(READER))
                greeting = await hello.connect(endpoint)
                ears = []
                for pair in (READER, STRANGER, None):
                    shown = None if pair is None else keys(pair)
                    ear = client_socket(zmq.SUB, target.events(greeting.events), keys=shown)
                    for prefix in (b"", b"o", protocol.TRADE, b"h", b"k"):
                        ear.subscribe(prefix)
                    ears.append(ear)
                reader, stranger, nobody = ears
                await until(lambda: reader.poll(0))  # heartbeats arrive
                await session.subscribe("US.A")
                await session.create_order(order())
                await market.close_one()
                await until(lambda: any(isinstance(e, TradeEvent) for e in events))
                await until(lambda: any(isinstance(e, Kline) for e in events))
                heard = set()

                def hear() -> bool:
                    while reader.poll(0):
                        heard.add(reader.recv()[:1])
                    return b"k" in heard

                await until(hear)
                assert heard == {b"h", b"k"}
                assert not stranger.poll(0)
                assert not nobody.poll(0)
                for ear in ears:
                    ear.close()
                await hello.close()

    run(main)


def test_this_computers_own_sockets_need_no_keys_beside_them() -> None:
    async def main() -> None:
        with ipc_endpoint() as ipc:
            services = MarketService(TickingMarket()), TradeService(ScriptedVenue())
            async with served(*services, endpoint=ipc, guard=Guard(SERVER, CLIENTS)) as (server, _):
                tcp = server.bind(NEAR)
                # Bound after the one with keys, which must not rub off on it.
                server.bind("inproc://beside")
                for endpoint, shown in (
                    (ipc, None),
                    ("inproc://beside", None),
                    (ipc, keys(READER)),
                ):
                    async with opened(endpoint, -1, keys=shown) as (session, _):
                        assert (await session.lift()).on is False
                async with opened(tcp, keys=keys(READER)) as (session, _):
                    assert await session.list_symbols() == ["US.A"]
                assert "asks for keys" in await refusal(tcp, None)

    run(main)


def test_two_servers_in_one_process_judge_by_their_own_lists() -> None:
    async def main() -> None:
        other = KeyPair.new()
        clients = {STRANGER.public: Allowed("other", Role.MARKET)}
        async with (
            guarded() as (_, first, _market),
            served(MarketService(TickingMarket()), endpoint=NEAR, guard=Guard(other, clients)) as (
                _,
                second,
            ),
        ):
            async with opened(second, keys=Keys(STRANGER, other.public)) as (session, _):
                assert await session.list_symbols() == ["US.A"]
            assert TRADER.public in await refusal(second, Keys(TRADER, other.public))
            assert STRANGER.public in await refusal(first, keys(STRANGER))

    run(main)
    assert not [thread for thread in threading.enumerate() if "auth" in thread.name.lower()]


def test_a_session_comes_back_to_a_restarted_server_with_its_keys() -> None:
    async def main() -> None:
        market = TickingMarket(interval=0.02)
        guard = Guard(SERVER, CLIENTS)
        services = [MarketService(market)]
        async with served(*services, endpoint=NEAR, guard=guard, heartbeat=0.1) as (_, endpoint):
            session = RemoteSession(endpoint, timeout=2.0, keys=keys(READER))
            events: list[object] = []
            await session.open(events.append)
            await session.subscribe("US.A", limit=0)
            await until(lambda: any(isinstance(e, Kline) for e in events))
        count = len(events)
        again = TickingMarket(interval=0.02, history=market.count + 5)
        try:
            async with served(
                MarketService(again), endpoint=endpoint, guard=Guard(SERVER, CLIENTS), heartbeat=0.1
            ):
                await until(lambda: sum(isinstance(e, Kline) for e in events[count:]) > 10)
                volumes = [int(e.volume) for e in events if isinstance(e, Kline)]
                assert volumes == list(range(volumes[0], volumes[0] + len(volumes)))
        finally:
            await session.close()

    run(main)


def test_only_a_server_with_keys_may_be_reached_from_elsewhere() -> None:
    with pytest.raises(InsecureEndpoint, match="livetrader keys"):
        Server(MarketService(TickingMarket())).bind("tcp://0.0.0.0:*")

    async def main() -> None:
        guard = Guard(SERVER, CLIENTS)
        service = MarketService(TickingMarket())
        async with served(service, endpoint="tcp://0.0.0.0:*", guard=guard) as (_, endpoint):
            port = endpoint.rpartition(":")[2]
            async with opened(f"tcp://127.0.0.1:{port}", keys=keys(READER)) as (session, _):
                assert await session.list_symbols() == ["US.A"]

    run(main)


def test_keys_lie_in_files_that_only_their_owner_reads(tmp_path: Path) -> None:
    pair = KeyPair.create(tmp_path / "keys", "laptop")
    secret = tmp_path / "keys" / "laptop.key_secret"
    assert secret.stat().st_mode & 0o077 == 0
    assert KeyPair.read(secret) == pair
    assert pair.secret not in repr(pair)
    assert Keys(secret, tmp_path / "keys" / "laptop.key").server == pair.public
    with pytest.raises(ConfigError, match="exists already"):
        KeyPair.create(tmp_path / "keys", "laptop")
    with pytest.raises(ConfigError, match="holds no secret key"):
        KeyPair.read(_private(tmp_path / "keys" / "laptop.key"))
    os.chmod(secret, 0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        KeyPair.read(secret)
    for text in ("", "short", "x" * 40 + "y", "ü" * 40, "no such file"):
        with pytest.raises(ConfigError, match="neither a public key"):
            Keys(pair, text or "-")
    broken = tmp_path / "broken.key"
    broken.write_text('curve\n    public-key = "short"\n')
    with pytest.raises(ConfigError, match="no key"):
        Keys(pair, broken)


def _private(path: Path) -> Path:
    os.chmod(path, 0o600)
    return path


def test_the_status_names_differences_to_none_who_may_not_trade() -> None:
    async def main() -> None:
        async with guarded() as (_, endpoint, _market):
            told = {}
            for pair in (READER, TRADER):
                client = AsyncClient(timeout=2.0, keys=keys(pair))
                await client.connect(endpoint)
                told[pair.public] = await client.call(calls.status())
                await client.close()
            assert "differences" not in told[READER.public]
            assert told[TRADER.public]["differences"] == []
            assert told[READER.public].keys() | {"differences"} == told[TRADER.public].keys()

    run(main)
