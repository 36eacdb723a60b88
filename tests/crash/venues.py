"""Simulated venues in a process that outlives the servers.

``python -m tests.crash.venues FOLDER CLOCK SEED VENUE,VENUE``. It says in a line of JSON how to
reach them, and answers every line on its input with what its books say, after something went wrong
if the line asks for it: ``fault VENUE NAME``. When its input ends, so does it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from livetrader_core.clock import Clock, parse_clock


def venue(name: str, folder: str, clock: Clock, seed: int) -> Any:
    """The venue called ``name``; only what it needs is imported."""
    if name == "dwx":
        from tests.crash.terminal import DwxVenue

        return DwxVenue(clock)
    if name == "mt4":
        from tests.crash.advisor import Mt4Venue

        return Mt4Venue(clock, folder)
    if name == "tq":
        from tests.crash.futures import Futures

        return Futures(clock)
    from tests.crash.stocks import Paper, Socket

    return Paper(clock, folder) if name == "paper" else Socket(folder, seed)


async def _serve(folder: str, clock: Clock, seed: int, names: list[str]) -> None:
    venues = {name: venue(name, folder, clock, seed) for name in names}
    served = [one.venue for name, one in venues.items() if name != "socket"]
    for one in served:
        await one.start()
    try:
        print(json.dumps({name: one.address() for name, one in venues.items()}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.startswith("fault"):
                _, name, fault = line.split()
                venues[name].show(fault)
            print(json.dumps({name: one.books() for name, one in venues.items()}), flush=True)
    finally:
        for one in served:
            await one.stop()
        if "socket" in venues:
            venues["socket"].venue.close()


if __name__ == "__main__":
    _folder, _clock, _seed, _names = sys.argv[1:]
    asyncio.run(_serve(_folder, parse_clock(_clock), int(_seed), _names.split(",")))
