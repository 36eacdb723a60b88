"""The server that is killed: ``python -m tests.crash.server ENDPOINT JOURNAL VENUE [LINE NTH]``.

With LINE (``FILE:NUMBER``) it kills itself when that line is about to run for the NTH time.
"""

from __future__ import annotations

import sys
from typing import Any

from livetrader_core.rpc import Server
from livetrader_core.trade import TradeService
from livetrader_core.trade.journal import Journal
from livetrader_core.trade.ledger import OrderLedger
from livetrader_core.trade.sending import Sender
from tests.crash.adapter import PersistentTrade
from tests.crash.strike import kill_at, lines_of

#: What runs between the request of an order and the venue's answer to it.
_PATH: tuple[Any, ...] = (
    TradeService.create_order,
    TradeService._let_out,
    Sender.submit,
    OrderLedger.write_first,
    Sender.begin,
    Sender._send,
    OrderLedger.change,
    OrderLedger._record,
    OrderLedger.write_unwritten,
    OrderLedger._publish,
    OrderLedger.on_event,
    Journal.append,
    PersistentTrade.create_order,
    PersistentTrade._ask,
)


def lines() -> list[str]:
    """Every line on the way of an order, as ``FILE:NUMBER``."""
    return lines_of(_PATH)


def main(endpoint: str, journal: str, venue: str, where: str = "", nth: str = "0") -> None:
    trade = TradeService(PersistentTrade(venue), journal, ask_every=0.05, settle_after=0.05)
    server = Server(trade, heartbeat=0.2)
    server.bind(endpoint)
    if where:
        kill_at(_PATH, where, int(nth))
    server.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
