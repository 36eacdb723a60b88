"""The futures venue of the crash tests, and what its books say."""

from __future__ import annotations

from collections import Counter
from typing import Any

from livetrader_core.clock import Clock
from livetrader_core.models import Commission, Contract, Margin
from livetrader_core.sessions import Sessions
from livetrader_core.sim.tq_server import TqServer
from livetrader_core.sim.venue import Fault, FaultKind
from tests.crash.script import MEAL, MINUTES, PASSWORD, REBAR, USER
from tests.crash.waves import net, wave
from tests.market.samples import at


def future(symbol: str) -> Contract:
    """A contract whose night session is that of the stocks."""
    opened = 22 * 60 + 30
    sessions = Sessions("Asia/Shanghai", ((540, 900),), ((opened, opened + MINUTES),))
    return Contract(
        symbol,
        1.0,
        1.0,
        1.0,
        10.0,
        "CNY",
        sessions,
        Margin(rate=0.1),
        Commission(per_unit=1.51),
        name=symbol,
        expires_at=at("2026-05-15 15:00", "Asia/Shanghai"),
    )


class Futures:
    """The DIFF server: counts the orders that are inserted, by their ids."""

    def __init__(self, clock: Clock) -> None:
        recordings = [wave(future(symbol)) for symbol in (REBAR, MEAL)]
        self.venue = TqServer(recordings, clock, users={USER: PASSWORD})
        self.inserted: Counter[str] = Counter()
        self.desk = self.venue.trading.desk(USER)
        insert = self.desk.insert

        def counted(request: Any) -> Any:
            self.inserted[str(request.get("order_id"))] += 1
            return insert(request)

        self.desk.insert = counted  # type: ignore[method-assign]

    def show(self, fault: str) -> None:
        trading = self.venue.trading
        if fault == "lost_request":
            trading.lost_requests += 1
        elif fault == "lost_answer":
            trading.lost_answers += 1
        elif fault == "trades_late":
            trading.trades_late = True
        elif fault == "refuse":
            self.desk.refusals.append("CTP:资金不足")
        else:
            self.venue.inject(Fault(FaultKind(fault)))

    def address(self) -> dict[str, Any]:
        venue = self.venue
        return {"auth": venue.auth_url, "md": venue.md_url, "td": venue.td_url}

    def books(self) -> dict[str, Any]:
        """What there is, in plain words; an order's parts are ``LT_name_number_total``."""
        self.venue.trading.advance(self.venue.clock.now())
        desk = self.desk
        arrived: Counter[str] = Counter()
        for order_id, times in self.inserted.items():
            name = order_id.split("_")[1]
            arrived[name] = max(arrived[name], times)
        fills = {}
        for key, trade in desk.trades.items():
            symbol = f"{trade['exchange_id']}.{trade['instrument_id']}"
            size = trade["volume"] * (1 if trade["direction"] == "BUY" else -1)
            fills[key] = [trade["order_id"].split("_")[1], symbol, size, trade["price"]]
        account = desk.account
        return {
            "arrived": dict(arrived),
            "working": sorted({k.split("_")[1] for k, o in desk.orders.items() if o.alive}),
            "fills": fills,
            "positions": net((row[1], row[2]) for row in fills.values()),
            "cash": account.static + account.close_profit - account.commission,
        }
