"""The trading cards themselves: each is failed by an adapter with one mistake."""

from __future__ import annotations

import asyncio

import pytest

from livetrader_core.trade.base import TradeBase
from tests.conformance import hand, trade_cards
from tests.conformance.rigs import trade_rigs
from tests.conformance.trade_table import TRADE_CARDS
from tests.support.trade_mutants import TRADE_MUTANTS

CARDS = trade_cards.load()


@pytest.mark.parametrize(
    ("mutant", "number"), [pytest.param(m, n, id=f"{n}-{m.__name__}") for m, n in TRADE_MUTANTS]
)
def test_a_wrong_one_fails(
    mutant: type[TradeBase], number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Far more than the right adapter needs for any of these cards.
    monkeypatch.setattr(hand, "PATIENCE", 0.5)
    rig = next(one for one in trade_rigs() if issubclass(mutant, one.trade))
    monkeypatch.setattr(rig, "trade", mutant)
    with pytest.raises((Exception, pytest.fail.Exception)) as failed:
        asyncio.run(CARDS[number].play(rig, wire=False))
    print(failed.type.__name__, failed.value)


def test_every_trade_card_is_failed_by_some_mutant() -> None:
    assert {number for _, number in TRADE_MUTANTS} == set(TRADE_CARDS)
