"""Every trade adapter passes the cards that are mandatory for its kind of venue."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance import trade_cards
from tests.conformance.rigs import trade_rigs
from tests.conformance.table import DOCS, table_in, tables
from tests.conformance.trade_rig import TradeRig
from tests.conformance.trade_table import TRADE_CARDS, TRADE_KINDS, trade_mandatory
from tests.support.data import proving

CARDS = trade_cards.load()
PLACES = {"local": False, "wire": True}


def places(position: int) -> list[str]:
    """In full each card is played in this process and over a wire, else in one, in turns."""
    return list(PLACES) if proving() else [list(PLACES)[position % 2]]


PLAYS = [
    pytest.param(rig, number, place, id=f"{rig.name}-{number}-{place}")
    for offset, rig in enumerate(trade_rigs())
    for position, number in enumerate(trade_mandatory(rig.kind))
    for place in places(offset + position)
]


@pytest.mark.parametrize(("rig", "number", "place"), PLAYS)
def test_card(rig: type[TradeRig], number: str, place: str) -> None:
    asyncio.run(CARDS[number].play(rig, PLACES[place]))


def test_every_trade_card_of_the_table_is_there() -> None:
    assert list(TRADE_CARDS) == sorted(CARDS)


@pytest.mark.parametrize("rig", trade_rigs(), ids=lambda rig: rig.name)
def test_a_trade_rig_is_of_a_known_kind_and_has_two_symbols(rig: type[TradeRig]) -> None:
    assert rig.kind in TRADE_KINDS
    assert len(rig.prices) == 2


@pytest.mark.parametrize("what", ["support", "trade cards"])
def test_the_documentation_says_the_same(what: str) -> None:
    written = table_in(DOCS.read_text(encoding="utf-8"), what)
    assert written == tables()[what], "run: python -m tests.conformance.table"
