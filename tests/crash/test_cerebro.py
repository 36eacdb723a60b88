"""A strategy in backtrader, killed or on servers that are killed: the books are the same."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.crash.accounts import View
from tests.crash.script import VENUES
from tests.crash.street import Street, kill_at_random, process, street_of
from tests.support.data import proving

Record = Callable[[str, object], None]

SYMBOLS = VENUES["dwx"]
KILLS, ORDERS = (20, 200) if proving() else (1, 16)


def strategy(street: Street, seed: int, count: int) -> subprocess.Popen[bytes]:
    """A strategy that finds the ids of the ones before it."""
    return process(
        "tests.crash.cerebro",
        street.endpoint,
        f"{street.folder}/ids",
        str(seed),
        str(count),
        ",".join(SYMBOLS),
        stdout=subprocess.PIPE,
    )


async def begun(street: Street, orders: int) -> int:
    """Wait until there are more than ``orders``; how many there are."""
    client = await street.connected(timeout=10.0)
    try:
        deadline = time.monotonic() + 60.0
        while (found := len(await client.fetch_orders())) <= orders:
            assert time.monotonic() < deadline, "the strategy places no orders"
            await asyncio.sleep(0.05)
        return found
    finally:
        await client.close()


def check(told: dict[str, Any], view: View) -> None:
    """What backtrader says of its orders and positions is what the server says."""
    for name, (status, size) in told["orders"].items():
        order = view.orders.get(name)
        if order is None:
            assert status in ("Rejected", "Margin"), f"{name} is {status}, and not known"
            assert size == 0
        else:
            assert order.status.is_final, order
            assert abs(abs(size) - order.filled) < 1e-8, f"{order}: {size} there"
    held = {symbol: round(size, 6) for symbol, size in told["positions"].items() if size}
    assert held == {symbol: round(size, 6) for symbol, size in view.positions.items()}


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("run", range(3 if proving() else 1))
def test_backtrader_goes_on_over_servers_that_are_killed(run: int, record_property: Record) -> None:
    async def main(street: Street) -> None:
        street.start()
        await (await street.connected()).close()
        trading = strategy(street, run, ORDERS)
        try:
            await begun(street, 0)
            await kill_at_random(street, random.Random(run), KILLS, longest=0.5)
            assert trading.stdout is not None
            told = json.loads(
                await asyncio.wait_for(asyncio.to_thread(trading.stdout.readline), 120)
            )
        finally:
            trading.kill()
            trading.communicate()
        view = await street.settled([])
        check(told, view)
        street.check_journal(view)

    with street_of(run, ("dwx",)) as street:
        asyncio.run(main(street))
    record_property("crash: servers killed below backtrader", KILLS)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_backtrader_killed_at_any_moment_orders_nothing_twice(record_property: Record) -> None:
    kills = 20 if proving() else 1
    chance = random.Random(3)

    async def main(street: Street) -> None:
        street.start()
        await (await street.connected()).close()
        placed = 0
        for number in range(kills):
            trading = strategy(street, number, 1000)
            try:
                placed = await begun(street, placed)
                await asyncio.sleep(2 * chance.random())
            finally:
                trading.kill()
                trading.communicate()
        last = strategy(street, kills, 8)
        told, _ = await asyncio.to_thread(last.communicate, timeout=120)
        check(json.loads(told), await street.settled([]))
        street.check_journal(await street.settled([]))

    with street_of(3, ("dwx",)) as street:
        asyncio.run(main(street))
    record_property("crash: strategies in backtrader killed", kills)
