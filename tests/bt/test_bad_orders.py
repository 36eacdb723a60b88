"""Orders that nobody could trade end Rejected with a reason, in a backtest as in paper trading."""

from __future__ import annotations

from typing import Any

import backtrader as bt
import pytest

from livetrader_bt import LiveTraderStore
from tests.bt.test_live import RATES, START, run, services

LIMIT = {"exectype": bt.Order.Limit}
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"size": NAN}, "a size of nan"),
        ({"size": INF}, "a size of inf"),
        ({"size": 1e-9}, "is less than the smallest quantity, 0.01"),
        ({"size": 1, "price": NAN, **LIMIT}, "a price of nan"),
        ({"size": 1, "price": INF, **LIMIT}, "a price of inf"),
        ({"size": 1, "price": -1.0, **LIMIT}, "a price of -1, which is no price on a tick of"),
        ({"size": 1, "price": 1e-9, **LIMIT}, "a price of 1e-09, which is no price on a tick of"),
        ({"size": 1, "price": 1.0, "plimit": NAN, "exectype": bt.Order.StopLimit}, "price of nan"),
    ],
)
@pytest.mark.parametrize("mode", ["backtest", "paper"])
@pytest.mark.parametrize("side", ["buy", "sell"])
def test_an_order_that_cannot_be_is_rejected(
    side: str, mode: str, wish: dict[str, Any], reason: str
) -> None:
    def action(strategy: Any) -> None:
        if strategy.moments[-1][0] == START + 300_000:
            getattr(strategy, side)(**wish)

    ran = run(
        LiveTraderStore(service=services(), rates=RATES),
        ["FOREX.EURUSD"],
        action,
        mode=mode,
        todate=START + 600_000,
    )
    assert [order.getstatusname() for order in ran.orders_told][-1:] == ["Rejected"]
    assert reason in ran.orders_told[-1].info.reason
    assert ran.position.size == 0
