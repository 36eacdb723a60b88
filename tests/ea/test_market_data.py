"""Quotes, closed bars, history and contracts from the advisor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from livetrader_core.clock import SteppedClock
from livetrader_core.sim.recording import MINUTE_MS
from tests.ea.client import NOON, EaClient, Refused, attached, connected, until
from tests.ea.terminal import EaTerminal
from tests.support.mt4_course import course

Record = Callable[[str, object], None]
_CURRENCIES = ("AUD", "CAD", "CHF", "EUR", "GBP", "JPY", "NZD", "USD")


async def history(client: EaClient, symbol: str, minutes: int, first: int, last: int) -> list[Any]:
    """All bars of a stretch, over as many requests as it takes."""
    found: list[Any] = []
    while first:
        part = await client.ask("bars", symbol, minutes, first, last, 500)
        found += part["bars"]
        first = part["next"]
    return found


def expected(terminal: EaTerminal, minutes: int, first: int, last: int) -> list[list[Any]]:
    """The terminal's own bars that open in [first, last) and are over or form."""
    rates = terminal.model.rates("EURUSD", minutes, first * 1000, last * 1000 - 1)
    return [[r.time, r.open, r.high, r.low, r.close, r.tick_volume, r.spread] for r in rates]


def test_every_closed_bar_is_published_once_and_in_order() -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        async with attached(clock) as terminal, connected(terminal) as client:
            assert (await client.ask("watch", "EURUSD", "NOPE"))["unknown"] == ["NOPE"]
            await asyncio.sleep(0.02)
            for _ in range(30):
                clock.advance(clock.now() + MINUTE_MS)
                await asyncio.sleep(0.01)
            clock.advance(clock.now() + 10 * MINUTE_MS)  # a leap leaves none out
            now = terminal.model.server_time() // 1000
            closed = [bar for bar in expected(terminal, 1, now - 3000, now) if bar[0] + 60 <= now]
            await until(
                lambda: (
                    (got := client.of("bar|EURUSD|")) and got[-1].body["bar"][0] == closed[-1][0]
                )
            )
            heard = client.of("bar|EURUSD|")
            bars = [one.body["bar"] for one in heard]
            assert [one.number for one in heard] == list(range(1, len(heard) + 1))
            assert bars == [[*bar, 1] for bar in closed if bar[0] >= bars[0][0]]
            assert len(bars) >= 35

    asyncio.run(main())


def test_history_in_chunks_is_all_of_it_and_says_what_may_still_change() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            now = terminal.model.server_time() // 1000
            for minutes, days in ((1, 9), (60, 15), (1440, 15)):
                first = now - days * 86_400
                bars = await history(client, "EURUSD", minutes, first, now + 60)
                assert [bar[:7] for bar in bars] == expected(terminal, minutes, first, now + 60)
                ends = [bar[0] + minutes * 60 <= now for bar in bars]
                assert [bar[7] for bar in bars] == [int(over) for over in ends]
            assert await history(client, "EURUSD", 1, 1, 100) == []

    asyncio.run(main())


def test_history_that_still_loads_is_to_be_asked_for_again() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            terminal.switches.unloaded = 1
            now = terminal.model.server_time() // 1000
            with pytest.raises(Refused) as told:
                await client.ask("bars", "EURUSD", 1, now - 600, now, 100)
            assert (told.value.code, told.value.number) == ("retry", 4066)
            assert (await client.ask("bars", "EURUSD", 1, now - 600, now, 100))["bars"]

    asyncio.run(main())


def test_quotes_are_told_when_they_change_of_every_watched_symbol() -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        async with attached(clock) as terminal, connected(terminal) as client:
            await client.ask("watch", "EURUSD", "USDJPY")
            await until(lambda: client.of("tick|EURUSD|") and client.of("tick|USDJPY|"))
            quote = client.of("tick|USDJPY|")[-1].body
            assert (quote["bid"], quote["ask"]) == terminal.model.quote("USDJPY")
            await client.ask("unwatch", "USDJPY")
            heard = len(client.of("tick|USDJPY|"))
            for _ in range(8):
                clock.advance(clock.now() + MINUTE_MS // 4)
                await asyncio.sleep(0.01)
            assert len(client.of("tick|EURUSD|")) > 3
            assert len(client.of("tick|USDJPY|")) == heard

    asyncio.run(main())


def test_the_beat_tells_the_server_clock_and_its_offset_once_quotes_are_fresh() -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        async with attached(clock) as terminal, connected(terminal) as client:
            assert client.of("beat|")[0].body["offset"] is None
            clock.advance(NOON + MINUTE_MS)
            await asyncio.sleep(0.05)
            beat = await client.ask("ping")
            assert beat["offset"] == 2 * 3600  # winter in New York since three days
            assert beat["time"] == terminal.model.time_current() // 1000

    asyncio.run(main())


def test_more_symbols_than_allowed_are_refused() -> None:
    async def main() -> None:
        async with attached(MaximumSymbols=1) as terminal, connected(terminal) as client:
            await client.ask("watch", "EURUSD")
            with pytest.raises(Refused) as told:
                await client.ask("watch", "USDJPY")
            assert told.value.code == "limit"
            await client.ask("watch", "EURUSD")  # to name one again is no more

    asyncio.run(main())


def test_many_symbols_take_turns_and_none_is_left_out(record_property: Record) -> None:
    symbols = [f"FOREX.{one}{other}" for one in _CURRENCIES for other in _CURRENCIES if one < other]

    async def main() -> float:
        clock = SteppedClock(NOON)
        recordings = [course(symbol, range(10)) for symbol in symbols]
        async with attached(clock, recordings) as terminal, connected(terminal) as client:
            names = [symbol[6:] for symbol in symbols]
            terminal.longest = 0.0
            assert (await client.ask("watch", *names))["watched"] == len(names)
            for _ in range(4):
                await asyncio.sleep(0.1)
                clock.advance(clock.now() + MINUTE_MS)
            topics = [f"bar|{name}|" for name in names]
            await until(lambda: all(len(client.of(topic)) >= 3 for topic in topics))
            return terminal.longest

    record_property("advisor: longest OnTimer with 28 symbols, ms", [1000 * asyncio.run(main())])
