"""Three venues, each over its own protocol: whatever is killed or cut, the books are the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from tests.crash.lines import PATHS, UNDER_WAY, lines
from tests.crash.script import FAULTS, METATRADER, Action, script, tour
from tests.crash.strategist import Strategist
from tests.crash.street import Street, kill_at_random, process, street_of
from tests.support.data import proving
from tests.support.line import Line

Record = Callable[[str, object], None]

#: One server trades three of them: a terminal with one of the two advisors, and the others.
STREETS = [(terminal, "tq", "paper") for terminal in METATRADER]
#: Strategies, how often the server is killed during each, and their orders.
RUNS, KILLS, ORDERS = (30, 10, 200) if proving() else (1, 2, 30)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("venues", STREETS, ids=METATRADER)
@pytest.mark.parametrize("run", range(RUNS))
def test_a_server_killed_at_any_moment_loses_nothing(
    run: int, venues: tuple[str, ...], record_property: Record
) -> None:
    actions = script(run, ORDERS, venues)

    async def main(where: Street) -> int:
        chance = random.Random(run)
        killing = asyncio.create_task(kill_at_random(where, chance, KILLS, faults=run % 2 == 1))

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
        return strategist.unheard

    with street_of(run, venues) as where:
        unheard = asyncio.run(main(where))
        record_property("crash: servers of the venues killed at random", where.kills)
        record_property("crash: orders placed at the venues meanwhile", ORDERS)
        record_property("crash: requests whose answer a kill kept back", unheard)


#: How often a link is cut or stalled.
CUTS = 20 if proving() else 2


def some_lines() -> list[tuple[str, list[str]]]:
    """Venues, and lines at which their server kills itself: all of them in shares, or a few."""
    shares = []
    for part in PATHS:
        found = lines(part)
        random.Random(part).shuffle(found)
        venue = "dwx" if part == "service" else part
        shares += [(venue, found[cut : cut + 8]) for cut in range(0, len(found), 8)]
    if proving():
        return shares
    return [
        (terminal, [found[0] for venue, found in shares if venue == terminal][::20])
        for terminal in METATRADER
    ]


class Striker:
    """Kills servers at lines, one after another; each goes on with what the last one left."""

    def __init__(self, street: Street, venue: str) -> None:
        self.street, self.venue = street, venue
        self.actions: list[Action] = []
        self.strategies: list[asyncio.Task[None]] = []
        self.missed: list[str] = []
        self._chance = random.Random(venue)

    async def strike(self, where: str, attempts: int) -> None:
        """Have a server die at ``where``; at a line that is hard to come to, after some trouble."""
        for attempt in range(attempts):
            if attempt == 1:
                # Of a server that died with orders under way.
                await self._live(self._chance.choice(UNDER_WAY[self.venue]), nth=1)
            if attempt == 2:
                for fault in FAULTS[self.venue]:
                    self.street.fault(self.venue, fault)
            if await self._live(where, nth=1 if attempt else self._chance.randint(1, 2)):
                return
        self.missed.append(where)

    async def _live(self, where: str, nth: int) -> bool:
        """One server's life, and whether it ended at ``where``."""
        number = len(self.strategies)
        seed = 1000 + number
        share = [*tour(seed, self.venue), *script(seed, 8, (self.venue,))]
        self.actions.extend(share)
        self.street.start(where, nth)
        strategist = Strategist(self.street.connected, share, number)
        self.strategies.append(asyncio.create_task(strategist.run()))
        while not (self.street.dead or self._idle):  # noqa: ASYNC110 - a process is watched
            await asyncio.sleep(0.01)
        if not self.street.dead:
            await asyncio.sleep(0.3)  # for prices, and looks at the terminal
        struck = self.street.dead
        self.street.kill()
        return struck

    @property
    def _idle(self) -> bool:
        return all(strategy.done() for strategy in self.strategies)

    async def finish(self) -> None:
        """Let a last server do what is left, and compare."""
        self.street.start()
        await asyncio.gather(*self.strategies)
        self.street.check_journal(await self.street.settled(self.actions))

    def leave(self) -> None:
        for strategy in self.strategies:
            strategy.cancel()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("share", some_lines(), ids=lambda share: f"{share[0]}-{share[1][0]}")
def test_a_server_killed_at_any_line_loses_nothing(
    share: tuple[str, list[str]], record_property: Record
) -> None:
    venue, wheres = share

    async def main(street: Street) -> list[str]:
        striker = Striker(street, venue)
        if "tq" in street.addresses:
            street.addresses["tq"]["timeout"] = 5.0  # lost requests are waited for
        try:
            for where in wheres:
                await striker.strike(where, 3 if proving() else 1)
            await striker.finish()
        finally:
            striker.leave()
        return striker.missed

    with street_of(7, (venue,)) as street:
        missed = asyncio.run(main(street))
    if missed:
        print("never reached:", missed)
    struck = len(wheres) - len(missed)
    record_property("crash: lines at which a server of the venues was killed", struck)
    record_property("crash: lines that no order at the venues comes to", len(missed))


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("run", range(6 if proving() else 1))
def test_a_strategy_killed_at_any_moment_orders_nothing_twice(
    run: int, record_property: Record
) -> None:
    kills, venues = (20, STREETS[run % 2]) if proving() else (1, ("socket",))
    chance = random.Random(run)
    actions = script(run, ORDERS, venues)

    async def main(street: Street) -> None:
        street.start()
        await (await street.connected()).close()
        arguments = (street.endpoint, str(run), str(ORDERS), ",".join(venues))
        for _ in range(kills):
            strategy = process("tests.crash.strategist", *arguments)
            await asyncio.sleep(0.4 + chance.random() * 1.0)
            strategy.kill()
            strategy.wait()
        strategy = process("tests.crash.strategist", *arguments)
        assert await asyncio.to_thread(strategy.wait, 100) == 0
        street.check_journal(await street.settled(actions))

    with street_of(run, venues) as street:
        asyncio.run(main(street))
    record_property("crash: strategies of the venues killed at random", kills)


async def break_now_and_then(line: Line, chance: random.Random, cuts: int) -> None:
    """Cut ``line``, or stall it in one way or both and then perhaps cut it."""
    for _ in range(cuts):
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
@pytest.mark.parametrize("link", ["dwx", "mt4", "tq", "client"] if proving() else ["dwx", "mt4"])
def test_a_link_that_is_cut_or_stalled_loses_nothing(
    link: str, run: int, record_property: Record
) -> None:
    cuts = CUTS
    venues = STREETS[link == "mt4"] if proving() else (link,)
    actions = script(run, ORDERS, venues)

    async def main(street: Street) -> None:
        async with street.through_line(link) as line:
            breaking = asyncio.create_task(break_now_and_then(line, random.Random(run), cuts))

            async def gate(number: int) -> None:
                # What is left of the orders goes out at the pace of the faults.
                if not breaking.done():
                    await asyncio.sleep(0.5 * cuts / ORDERS)

            strategist = Strategist(street.connected, actions, run)
            try:
                await strategist.run(gate)
                await breaking
            finally:
                breaking.cancel()
            street.check_journal(await street.settled(actions))

    with street_of(run, venues) as street:
        asyncio.run(main(street))
    record_property(f"crash: times the link to the {link} was cut or stalled", cuts)
