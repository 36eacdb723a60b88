"""The live part of the demo: venues, server and strategy, each a process; and who notices what."""

from __future__ import annotations

import io
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from livetrader_bt.demo import find_strategy
from livetrader_bt.live_demo import STRATEGY, VENUES, compare, print_live, trade_live
from livetrader_core.errors import Unavailable


@pytest.mark.timeout(180)
def test_the_venues_books_are_what_the_strategy_believes(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    result = trade_live(tmp_path / "live", find_strategy(STRATEGY), 7, console, minutes=15)
    print_live(result, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert result.equal, shown
    assert sum(venue.fills.total() for venue, _ in result.markets.values()) > 3
    assert list(result.markets) == list(VENUES.values())
    for word in ("MetaTrader 4", "tqsdk", "paper", "USD", "CNY", "equal"):
        assert word in shown
    assert "differs" not in shown


def fill(symbol: str, quantity: float, price: float) -> dict[str, Any]:
    return {"symbol": symbol, "quantity": quantity, "price": price, "datetime": 0}


def books() -> dict[str, Any]:
    said = {
        kind: {
            "currency": "CNY" if kind == "tq" else "USD",
            "cash": 100.0,
            "working": [],
            "fills": [fill(symbol, 2.0, 10.0), fill(symbol, -1.0, 11.0)],
            "positions": {symbol: 1.0},
        }
        for kind, symbol in VENUES.items()
    }
    return dict(said)


def broker(said: dict[str, Any]) -> Any:
    """What believes exactly what these books say."""
    orders = []
    for kind, symbol in VENUES.items():
        bits = [SimpleNamespace(size=f["quantity"], price=f["price"]) for f in said[kind]["fills"]]
        orders.append(
            SimpleNamespace(
                data=SimpleNamespace(symbol=symbol),
                executed=SimpleNamespace(exbits=bits),
                alive=lambda: False,
            )
        )
    return SimpleNamespace(
        orders=orders, account=SimpleNamespace(cash={"USD": 200.0, "CNY": 100.0})
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b["mt4"]["fills"].pop(),
        lambda b: b["mt4"]["fills"].append(fill("FOREX.EURUSD", 2.0, 10.0)),
        lambda b: b["tq"]["fills"][0].update(price=10.01),
        lambda b: b["tdx"]["fills"][0].update(quantity=2.5),
        lambda b: b["tq"]["working"].append("somebody's"),
        lambda b: b["mt4"]["positions"].update({"FOREX.EURUSD": 2.0}),
        lambda b: b["mt4"].update(cash=100.01),
        lambda b: b["tq"].update(cash=99.99),
    ],
)
def test_every_difference_is_noticed(change: Any) -> None:
    said = books()
    assert compare(said, broker(said)).equal
    other = deepcopy(said)
    change(other)
    result = compare(other, broker(said))
    assert not result.equal
    console = Console(file=io.StringIO(), width=120)
    print_live(result, console)
    assert "differs" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_venue_that_nobody_logged_in_to_is_told() -> None:
    said = books()
    with pytest.raises(Unavailable, match="tq has no account"):
        compare({**said, "tq": None}, broker(said))
