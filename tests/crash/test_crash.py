"""Whatever is killed, whenever: no order twice, none unaccounted for, every fill counted once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from livetrader_core.rpc.endpoints import Endpoint
from livetrader_core.trade import TradeService
from tests.crash.adapter import PersistentTrade
from tests.crash.rig import CrashRig, crash_rig, process, some_orders
from tests.crash.server import lines
from tests.rpc.wiring import served
from tests.support.data import proving
from tests.support.line import NEAR, Line

Record = Callable[[str, object], None]

#: Strategies of 200 orders, and how often the server is killed during each.
RUNS, KILLS, ORDERS = (15, 20, 200) if proving() else (1, 4, 60)
#: Lines on the way of an order at which the server kills itself.
LINES = lines() if proving() else random.Random(7).sample(lines(), 4)


async def kill_now_and_then(rig: CrashRig, chance: random.Random, kills: int) -> None:
    """Kill the server ``kills`` times while it works, and start the next one each time."""
    rig.start()
    for _ in range(kills):
        client = await rig.connected()
        await client.close()
        await asyncio.sleep(chance.random() * 0.08)
        rig.kill()
        rig.start()


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("run", range(RUNS))
def test_a_server_killed_at_any_moment_loses_nothing(run: int, record_property: Record) -> None:
    orders = some_orders(ORDERS, run)

    async def main(rig: CrashRig) -> None:
        killing = asyncio.create_task(kill_now_and_then(rig, random.Random(run), KILLS))
        placed = 0
        # The strategy goes on for as long as somebody kills.
        while not killing.done() or placed < ORDERS:
            share = orders[placed : placed + 4]
            await rig.place(share or orders[-1:])
            placed += len(share)
            if placed >= ORDERS and not killing.done():
                await asyncio.sleep(0.005)
        await killing
        await rig.settled(len(orders))

    with crash_rig(run) as rig:
        asyncio.run(main(rig))
        rig.check(orders)
        record_property("crash: servers killed at random", rig.kills)
        record_property("crash: orders placed meanwhile", len(orders))


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.parametrize("where", LINES)
def test_a_server_killed_at_any_line_loses_nothing(where: str, record_property: Record) -> None:
    orders = some_orders(6, 99)

    async def main(rig: CrashRig) -> bool:
        rig.start(where, nth=2)
        placing = asyncio.create_task(rig.place(orders))
        while not (placing.done() or rig.dead):  # noqa: ASYNC110 - a process is watched
            await asyncio.sleep(0.005)
        struck = rig.dead
        if struck:
            rig.start()
        await placing
        await rig.settled(len(orders))
        return struck

    with crash_rig(1) as rig:
        struck = asyncio.run(main(rig))
        rig.check(orders)
    record_property("crash: lines at which the server was killed", int(struck))
    record_property("crash: lines that no order of these comes to", int(not struck))


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_strategy_killed_at_any_moment_orders_nothing_twice(record_property: Record) -> None:
    kills = 100 if proving() else 3
    chance = random.Random(5)

    async def main(rig: CrashRig) -> None:
        rig.start()
        await (await rig.connected()).close()
        for _ in range(kills):
            strategy = process("tests.crash.client", rig.endpoint, "5", str(ORDERS))
            await asyncio.sleep(0.4 + chance.random() * 0.5)
            strategy.kill()
            strategy.wait()
        strategy = process("tests.crash.client", rig.endpoint, "5", str(ORDERS))
        assert await asyncio.to_thread(strategy.wait) == 0
        await rig.settled(ORDERS)

    with crash_rig(5) as rig:
        asyncio.run(main(rig))
        rig.check(some_orders(ORDERS, 5))
    record_property("crash: strategies killed at random", kills)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("run", range(10 if proving() else 1))
def test_a_link_that_is_cut_or_stalled_loses_nothing(run: int, record_property: Record) -> None:
    cuts = 20 if proving() else 4
    orders = some_orders(ORDERS, 100 + run)
    chance = random.Random(run)

    async def break_the(line: Line) -> None:
        for _ in range(cuts):
            await asyncio.sleep(chance.random() * 0.05)
            chance.choice([line.cut, line.stall])()
            await asyncio.sleep(chance.random() * 0.05)
            line.restore()

    async def main(rig: CrashRig) -> None:
        trade = TradeService(PersistentTrade(rig.venue.path), rig.journal, ask_every=0.05)
        async with served(trade, endpoint="tcp://127.0.0.1:0", heartbeat=0.2) as (server, bound):
            port = Endpoint.parse(bound).port
            events = server._hello("tcp")["events"]
            async with Line([port, int(events)]) as line:
                breaking = asyncio.create_task(break_the(line))
                await rig.place(orders, f"tcp://{NEAR}:{port}")
                await breaking
            rig.endpoint = bound
            await rig.settled(len(orders))

    with crash_rig(run) as rig:
        asyncio.run(main(rig))
        rig.check(orders)
    record_property("crash: times the link was cut or stalled", cuts)
