"""A plain client of the advisor's protocol, for tests of the advisor alone."""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio

from livetrader_core.clock import SteppedClock
from livetrader_core.sim.recording import Recording
from tests.ea.terminal import EaTerminal
from tests.market.samples import at
from tests.support.dwx_venue import EURUSD, USDJPY, generated

NOON = at("2020-11-04 12:00")


_OF_ACCOUNT = ("order", "modify", "close", "delete", "result", "void")


class Gone(Exception):
    """What was to be closed is closed already."""


class Refused(Exception):
    """An error reply."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(f"{body['code']} {body['number']}: {body['message']}")
        self.code, self.number = body["code"], body["number"]


@dataclass(frozen=True)
class Publication:
    topic: str
    start: str
    number: int
    body: dict[str, Any]


@dataclass(frozen=True)
class Keys:
    """CURVE keys of a client, and the server's public one."""

    server: bytes
    public: bytes
    secret: bytes


class EaClient:
    """One client: requests, and every publication that it was sent."""

    def __init__(self, terminal: EaTerminal, token: str = "", keys: Keys | None = None) -> None:
        self._token = token.encode()
        self._account = terminal.switches.account_number
        self._context = zmq.asyncio.Context()
        self.requests = self._socket(zmq.DEALER, terminal.inputs["RequestPort"], keys)
        self._topics = self._socket(zmq.SUB, terminal.inputs["PublicationPort"], keys)
        self._topics.subscribe(b"")
        self._ids = itertools.count(1)
        self.heard: list[Publication] = []
        self._task = asyncio.get_running_loop().create_task(self._listen())

    def _socket(self, kind: int, port: int, keys: Keys | None) -> zmq.asyncio.Socket:
        socket = self._context.socket(kind)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RECONNECT_IVL, 10)
        if keys is not None:
            socket.set(zmq.CURVE_SERVERKEY, keys.server)
            socket.set(zmq.CURVE_PUBLICKEY, keys.public)
            socket.set(zmq.CURVE_SECRETKEY, keys.secret)
        socket.connect(f"tcp://127.0.0.1:{port}")
        return socket

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._context.destroy(linger=0)

    async def _listen(self) -> None:
        while True:
            topic, start, number, body = await self._topics.recv_multipart()
            self.heard.append(
                Publication(topic.decode(), start.decode(), int(number), json.loads(body))
            )

    async def ask(self, method: str, *arguments: Any, seconds: float = 5.0) -> dict[str, Any]:
        """The body of the reply. Raises Refused, asyncio.TimeoutError."""
        name = await self.send(method, *arguments)
        while True:
            got, status, body = await self.reply(seconds)
            if got != name:
                continue  # of a request that was given up
            if status != "ok":
                raise Refused(body)
            return body

    async def send(self, method: str, *arguments: Any) -> bytes:
        """Send a request; its id. Operations are for the account of the terminal."""
        if method in _OF_ACCOUNT:
            arguments = (*arguments, self._account)
        name = f"r{next(self._ids)}".encode()
        frames = [b"LT1", self._token, name, method.encode(), *(str(a).encode() for a in arguments)]
        await self.requests.send_multipart(frames)
        return name

    async def reply(self, seconds: float = 5.0) -> tuple[bytes, str, dict[str, Any]]:
        """The next reply: the id of its request, its status and its body."""
        name, status, text = await asyncio.wait_for(self.requests.recv_multipart(), seconds)
        return name, status.decode(), json.loads(text)

    async def order(
        self,
        op: str,
        kind: str = "buy",
        lots: float = 0.1,
        price: float = 0.0,
        sl: float = 0.0,
        tp: float = 0.0,
        symbol: str = "EURUSD",
        expiration: int = 0,
    ) -> dict[str, Any]:
        """An order."""
        prices = (f"{value:.5f}" for value in (price, sl, tp))
        return await self.ask("order", op, symbol, kind, lots, *prices, 3, expiration)

    def events(self) -> list[dict[str, Any]]:
        """The order events that came, in the order of coming."""
        return [heard.body for heard in self.heard if heard.topic == "event|"]

    def of(self, topic: str) -> list[Publication]:
        """The publications of a topic."""
        return [heard for heard in self.heard if heard.topic == topic]


async def certainly(client: EaClient, method: str, *arguments: Any) -> dict[str, Any]:
    """Ask until there is an answer that settles it, as a careful client does."""
    while True:
        try:
            return await client.ask(method, *arguments, seconds=0.3)
        except asyncio.TimeoutError:
            continue
        except Refused as error:
            if error.code in ("not_found", "refused"):
                raise Gone from error
            if error.code not in ("doubt", "retry", "no_connection"):
                raise
            await asyncio.sleep(0.01)


async def until(condition: Any, seconds: float = 10.0) -> None:
    """Wait for ``condition``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.002)


@asynccontextmanager
async def attached(
    clock: SteppedClock | None = None, recordings: Sequence[Recording] = (), **settings: Any
) -> AsyncIterator[EaTerminal]:
    """A terminal with EURUSD and USDJPY, and the advisor on it."""
    shown = recordings or [generated(EURUSD), generated(USDJPY)]
    with tempfile.TemporaryDirectory(prefix="lt-ea") as files:
        terminal = EaTerminal(shown, clock or SteppedClock(NOON), Path(files), **settings)
        await terminal.start()
        try:
            yield terminal
        finally:
            await terminal.stop()


@asynccontextmanager
async def connected(terminal: EaTerminal, **settings: Any) -> AsyncIterator[EaClient]:
    """A client that hears publications already."""
    client = EaClient(terminal, **settings)
    try:
        await client.ask("hello")
        await until(lambda: client.of("beat|"))
        yield client
    finally:
        await client.close()
