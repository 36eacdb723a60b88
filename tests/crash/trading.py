"""A whole server of three venues: ``python -m tests.crash.trading SETTINGS [LINE NTH]``.

SETTINGS is JSON: ``endpoint``, ``folder``, ``clock``, and how to reach each venue. With LINE it
kills itself when that line is about to run for the NTH time.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from livetrader_core.market.base import MarketBase
from livetrader_core.market.dwx import DwxMarket
from livetrader_core.market.mt4 import Mt4Market
from livetrader_core.market.tdx import TdxMarket
from livetrader_core.rpc import Server
from livetrader_core.service import MarketService
from livetrader_core.trade import TradeService
from livetrader_core.trade.base import TradeBase
from livetrader_core.trade.dwx import DwxTrade
from livetrader_core.trade.mt4 import Mt4Trade
from livetrader_core.trade.paper import PaperTrade
from livetrader_core.trade.tq import TqTrade
from tests.crash.adapter import PersistentTrade
from tests.crash.script import PASSWORD, USER, VENUES


def main(settings: str, where: str = "", nth: str = "0") -> None:
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("livetrader_core").setLevel(logging.INFO)
    given = json.loads(settings)
    trades: list[TradeBase] = []
    markets: list[MarketBase] = []
    if "dwx" in given:
        terminal = _terminal(given)
        trades.append(DwxTrade(**terminal, state=f"{given['folder']}/dwx", poll_every=0.05))
        markets.append(DwxMarket(**terminal, symbols=VENUES["dwx"]))
    if "mt4" in given:
        advisor = _advisor(given)
        trades.append(Mt4Trade(**advisor, state=f"{given['folder']}/mt4", patience=0.5))
        markets.append(Mt4Market(**advisor))
    if "tq" in given:
        trades.append(_futures(given))
    if "socket" in given:
        trades.append(PersistentTrade(given["socket"]["path"]))
    if "paper" in given:
        markets.append(_stocks(given))
    market = MarketService(markets) if markets else None
    if "paper" in given and market is not None:
        trades.append(PaperTrade(market, markets=["US"], state=given["paper"]["state"]))
    trade = TradeService(
        trades,
        f"{given['folder']}/journal",
        ask_every=0.1,
        settle_after=0.3,
        market=market,
        reconcile_every=1.0,
    )
    server = Server(*([] if market is None else [market]), trade, heartbeat=0.2)
    server.bind(given["endpoint"])
    if where:
        from tests.crash.lines import PATH
        from tests.crash.strike import kill_at

        kill_at(PATH, where, int(nth))
    server.run()


def _terminal(given: dict[str, Any]) -> dict[str, Any]:
    address = given["dwx"]
    return {
        "host": address.get("host", "127.0.0.1"),
        "push_port": address["push"],
        "pull_port": address["pull"],
        "sub_port": address["sub"],
        "clock": given["clock"],
        "timeout": address.get("timeout", 1.0),
        "connect_timeout": 2.0,
        "retry": 0.02,
        "longest_retry": 0.2,
    }


def _advisor(given: dict[str, Any]) -> dict[str, Any]:
    address = given["mt4"]
    return {
        "endpoint": address["requests"],
        "publications": address["publications"],
        "clock": given["clock"],
        "timeout": 1.0,
        "connect_timeout": 2.0,
        "retry": 0.02,
        "longest_retry": 0.2,
    }


def _stocks(given: dict[str, Any]) -> TdxMarket:
    return TdxMarket(
        given["paper"]["host"],
        delay_ms=0,
        holidays=False,
        timeout=1.0,
        connect_timeout=2.0,
        backoff=0.02,
        backoff_most=0.2,
        heartbeat=0.5,
        clock=given["clock"],
    )


def _futures(given: dict[str, Any]) -> TqTrade:
    address = given["tq"]
    return TqTrade(
        USER,
        PASSWORD,
        auth_url=address["auth"],
        md_url=address["md"],
        td_url=address["td"],
        reconnect_after=0.05,
        timeout=address.get("timeout", 10.0),
        clock=given["clock"],
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
