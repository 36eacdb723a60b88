"""Every adapter passes the cards that are mandatory for its kind of venue."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from livetrader_core.rpc.sockets import new_loop
from tests.conformance import cards
from tests.conformance.rig import Rig
from tests.conformance.rigs import make, rigs
from tests.conformance.table import DOCS, KINDS, MARKET_CARDS, as_markdown, mandatory, table_in
from tests.support.data import proving

CARDS = cards.load()
#: As a module an adapter runs in the loop of whoever uses it; behind a server, in uvloop's.
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": new_loop}


def loops(position: int) -> list[str]:
    """In full each card is played in both loops, else in one of them, in turns."""
    return list(LOOPS) if proving() else [list(LOOPS)[position % 2]]


PLAYS = [
    pytest.param(rig, number, loop, id=f"{rig.name}-{number}-{loop}")
    for offset, rig in enumerate(rigs())
    for position, number in enumerate(mandatory(rig.kind))
    for loop in loops(offset + position)
]


@pytest.mark.parametrize(("rig", "number", "loop"), PLAYS)
def test_card(rig: type[Rig], number: str, loop: str) -> None:
    run_in(LOOPS[loop](), CARDS[number].play(make(rig)))


def run_in(loop: asyncio.AbstractEventLoop, play: Coroutine[Any, Any, None]) -> None:
    """What ``asyncio.run`` does, in ``loop``."""
    try:
        loop.run_until_complete(play)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_every_card_of_the_table_is_there() -> None:
    assert list(MARKET_CARDS) == sorted(CARDS)


@pytest.mark.parametrize("rig", rigs(), ids=lambda rig: rig.name)
def test_a_rig_is_of_a_known_kind_and_has_two_symbols(rig: type[Rig]) -> None:
    assert rig.kind in KINDS
    assert len(set(rig.symbols())) >= 2


def test_the_documentation_says_the_same() -> None:
    written = table_in(DOCS.read_text(encoding="utf-8"))
    assert written == as_markdown(rigs()), "run: python -m tests.conformance.table"
