"""Three venues, each over its own protocol: whatever is killed or cut, the books are the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from tests.crash.lines import PATHS, lines
from tests.crash.script import Action, script
from tests.crash.strategist import Strategist
from tests.crash.street import Street, kill_at_random, process, street_of
from tests.support.data import proving
from tests.support.line import Line

Record = Callable[[str, object], None]

VENUES = ("mt4", "tq", "third")
#: Strategies, how often the server is killed during each, and their orders.
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

    with street_of(run, VENUES) as where:
        asyncio.run(main(where))
        record_property("crash: servers of the venues killed at random", where.kills)
        record_property("crash: orders placed at the venues meanwhile", ORDERS)


#: How often a link is cut or stalled.
FAULTS = 20 if proving() else 2


def some_lines() -> list[tuple[str, list[str]]]:
    """Venues, and lines at which their server kills itself: all of them in shares, or a few."""
    shares = []
    for part in PATHS:
        found = lines(part)
        random.Random(part).shuffle(found)
        venue = "mt4" if part == "service" else part
        step = 12 if proving() else {"service": 2, "mt4": 2, "tq": 1}[part]
        cuts = range(0, len(found) if proving() else step, step)
        shares += [(venue, found[cut : cut + step]) for cut in cuts]
    if proving():
        return shares
    # One server for all that is asked of the terminal.
    few = {"mt4": [], "tq": []}
    for venue, found in shares:
        few[venue] += found
    return list(few.items())


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("share", some_lines(), ids=lambda share: f"{share[0]}-{share[1][0]}")
def test_a_server_killed_at_any_line_loses_nothing(
    share: tuple[str, list[str]], record_property: Record
) -> None:
    venue, wheres = share
    orders = 12
    actions: list[Action] = []
    missed: list[str] = []

    async def main(street: Street) -> None:
        strategies: list[asyncio.Task[None]] = []
        try:
            for number, where in enumerate(wheres):
                # The server may also fall over what the one before it left.
                share = script(1000 + number, orders, (venue,))
                actions.extend(share)
                street.start(where, nth=1 + number % 2)
                strategist = Strategist(street.connected, share, number)
                strategies.append(asyncio.create_task(strategist.run()))
                while not (street.dead or all(s.done() for s in strategies)):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                if not street.dead:
                    missed.append(where)
                    street.kill()
            street.start()
            await asyncio.gather(*strategies)
        finally:
            for strategy in strategies:
                strategy.cancel()
        street.check_journal(await street.settled(actions))

    with street_of(7, (venue,)) as street:
        asyncio.run(main(street))
    print("never reached:", missed)
    record_property(
        "crash: lines at which a server of the venues was killed", len(wheres) - len(missed)
    )
    record_property("crash: lines that no order at the venues comes to", len(missed))


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("run", range(5 if proving() else 1))
def test_a_strategy_killed_at_any_moment_orders_nothing_twice(
    run: int, record_property: Record
) -> None:
    kills = 20 if proving() else 2
    chance = random.Random(run)
    actions = script(run, ORDERS, VENUES)

    async def main(street: Street) -> None:
        street.start()
        await (await street.connected()).close()
        arguments = (street.endpoint, str(run), str(ORDERS), ",".join(VENUES))
        for _ in range(kills):
            strategy = process("tests.crash.strategist", *arguments)
            await asyncio.sleep(0.4 + chance.random() * 1.0)
            strategy.kill()
            strategy.wait()
        strategy = process("tests.crash.strategist", *arguments)
        assert await asyncio.to_thread(strategy.wait, 100) == 0
        street.check_journal(await street.settled(actions))

    with street_of(run, VENUES) as street:
        asyncio.run(main(street))
    record_property("crash: strategies of the venues killed at random", kills)


async def break_now_and_then(line: Line, chance: random.Random, faults: int) -> None:
    """Cut ``line``, or stall it in one way or both and then perhaps cut it."""
    for _ in range(faults):
        await asyncio.sleep(chance.random() * 0.5)
        ways = chance.choice([(), ("there",), ("back",), ("there", "back")])
        if ways:
            # What was under way in a stalled line is lost when it is cut.
            line.stall(*ways)
            await asyncio.sleep(chance.random() * 1.5)
        if not ways or chance.random() < 0.5:
            line.cut()
            await asyncio.sleep(chance.random() * 0.3)
        line.restore()


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("run", range(4 if proving() else 1))
@pytest.mark.parametrize("link", ["mt4", "tq", "client"])
def test_a_link_that_is_cut_or_stalled_loses_nothing(
    link: str, run: int, record_property: Record
) -> None:
    faults = FAULTS
    venues = VENUES if proving() or link == "client" else (link,)
    actions = script(run, ORDERS, venues)

    async def main(street: Street) -> None:
        async with street.through_line(link) as line:
            breaking = asyncio.create_task(break_now_and_then(line, random.Random(run), faults))

            async def gate(number: int) -> None:
                # What is left of the orders goes out at the pace of the faults.
                if not breaking.done():
                    await asyncio.sleep(0.5 * faults / ORDERS)

            strategist = Strategist(street.connected, actions, run)
            try:
                await strategist.run(gate)
                await breaking
            finally:
                breaking.cancel()
            street.check_journal(await street.settled(actions))

    with street_of(run, venues) as street:
        asyncio.run(main(street))
    record_property(f"crash: times the link to the {link} was cut or stalled", faults)
