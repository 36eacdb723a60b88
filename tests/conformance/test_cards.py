"""The cards themselves: a right adapter passes them, each kind of wrong one fails."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance import cards, hand
from tests.conformance.rigs import make
from tests.conformance.table import MARKET_CARDS, mandatory
from tests.support.mutants import MUTANTS, clean_up
from tests.support.plain_market import PlainMarket
from tests.support.plain_rig import PlainRig

CARDS = cards.load()


@pytest.mark.parametrize("number", mandatory(PlainRig.kind))
def test_a_right_adapter_passes(number: str) -> None:
    asyncio.run(CARDS[number].play(make(PlainRig)))


@pytest.mark.parametrize(
    ("mutant", "number"), [pytest.param(m, n, id=f"{n}-{m.__name__}") for m, n in MUTANTS]
)
def test_a_wrong_one_fails(
    mutant: type[PlainMarket], number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As little as a right adapter needs, with the faults of the line and without.
    monkeypatch.setattr(hand, "PATIENCE", 0.7 if number.startswith("M3") else 0.3)
    monkeypatch.setattr(PlainRig, "adapter", mutant)
    try:
        with pytest.raises((Exception, pytest.fail.Exception)) as failed:
            asyncio.run(CARDS[number].play(make(PlainRig)))
        print(failed.type.__name__, failed.value)
    finally:
        clean_up()


def test_every_card_is_failed_by_some_mutant() -> None:
    assert {number for _, number in MUTANTS} == set(MARKET_CARDS)
