"""Three venues, each over its own protocol: whatever is killed or cut, the books are the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from tests.crash.script import script
from tests.crash.strategist import Strategist
from tests.crash.street import Street, kill_at_random, street
from tests.support.data import proving

Record = Callable[[str, object], None]

VENUES = ("mt4", "third")
RUNS, KILLS, ORDERS = (15, 20, 200) if proving() else (1, 2, 30)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("run", range(RUNS))
def test_a_server_killed_at_any_moment_loses_nothing(run: int, record_property: Record) -> None:
    actions = script(run, ORDERS, VENUES)

    async def main(where: Street) -> None:
        killing = asyncio.create_task(kill_at_random(where, random.Random(run), KILLS))

        async def gate(number: int) -> None:
            # So slow that there is something to do until the last kill.
            while not killing.done() and number > len(actions) * (where.kills + 1) / KILLS:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

        strategist = Strategist(where.connected, actions, run)
        try:
            await strategist.run(gate)
            await killing
        finally:
            killing.cancel()
        where.check_journal(await where.settled(actions))

    with street(run, VENUES) as where:
        asyncio.run(main(where))
        record_property("crash: servers of the venues killed at random", where.kills)
        record_property("crash: orders placed at the venues meanwhile", ORDERS)
