"""Stocks of the crash tests: on paper with the prices of a TDX server, and on a Unix socket."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from livetrader_core.clock import Clock
from livetrader_core.market.specs import default_contract
from livetrader_core.sim.tdx_server import TdxServer
from tests.crash.script import ALIBABA, APPLE
from tests.crash.venue import PersistentVenue
from tests.crash.waves import net, wave


class Paper:
    """The TDX server. The orders are in the file of the paper account, which outlives servers."""

    def __init__(self, clock: Clock, folder: str) -> None:
        self.venue = TdxServer([wave(default_contract(s)) for s in (APPLE, ALIBABA)], clock)
        self._file = Path(folder) / "paper"

    def address(self) -> dict[str, Any]:
        return {"host": self.venue.endpoint, "state": str(self._file)}

    def books(self) -> dict[str, Any]:
        """What the file says."""
        if not self._file.exists():
            return _nothing()
        with tempfile.TemporaryDirectory() as folder:
            # The server has it locked; what is in a copy was committed.
            for name in (self._file.name, f"{self._file.name}-wal"):
                if (self._file.parent / name).exists():
                    shutil.copy(self._file.parent / name, folder)
            try:
                with closing(sqlite3.connect(f"{folder}/{self._file.name}")) as copy:
                    return self._read(copy)
            except sqlite3.Error:  # copied in the middle of a write
                return _nothing()

    def _read(self, copy: sqlite3.Connection) -> dict[str, Any]:
        orders = copy.execute("SELECT client_order_id, working FROM orders").fetchall()
        fills = {}
        for (body,) in copy.execute("SELECT body FROM fills"):
            fill = json.loads(body)
            size = fill["quantity"] * (1 if fill["side"] == "buy" else -1)
            row = [fill["client_order_id"], fill["symbol"], size, fill["price"]]
            assert fill["trade_id"] not in fills, f"{fill} is there twice"
            fills[fill["trade_id"]] = row
        found = copy.execute("SELECT body FROM parts WHERE name='account'").fetchone()
        account = json.loads(found[0])["USD"] if found else {"cash": 100_000.0}
        return {
            "arrived": {name: 1 for name, _ in orders},
            "working": [name for name, working in orders if working is not None],
            "fills": fills,
            "positions": net((row[1], row[2]) for row in fills.values()),
            "cash": account["cash"],
        }


def _nothing() -> dict[str, Any]:
    return {"arrived": {}, "working": [], "fills": {}, "positions": {}, "cash": 100_000.0}


class Socket:
    """The venue on a Unix socket."""

    def __init__(self, folder: str, seed: int) -> None:
        self.venue = PersistentVenue(f"{folder}/socket", seed)

    def address(self) -> dict[str, Any]:
        return {"path": self.venue.path}

    def books(self) -> dict[str, Any]:
        """What there is, in plain words."""
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
        }
