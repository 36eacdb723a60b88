"""Three simulated venues in a process that outlives the servers.

``python -m tests.crash.venues FOLDER CLOCK SEED VENUE,VENUE``. It says in a line of JSON how to
reach them, and answers every line on its input with what its books say, after something went wrong
if the line asks for it: ``fault VENUE NAME``. When its input ends, so does it.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from livetrader_core.clock import Clock, parse_clock
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Commission, Contract, Klines, Margin
from livetrader_core.sessions import Sessions
from livetrader_core.sim.dwx_trading import ExpertInputs
from livetrader_core.sim.mt4_terminal import Mt4Terminal
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.tq_server import TqServer
from livetrader_core.sim.venue import Fault, FaultKind
from tests.crash.script import EURUSD, GBPUSD, MEAL, PRICES, REBAR, STOCK, TICKS
from tests.crash.venue import PersistentVenue
from tests.market.samples import at

#: A Monday of the venues: they open then, and futures close 15 hours after.
MONDAY = at("2026-01-12 08:00", "Asia/Shanghai")
#: When strategies begin.
START = MONDAY + 60 * 60_000
HOURS = 15
USER, PASSWORD = "somebody", "a password"

Books = dict[str, Any]


def wave(contract: Contract) -> Recording:
    """Prices that go up and down a few ticks, so that orders near them fill now and then."""
    symbol = contract.symbol
    height = 30 if symbol in (EURUSD, GBPUSD) else 4
    minutes = np.arange(HOURS * 60)
    # Not faster than the three points that a terminal lets a close slip.
    waves = np.round(height * np.sin(minutes / 11 + len(symbol) + ord(symbol[-1])))
    column = np.round(PRICES[symbol] + waves * TICKS[symbol], 5)
    times = (MONDAY + minutes * 60_000).astype(np.int64)
    klines = Klines(symbol, "1m", times, column, column, column, column, column * 0 + 400.0)
    return Recording(contract, klines)


def future(symbol: str) -> Contract:
    """A contract whose one session is all that there is of its day."""
    sessions = Sessions("Asia/Shanghai", ((8 * 60, (8 + HOURS) * 60),))
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


#: What can be asked to go wrong, by venue. Orders at the third go through undisturbed.
FAULTS: dict[str, tuple[str, ...]] = {
    "mt4": ("lose", "drop", "reject", "requote", "lie", "slip", "cut"),
    "tq": ("lost_request", "lost_answer", "trades_late", "refuse", "cut"),
}


class Terminal:
    """MetaTrader 4: counts what it opens by the comments."""

    def __init__(self, clock: Clock) -> None:
        recordings = [wave(default_contract(symbol)) for symbol in (EURUSD, GBPUSD)]
        inputs = ExpertInputs(maximum_orders=5000, maximum_lots=100.0)
        self.venue = Mt4Terminal(recordings, clock, freeze=0.0, balance=100_000.0, inputs=inputs)
        self.opened: Counter[str] = Counter()
        self.names: dict[int, str] = {}
        trading = self.venue.trading
        trading.send = self._counted(trading.send)  # type: ignore[method-assign]

    def _counted(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            ticket = send(*args, **kwargs)
            self.names[ticket.number] = name = ticket.comment.removeprefix("lt:")
            self.opened[name] += 1
            return ticket

        return counted

    def show(self, fault: str) -> None:
        self.venue.inject(Fault(FaultKind(fault)))

    def address(self) -> dict[str, Any]:
        venue = self.venue
        return {"push": venue.push_port, "pull": venue.pull_port, "sub": venue.sub_port}

    def books(self) -> Books:
        """What there is, in plain words."""
        trading = self.venue.trading
        trading.advance()
        tickets = trading.tickets.values()
        return {
            "arrived": dict(self.opened),
            "working": [self.names[t.number] for t in tickets if t.kind.pending],
            "fills": self._fills(),
            "positions": _net((f"FOREX.{t.name}", t.kind.sign * t.lots) for t in self._held()),
            "cash": trading.balance,
            "equity": trading.equity,
        }

    def _held(self) -> list[Any]:
        return [t for t in self.venue.trading.tickets.values() if not t.kind.pending]

    def _fills(self) -> dict[str, Any]:
        """All executions by the ids that they must have: order (if known), lots, price."""
        trading, found = self.venue.trading, {}
        closed = [t for t in trading.history if t.close_price]
        whole: dict[int, float] = {}
        rests: dict[int, int] = {}
        for ticket in [*closed, *self._held()]:
            whole[ticket.number] = ticket.lots
            if ticket.comment.startswith("to #"):
                rests[int(ticket.comment[4:])] = ticket.number
        for rest in sorted(rests, reverse=True):
            whole[rests[rest]] = round(whole[rests[rest]] + whole[rest], 8)
        for ticket in [*closed, *self._held()]:
            symbol = f"FOREX.{ticket.name}"
            if ticket.number not in rests:
                lots, name = whole[ticket.number], self.names[ticket.number]
                row = [name, symbol, ticket.kind.sign * lots, ticket.open_price]
                found[f"{ticket.number}-open"] = row
        for ticket in closed:
            row = ["", f"FOREX.{ticket.name}", -ticket.kind.sign * ticket.lots, ticket.close_price]
            found[f"{ticket.number}-close"] = row
        return found


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

    def books(self) -> Books:
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
            "positions": _net((row[1], row[2]) for row in fills.values()),
            "cash": account.static + account.close_profit - account.commission,
            "equity": account.balance(desk.price),
        }


class Third:
    """The venue on a Unix socket."""

    def __init__(self, folder: str, seed: int) -> None:
        self.venue = PersistentVenue(f"{folder}/third", seed)

    def address(self) -> dict[str, Any]:
        return {"path": self.venue.path}

    def books(self) -> Books:
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
            "positions": _net((row[1], row[2]) for row in fills.values()),
            "cash": venue.cash(),
            "equity": venue.cash() + venue.position() * PRICES[STOCK],
        }


def _net(sizes: Any) -> dict[str, float]:
    total: Counter[str] = Counter()
    for symbol, size in sizes:
        total[symbol] += size
    return {symbol: round(size, 8) for symbol, size in total.items() if not _flat(size)}


def _flat(size: float) -> bool:
    return math.isclose(size, 0.0, abs_tol=1e-8)


async def _serve(folder: str, clock: Clock, seed: int, names: list[str]) -> None:
    make: dict[str, Callable[[], Any]] = {
        "mt4": lambda: Terminal(clock),
        "tq": lambda: Futures(clock),
        "third": lambda: Third(folder, seed),
    }
    venues = {name: make[name]() for name in names}
    served = [one.venue for name, one in venues.items() if name != "third"]
    for one in served:
        await one.start()
    try:
        print(json.dumps({name: one.address() for name, one in venues.items()}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.startswith("fault"):
                _, name, fault = line.split()
                venues[name].show(fault)
            print(json.dumps({name: one.books() for name, one in venues.items()}), flush=True)
    finally:
        for one in served:
            await one.stop()
        if "third" in venues:
            venues["third"].venue.close()


if __name__ == "__main__":
    _folder, _clock, _seed, _names = sys.argv[1:]
    asyncio.run(_serve(_folder, parse_clock(_clock), int(_seed), _names.split(",")))
