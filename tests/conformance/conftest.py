"""Assertions in cards are told in full, as those in tests are."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "tests.conformance.cards",
    "tests.conformance.hand",
    "tests.conformance.trade_cards",
    "tests.conformance.trade_hand",
)
