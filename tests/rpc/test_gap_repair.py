"""However the line is cut and stalled, a subscriber ends with exactly what was published."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable

import pytest

from livetrader_core.models import Kline
from livetrader_core.rpc import AsyncClient
from livetrader_core.rpc.endpoints import Endpoint
from livetrader_core.service import MarketService
from tests.rpc.wiring import ROOT, run, served
from tests.support.data import proving
from tests.support.line import NEAR, Line
from tests.support.ticking_market import TickingMarket, tick_kline

SYMBOLS = ["US.A", "US.BB"]


async def trouble(line: Line, seeded: random.Random) -> None:
    """Cut or stall ``line`` once, for a random time, at a random moment."""
    await asyncio.sleep(seeded.uniform(0.0, 0.08))
    kind = seeded.random()
    if kind < 0.45:
        line.cut()
        await asyncio.sleep(seeded.choice([0.0, 0.01, 0.05, 0.15, 0.4]) * seeded.random())
    elif kind < 0.8:
        line.stall()
        await asyncio.sleep(seeded.uniform(0.0, 0.5))
    else:  # first no sound, then dead
        line.stall()
        await asyncio.sleep(seeded.uniform(0.0, 0.2))
        line.cut()
        await asyncio.sleep(seeded.uniform(0.0, 0.2))
    line.restore()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(5 if proving() else 1))
def test_nothing_is_missing_nothing_comes_twice_however_the_line_is_cut(
    seed: int, record_property: Callable[[str, object], None]
) -> None:
    cuts = 100 if proving() else 15
    seeded = random.Random(seed)

    async def main() -> None:
        market = TickingMarket(SYMBOLS, interval=0.004, lag=seed % 3)
        async with served(MarketService(market), endpoint="tcp://127.0.0.1:*", heartbeat=0.08) as (
            _,
            endpoint,
        ):
            async with AsyncClient() as client:
                greeting = await client.connect(endpoint)
            port = Endpoint.parse(endpoint).port
            async with Line([port, int(greeting.events)]) as line:
                collected = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "tests.rpc.collector"),
                    *(f"tcp://{NEAR}:{port}", *SYMBOLS),
                    cwd=ROOT,
                    stdin=PIPE,
                    stdout=PIPE,
                )
                assert collected.stdout is not None
                assert collected.stdin is not None
                assert await collected.stdout.readline() == b"ready\n"
                for _ in range(cuts):
                    await trouble(line, seeded)
                last = market.count + 20
                collected.stdin.write(f"{last}\n".encode())
                out, _ = await collected.communicate()
        complete, breaks, klines = json.loads(out)
        assert complete
        assert breaks > cuts / 10
        for symbol in SYMBOLS:
            got = [Kline(*row) for row in klines[symbol]]
            first = int(got[0].volume)  # a ticking kline's volume is its number
            published = [tick_kline(symbol, n) for n in range(first, first + len(got))]
            assert got == published
            assert first + len(got) > last
        record_property("gap repair: times the line was cut or stalled", cuts)

    run(main)
