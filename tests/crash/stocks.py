"""The venue on a Unix socket of the crash tests, and what its books say."""

from __future__ import annotations

from typing import Any

from tests.crash.script import PRICES, STOCK
from tests.crash.venue import PersistentVenue
from tests.crash.waves import net


class Stocks:
    """The venue on a Unix socket."""

    def __init__(self, folder: str, seed: int) -> None:
        self.venue = PersistentVenue(f"{folder}/third", seed)

    def address(self) -> dict[str, Any]:
        return {"path": self.venue.path}

    def books(self) -> dict[str, Any]:
        venue = self.venue
        fills = {
            f.trade_id: [f.client_order_id, f.symbol, f.side.sign * f.quantity, f.price]
            for f in list(venue.fills)
        }
        orders = list(venue.orders.items())
        return {
            "arrived": dict(venue.arrived),
            "working": [name for name, order in orders if not order.status.is_final],
            "fills": fills,
            "positions": net((row[1], row[2]) for row in fills.values()),
            "cash": venue.cash(),
            "equity": venue.cash() + venue.position() * PRICES[STOCK],
        }
