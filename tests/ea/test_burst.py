"""Twenty orders in a burst: ours does each once, in order, and answers who asked.

The published advisor has its client send with a high-water mark of 1 and without waiting, and deals
its replies out to all who are connected (its users' reports: orders and replies get lost).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import zmq

from livetrader_core.clock import SteppedClock
from livetrader_core.sim.mt4_terminal import Mt4Terminal
from tests.ea.client import NOON, EaClient, attached, connected
from tests.support.dwx_trading import WIDE, terminal_at

BURST = 20
Record = Callable[[str, object], None]


def _command(number: int) -> bytes:
    return f"TRADE;OPEN;0;EURUSD;0.0;0;0;b{number};0.01;9;0".encode()


def test_ours_does_each_order_of_a_burst_once_and_answers_who_asked() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as one, connected(terminal) as other:
            clients = {"one": one, "other": other}
            sent: dict[str, list[bytes]] = {}
            for name, client in clients.items():
                sent[name] = [await _order(client, f"{name}-{n}") for n in range(BURST)]
            for name, client in clients.items():
                replies = [await client.reply() for _ in range(BURST)]
                assert [reply[0] for reply in replies] == sent[name]
                assert [reply[2]["op"] for reply in replies] == [
                    f"{name}-{n}" for n in range(BURST)
                ]
            comments = [t.comment for t in terminal.trading.tickets.values()]
            for name in clients:
                mine = [comment for comment in comments if comment.startswith(name)]
                assert mine == [f"{name}-{n}" for n in range(BURST)]

    asyncio.run(main())


async def _order(client: EaClient, op: str) -> bytes:
    return await client.send("order", op, "EURUSD", "buy", "0.01", 0, 0, 0, 3, 0)


def test_the_published_one_answers_whoever_is_next_and_loses_orders(
    record_property: Record,
) -> None:
    async def main() -> None:
        async with terminal_at(SteppedClock(NOON), inputs=WIDE, build="early") as terminal:
            context: zmq.Context[Any] = zmq.Context()
            try:
                pulls = [_pull(context, terminal) for _ in range(2)]
                push = _push(context, terminal, 1000)
                await asyncio.sleep(0.2)
                answers = await _burst(push, pulls)
                # One client asked for all, and the other got half of the answers. (Later builds
                # send an empty frame after each, so that one gets all of them and the other none.)
                assert answers == [BURST // 2, BURST // 2]
                assert len(terminal.trading.tickets) == BURST
                narrow = _push(context, terminal, 1)
                await _burst(narrow, pulls)
                executed = len(terminal.trading.tickets) - BURST
            finally:
                context.destroy(linger=0)
        assert executed <= BURST
        record_property("published advisor: executed of a burst of 20", executed)

    asyncio.run(main())


def _push(context: zmq.Context[Any], terminal: Mt4Terminal, high_water: int) -> zmq.Socket[Any]:
    push = context.socket(zmq.PUSH)
    push.set(zmq.SNDHWM, high_water)
    push.connect(f"tcp://127.0.0.1:{terminal.push_port}")
    return push


def _pull(context: zmq.Context[Any], terminal: Mt4Terminal) -> zmq.Socket[Any]:
    pull = context.socket(zmq.PULL)
    pull.connect(f"tcp://127.0.0.1:{terminal.pull_port}")
    return pull


async def _burst(push: zmq.Socket[Any], pulls: list[zmq.Socket[Any]]) -> list[int]:
    """Send all orders without waiting; how many answers came to each of ``pulls``."""
    for number in range(BURST):
        with suppress(zmq.Again):  # its client takes no notice
            push.send(_command(number), zmq.DONTWAIT)
    answers = [0] * len(pulls)
    for _ in range(60):
        await asyncio.sleep(0.005)
        for place, pull in enumerate(pulls):
            while pull.poll(0):
                answers[place] += b"EXECUTION" in pull.recv()
    return answers
