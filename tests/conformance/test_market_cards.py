"""Every adapter passes the cards that are mandatory for its kind of venue."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance import cards
from tests.conformance.rig import Rig
from tests.conformance.rigs import make, rigs
from tests.conformance.table import DOCS, KINDS, MARKET_CARDS, as_markdown, mandatory, table_in

CARDS = cards.load()
PLAYS = [
    pytest.param(rig, number, id=f"{rig.name}-{number}")
    for rig in rigs()
    for number in mandatory(rig.kind)
]


@pytest.mark.parametrize(("rig", "number"), PLAYS)
def test_card(rig: type[Rig], number: str) -> None:
    asyncio.run(CARDS[number].play(make(rig)))


def test_every_card_of_the_table_is_there() -> None:
    assert list(MARKET_CARDS) == sorted(CARDS)


@pytest.mark.parametrize("rig", rigs(), ids=lambda rig: rig.name)
def test_a_rig_is_of_a_known_kind_and_has_two_symbols(rig: type[Rig]) -> None:
    assert rig.kind in KINDS
    assert len(set(rig.symbols())) >= 2


def test_the_documentation_says_the_same() -> None:
    written = table_in(DOCS.read_text(encoding="utf-8"))
    assert written == as_markdown(rigs()), "run: python -m tests.conformance.table"
