"""A strategy that goes through its script, whatever happens to the server.

An order whose fate it does not know is sent again under the same id, or asked about and given up,
as the broker of backtrader does. ``python -m tests.crash.strategist ENDPOINT SEED COUNT VENUES``
is one in a process of its own, which begins at the first order each time.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Sequence

from livetrader_core.errors import LiveTraderError, OutcomeUnknown, Unavailable
from livetrader_core.rpc import AsyncClient
from tests.crash.script import Action, script, venue_of

Connect = Callable[[], Awaitable[AsyncClient]]
#: Waits until the action of this number may begin.
Gate = Callable[[int], Awaitable[None]]


class Strategist:
    """Does ``actions``, those of one venue after each other, all venues at once."""

    def __init__(self, connect: Connect, actions: Sequence[Action], seed: int) -> None:
        self._connect = connect
        self._actions = actions
        self._chance = random.Random(seed)
        self._turn = asyncio.Lock()
        self._client: AsyncClient | None = None
        #: How often the answer to a request was not heard.
        self.unheard = 0
        #: Why orders were refused.
        self.refused: dict[str, str] = {}

    async def run(self, gate: Gate | None = None) -> None:
        """Do everything; returns when each action has its answer."""
        lanes: dict[str, list[tuple[int, Action]]] = {}
        for number, action in enumerate(self._actions):
            lanes.setdefault(venue_of(action.order.symbol), []).append((number, action))
        tasks = [asyncio.ensure_future(self._lane(lane, gate)) for lane in lanes.values()]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._client is not None:
                await self._client.close()

    async def _lane(self, lane: Sequence[tuple[int, Action]], gate: Gate | None) -> None:
        for number, action in lane:
            if gate is not None:
                await gate(number)
            while not await self._done(action):
                self.unheard += 1

    async def _done(self, action: Action) -> bool:
        """Whether the server has answered for ``action``."""
        client = await self._line()
        try:
            await self._do(client, action)
        except (Unavailable, OutcomeUnknown):
            return await self._given_up(action, client)
        except LiveTraderError as error:  # an answer, too
            if action.do == "place":
                self.refused[action.order.client_order_id] = str(error)
        return True

    async def _do(self, client: AsyncClient, action: Action) -> None:
        order = action.order
        if action.do == "place":
            await client.create_order(order)
        elif action.do == "cancel":
            await client.cancel_order(order.client_order_id)
        else:
            await client.modify_order(order.client_order_id, quantity=order.quantity)

    async def _given_up(self, action: Action, failed: AsyncClient) -> bool:
        """Now and then ask what became of an order, and give up one that did not arrive."""
        await self._drop(failed)
        if action.do != "place" or self._chance.random() < 0.5:
            return False
        client = await self._line()
        try:
            if await client.fetch_order(action.order.client_order_id) is None:
                await client.give_up_order(action.order)
        except LiveTraderError:
            return False
        return True

    async def _line(self) -> AsyncClient:
        async with self._turn:
            if self._client is None:
                self._client = await self._connect()
            return self._client

    async def _drop(self, failed: AsyncClient) -> None:
        # Another lane may have a new one by now, which is not to be taken from it.
        async with self._turn:
            if self._client is failed:
                self._client = None
        await failed.close()


async def _run(endpoint: str, seed: int, count: int, venues: tuple[str, ...]) -> None:
    async def connect() -> AsyncClient:
        while True:
            client = AsyncClient(timeout=2.0)
            try:
                await client.connect(endpoint)
                return client
            except LiveTraderError:
                await client.close()
                await asyncio.sleep(0.02)

    await Strategist(connect, script(seed, count, venues), seed).run()


if __name__ == "__main__":
    _endpoint, _seed, _count, _venues = sys.argv[1:]
    asyncio.run(_run(_endpoint, int(_seed), int(_count), tuple(_venues.split(","))))
