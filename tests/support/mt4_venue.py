"""The compiled expert advisor, or one made up of two plain sockets, and a Mt4Market for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import zmq
import zmq.asyncio

from livetrader_core.clock import SteppedClock
from livetrader_core.market.mt4 import Mt4Market
from livetrader_core.sim.recording import Recording
from tests.ea.client import attached
from tests.ea.terminal import EaTerminal

QUICK = {"timeout": 1.0, "connect_timeout": 1.0, "retry": 0.01, "longest_retry": 0.05}

BEAT = {
    "time": 1_604_498_400,
    "offset": 7200,
    "connected": True,
    "trade_allowed": True,
    "event": 0,
    "clients": 1,
    "watched": 0,
}
HELLO = {
    "protocol": 1,
    "version": "1.0",
    "start": "0123456789abcdef",
    "server": "Made-Up",
    "company": "Nobody",
    "account": 1,
    "name": "Nobody",
    "currency": "USD",
    "leverage": 100,
    "demo": True,
    "magic": 1,
    "read_only": False,
    "max_lots": 1.0,
    "max_orders": 10,
    "max_symbols": 10,
    **BEAT,
}


def market_of(terminal: EaTerminal, clock: SteppedClock, **settings: Any) -> Mt4Market:
    """An adapter for ``terminal`` that is quick to give up and to come back."""
    return Mt4Market(terminal.endpoint, clock=clock, **{**QUICK, **settings})


@asynccontextmanager
async def mt4(
    recordings: Sequence[Recording],
    clock: SteppedClock,
    terminal_settings: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[EaTerminal, Mt4Market]]:
    """A terminal with the compiled advisor, and a connected adapter."""
    async with attached(clock, recordings, **(terminal_settings or {})) as terminal:
        market = market_of(terminal, clock, **settings)
        try:
            await market.connect()
            yield terminal, market
        finally:
            await market.disconnect()


class MadeUpAdvisor:
    """Answers and publishes whatever a test wants.

    ``answers``: the body of the reply by method, or the frames behind the id, or None to be
    silent; what is not there is answered by an empty object.
    """

    def __init__(self) -> None:
        self._context = zmq.asyncio.Context()
        self._requests = self._context.socket(zmq.ROUTER)
        self._topics = self._context.socket(zmq.XPUB)
        self.port = self._requests.bind_to_random_port("tcp://127.0.0.1")
        events = self._topics.bind_to_random_port("tcp://127.0.0.1")
        self.answers: dict[str, Any] = {"hello": {**HELLO, "publications": events}}
        self.asked: list[list[bytes]] = []
        self.subscribed: set[bytes] = set()
        self._client = b""
        self._tasks = [
            asyncio.get_running_loop().create_task(work())
            for work in (self._answer, self._hear_subscriptions)
        ]

    @property
    def endpoint(self) -> str:
        """Where clients connect."""
        return f"tcp://127.0.0.1:{self.port}"

    async def _answer(self) -> None:
        while True:
            client, *frames = await self._requests.recv_multipart()
            self._client = client
            self.asked.append(frames)
            answer = self.answers.get(frames[3].decode(), {})
            if answer is None:
                continue
            if isinstance(answer, dict):
                answer = [frames[2], b"ok", json.dumps(answer).encode()]
            await self._requests.send_multipart([client, *answer])

    async def _hear_subscriptions(self) -> None:
        while True:
            frame = await self._topics.recv()
            change = self.subscribed.add if frame[:1] == b"\1" else self.subscribed.discard
            change(frame[1:])

    async def say(self, frames: list[bytes]) -> None:
        """Send ``frames`` to the client that asked last."""
        await self._requests.send_multipart([self._client, *frames])

    async def publish_frames(self, frames: list[bytes]) -> None:
        """Publish ``frames`` as they are."""
        await self._topics.send_multipart(frames)

    async def publish(
        self, topic: str, number: int, body: Any = None, start: str = HELLO["start"]
    ) -> None:
        """Publish ``body``, which is bytes or becomes JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        await self._topics.send_multipart([topic.encode(), start.encode(), b"%d" % number, data])

    async def close(self) -> None:
        """Close the sockets."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._context.destroy(linger=0)


@asynccontextmanager
async def made_up() -> AsyncIterator[MadeUpAdvisor]:
    """A made-up advisor."""
    advisor = MadeUpAdvisor()
    try:
        yield advisor
    finally:
        await advisor.close()
