"""The MetaTrader 4 terminals of the crash tests, and what their books say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from livetrader_core.clock import Clock
from livetrader_core.market.specs import default_contract
from livetrader_core.sim.dwx_trading import ExpertInputs
from livetrader_core.sim.mt4_terminal import Mt4Terminal
from livetrader_core.sim.mt4_trading import Mt4Trading
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.venue import Fault, FaultKind, SimulatedVenue
from tests.crash.script import VENUES
from tests.crash.waves import net, wave


def waves(venue: str) -> list[Recording]:
    """The prices of a terminal."""
    return [wave(default_contract(symbol)) for symbol in VENUES[venue]]


class TerminalVenue:
    """A terminal: counts what it opens by the comments."""

    def __init__(self, venue: SimulatedVenue, trading: Mt4Trading) -> None:
        self.venue = venue
        self.trading = trading
        self.opened: Counter[str] = Counter()
        self.names: dict[int, str] = {}
        trading.send = self._counted(trading.send)  # type: ignore[method-assign]

    def _counted(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            ticket = send(*args, **kwargs)
            self.names[ticket.number] = name = _order_of(ticket.comment)
            self.opened[name] += 1
            return ticket

        return counted

    def show(self, fault: str) -> None:
        self.venue.inject(Fault(FaultKind(fault), 0.3))

    def books(self) -> dict[str, Any]:
        """What there is, in plain words."""
        trading = self.trading
        trading.advance()
        tickets = trading.tickets.values()
        return {
            "arrived": dict(self.opened),
            "working": [self.names[t.number] for t in tickets if t.kind.pending],
            "levels": self._levels(),
            "fills": self._fills(),
            "positions": net((f"FOREX.{t.name}", t.kind.sign * t.lots) for t in self._held()),
            "cash": trading.balance,
        }

    def _levels(self) -> list[tuple[str, float, float]]:
        """Stop-losses and take-profits that a price may come to: symbol, price, lots."""
        return [
            (f"FOREX.{ticket.name}", level, ticket.lots)
            for ticket in self._held()
            for level in (ticket.stop_loss, ticket.take_profit)
            if ticket.open_price / 5 < level < ticket.open_price * 5
        ]

    def _held(self) -> list[Any]:
        return [t for t in self.trading.tickets.values() if not t.kind.pending]

    def _fills(self) -> dict[str, Any]:
        """All executions by the ids that they must have: order (if known), lots, price."""
        trading, found = self.trading, {}
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


def _order_of(comment: str) -> str:
    """The order that a ticket is of: ours begin with lt:, or end with the number of a step."""
    return comment.removeprefix("lt:").partition("/")[0]


class DwxVenue(TerminalVenue):
    """A terminal with the published expert advisor."""

    def __init__(self, clock: Clock) -> None:
        inputs = ExpertInputs(maximum_orders=5000, maximum_lots=100.0)
        self.terminal = Mt4Terminal(
            waves("dwx"), clock, freeze=0.0, balance=100_000.0, inputs=inputs
        )
        super().__init__(self.terminal, self.terminal.trading)

    def address(self) -> dict[str, Any]:
        """How it is reached."""
        terminal = self.terminal
        return {"push": terminal.push_port, "pull": terminal.pull_port, "sub": terminal.sub_port}
