"""A venue that stays, servers that are killed, and the count at the end."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from livetrader_core.errors import LiveTraderError, OrderRejected
from livetrader_core.models import Order, OrderStatus, OrderType, Side
from livetrader_core.rpc import AsyncClient
from livetrader_core.trade.journal import Journal
from tests.crash.venue import CASH, PersistentVenue
from tests.rpc.wiring import ROOT


class CrashRig:
    """One venue, one journal, and one server after another."""

    def __init__(self, folder: str, seed: int) -> None:
        self.endpoint = f"ipc://{folder}/s"
        self.journal = f"{folder}/journal"
        self.venue = PersistentVenue(f"{folder}/v", seed)
        self.kills = 0
        self._server: subprocess.Popen[bytes] | None = None

    def start(self, where: str = "", nth: int = 0) -> None:
        """Start a server, which may kill itself at a line (see tests/crash/server.py)."""
        arguments = [self.endpoint, self.journal, self.venue.path]
        if where:
            arguments += [where, str(nth)]
        self._server = process("tests.crash.server", *arguments)

    def kill(self) -> None:
        """SIGKILL the server."""
        assert self._server is not None
        self._server.send_signal(signal.SIGKILL)
        self._server.wait()
        self.kills += 1

    @property
    def dead(self) -> bool:
        """Whether the server is gone."""
        return self._server is None or self._server.poll() is not None

    def end(self) -> None:
        """End the server in good order."""
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()
            self._server.wait(20)

    # ---- the client

    async def place(self, orders: list[Order], endpoint: str = "") -> None:
        """Place ``orders`` at ``endpoint``, each until the server has answered for it."""
        client = await self.connected(endpoint)
        for order in orders:
            while True:
                try:
                    await client.create_order(order)
                    break
                except OrderRejected:
                    break
                except LiveTraderError:
                    await client.close()
                    client = await self.connected(endpoint)
        await client.close()

    async def connected(self, endpoint: str = "", seconds: float = 30.0) -> AsyncClient:
        """A client of the server, as soon as there is one."""
        deadline = time.monotonic() + seconds
        while True:
            client = AsyncClient(timeout=0.5)
            try:
                await client.connect(endpoint or self.endpoint)
                return client
            except LiveTraderError:
                await client.close()
                assert time.monotonic() < deadline, "no server came up"
                await asyncio.sleep(0.02)

    async def settled(self, count: int, seconds: float = 20.0) -> None:
        """Return when the server knows the fate of ``count`` orders, as the venue does."""
        deadline = time.monotonic() + seconds
        client = await self.connected()
        try:
            while not await self._agree(client, count):
                assert time.monotonic() < deadline, "the books did not come to agree"
                await asyncio.sleep(0.02)
        finally:
            await client.close()

    async def _agree(self, client: AsyncClient, count: int) -> bool:
        orders = await client.fetch_orders()
        sure = all(o.status not in (OrderStatus.UNKNOWN, OrderStatus.SUBMITTED) for o in orders)
        fills = await client.fetch_fills()
        return sure and len(orders) == count and len(fills) == len(self.venue.fills)

    # ---- the count

    def check(self, orders: list[Order]) -> None:
        """End the server; no order twice, none lost; fills, position and cash are the venue's."""
        self.end()
        venue, journal = self.venue, Journal(self.journal)
        try:
            assert {n: c for n, c in venue.arrived.items() if c > 1} == {}, "twice at the venue"
            for order in orders:
                known = journal.order(order.client_order_id)
                assert known is not None, f"{order.client_order_id} is not in the journal"
                there = venue.orders.get(order.client_order_id)
                if there is None:
                    assert known.status is OrderStatus.REJECTED, known
                else:
                    assert (known.status, known.filled) == (there.status, there.filled), known
            mine = sorted(fill.trade_id for fill in journal.fills())
            assert mine == sorted(fill.trade_id for fill in venue.fills)
            assert journal.holdings().get("US.A", 0.0) == venue.position()
            spent = sum(f.side.sign * f.quantity * f.price for f in journal.fills())
            assert round(CASH - spent, 2) == round(venue.cash(), 2)
            numbers = [event.seq for event in journal.events_after(0)]
            assert numbers == list(range(1, len(numbers) + 1))
        finally:
            journal.close()


def process(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A Python process that runs ``module``."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@contextmanager
def crash_rig(seed: int) -> Iterator[CrashRig]:
    """A rig in a folder of its own; nothing is left of it."""
    folder = tempfile.mkdtemp(prefix="ltc")
    rig = CrashRig(folder, seed)
    try:
        yield rig
    finally:
        rig.end()
        rig.venue.close()
        shutil.rmtree(folder)


def some_orders(count: int, seed: int, start: int = 0) -> list[Order]:
    """Market orders, and a few limit orders that stay open."""
    chance = random.Random(seed)
    orders = []
    for number in range(start, start + count):
        kind = OrderType.LIMIT if chance.random() < 0.2 else OrderType.MARKET
        orders.append(
            Order(
                f"c-{seed}-{number}",
                "US.A",
                chance.choice([Side.BUY, Side.SELL]),
                kind,
                float(chance.randint(1, 9)),
                price=90.0 if kind is OrderType.LIMIT else 0.0,
            )
        )
    return orders
