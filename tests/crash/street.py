"""Venues that stay, servers that are killed, a strategy that goes on, and the count at the end."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from livetrader_core.clock import SpedClock
from livetrader_core.errors import LiveTraderError
from livetrader_core.rpc import AsyncClient
from livetrader_core.rpc.endpoints import Endpoint
from livetrader_core.sim.mt4_terminal import free_port
from livetrader_core.trade.audit import audit_events
from livetrader_core.trade.journal import Journal
from tests.crash.accounts import View, differences, view_of
from tests.crash.script import FAULTS, START, Action, venue_of
from tests.rpc.wiring import ROOT
from tests.support.line import NEAR, Line

#: How much faster the venues' time passes.
SPEED = 60.0


class Street:
    """Venues in one process, one server after another, and what the venues' books say."""

    def __init__(self, folder: str, seed: int, venues: Sequence[str]) -> None:
        self.folder = folder
        self.endpoint = f"ipc://{folder}/s"
        self.clock = str(SpedClock(START, SPEED))
        self.kills = 0
        #: Whether a server that ended by itself is started again, as a supervisor does.
        self.supervised = False
        self._server: subprocess.Popen[bytes] | None = None
        self._log = open(f"{folder}/server.log", "ab")  # noqa: SIM115 - closed by end()
        self._venues = process(
            "tests.crash.venues",
            folder,
            self.clock,
            str(seed),
            ",".join(venues),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.addresses: dict[str, Any] = self._line()

    def _line(self) -> dict[str, Any]:
        assert self._venues.stdout is not None
        return dict(json.loads(self._venues.stdout.readline()))

    def books(self) -> dict[str, Any]:
        """What the venues' books say now."""
        return self._asked("books")

    def fault(self, venue: str, name: str) -> None:
        """Let something go wrong at a venue (see venues.py)."""
        self._asked(f"fault {venue} {name}")

    def _asked(self, line: str) -> dict[str, Any]:
        assert self._venues.stdin is not None
        self._venues.stdin.write(line.encode() + b"\n")
        self._venues.stdin.flush()
        return self._line()

    # ---- servers

    def start(self, where: str = "", nth: int = 0) -> None:
        """Start a server, which may kill itself at a line (see strike.py)."""
        settings = {"endpoint": self.endpoint, "folder": self.folder, "clock": self.clock}
        arguments = [json.dumps({**settings, **self.addresses})]
        if where:
            arguments += [where, str(nth)]
        self._server = process("tests.crash.trading", *arguments, stderr=self._log)

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

    def close(self) -> None:
        """End the server and the venues."""
        self.end()
        assert self._venues.stdin is not None
        assert self._venues.stdout is not None
        self._venues.stdin.close()
        self._venues.wait(20)
        self._venues.stdout.close()
        self._log.close()

    @property
    def log(self) -> str:
        """The end of what the servers logged."""
        return Path(f"{self.folder}/server.log").read_text()[-4000:]

    @asynccontextmanager
    async def through_line(self, link: str) -> AsyncIterator[Line]:
        """Start a server whose way to a venue, or to its ``client``, is a line that can break."""
        if link == "client":
            self.endpoint = "tcp://127.0.0.1:" + str(free_port("127.0.0.1"))
            self.start()
            await (await self.connected()).close()
            async with AsyncClient() as client:
                greeting = await client.connect(self.endpoint)
            ports = [Endpoint.parse(self.endpoint).port, int(greeting.events)]
        else:
            ports = _ports(self.addresses[link])
        async with Line(ports) as line:
            if link == "client":
                self.endpoint = self.endpoint.replace("127.0.0.1", NEAR)
            else:
                self.addresses[link] = _moved(self.addresses[link])
                self.start()
                await (await self.connected()).close()
            yield line

    # ---- clients

    async def connected(self, seconds: float = 240.0, timeout: float = 2.0) -> AsyncClient:
        """A client of the server, as soon as there is one."""
        deadline = time.monotonic() + seconds
        while True:
            client = AsyncClient(timeout=timeout)
            try:
                await client.connect(self.endpoint)
                return client
            except LiveTraderError:
                await client.close()
                assert time.monotonic() < deadline, f"no server came up: {self.log}"
                if self.supervised and self.dead:
                    self.start()
                await asyncio.sleep(0.02)

    async def settled(self, actions: Sequence[Action], seconds: float = 30.0) -> View:
        """What the server says, as soon as it agrees with the venues in everything."""
        deadline = time.monotonic() + seconds
        client = await self.connected(timeout=10.0)
        try:
            while True:
                try:
                    view = await view_of(client)
                    books = await asyncio.to_thread(self.books)
                    if not (found := differences(books, view, actions)):
                        return view
                except LiveTraderError as error:  # the way to a venue may be coming back
                    found = [str(error)]
                # Orders fill as prices move, and the server hears of it a little later.
                assert time.monotonic() < deadline, f"{found}\n{self.log}"
                await asyncio.sleep(0.05)
        finally:
            await client.close()

    def check_journal(self, view: View) -> None:
        """End the server: its journal says the same as it did, and is sound."""
        self.end()
        journal = Journal(f"{self.folder}/journal")
        try:
            assert audit_events(journal.events_after(0)).faults == []
            fills = {f"{venue_of(fill.symbol)}:{fill.trade_id}" for fill in journal.fills()}
            assert fills >= set(view.fills)
            assert {order.client_order_id for order in journal.orders()} == set(view.orders)
        finally:
            journal.close()


def _ports(address: Mapping[str, Any]) -> list[int]:
    """The ports of a venue."""
    found = {int(str(place).rpartition(":")[2].partition("/")[0]) for place in address.values()}
    return sorted(found)


def _moved(address: Mapping[str, Any]) -> dict[str, Any]:
    """``address`` by the near end of a line."""
    places = {
        name: place.replace("127.0.0.1", NEAR) if isinstance(place, str) else place
        for name, place in address.items()
    }
    return {**places, "host": NEAR, "timeout": 1.0}


def process(module: str, *arguments: str, **settings: Any) -> subprocess.Popen[bytes]:
    """A Python process that runs ``module``."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **settings,
    )


@contextmanager
def street_of(seed: int, venues: Sequence[str]) -> Iterator[Street]:
    """Venues in a folder of their own; nothing is left of them."""
    folder = tempfile.mkdtemp(prefix="ltv")
    made = Street(folder, seed, venues)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)


async def kill_at_random(
    street: Street, chance: random.Random, kills: int, longest: float = 0.15, faults: bool = False
) -> None:
    """Kill the server ``kills`` times, most within ``longest`` seconds after it began to work.

    Now and then also while it starts. A new one follows each. With ``faults`` something goes wrong
    at a venue before every third of them.
    """
    if street.dead:
        street.start()
    # A server that finds no venue when it starts says so, and ends.
    street.supervised = faults
    for _ in range(kills):
        if faults and chance.random() < 0.3:
            venue = chance.choice(sorted(FAULTS.keys() & street.addresses.keys()))
            await asyncio.to_thread(street.fault, venue, chance.choice(FAULTS[venue]))
        if chance.random() < 0.25:
            await asyncio.sleep(chance.random() * 3.0)  # while it starts
        else:
            await (await street.connected()).close()
            # Some live long enough to see prices move.
            await asyncio.sleep(chance.random() * longest * chance.choice([1, 1, 10]))
        assert faults or not street.dead, street.log
        street.kill()
        street.start()
