"""The cards themselves: a right adapter passes them, each kind of wrong one fails."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance import cards
from tests.conformance.rigs import make
from tests.conformance.table import mandatory
from tests.support.plain_rig import PlainRig

CARDS = cards.load()


@pytest.mark.parametrize("number", mandatory(PlainRig.kind))
def test_a_right_adapter_passes(number: str) -> None:
    asyncio.run(CARDS[number].play(make(PlainRig)))
