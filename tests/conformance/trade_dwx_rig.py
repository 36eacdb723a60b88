"""DwxTrade against the simulated MetaTrader 4 terminal."""

from __future__ import annotations

from typing import ClassVar

from livetrader_core.market.specs import default_contract
from livetrader_core.models import Contract
from livetrader_core.service import MarketService
from livetrader_core.sim.mt4_terminal import Mt4Terminal, free_port
from livetrader_core.sim.mt4_trading import NOT_ENOUGH_MONEY, OrderKind, Ticket
from livetrader_core.sim.venue import Fault, FaultKind
from livetrader_core.trade.base import TradeBase
from livetrader_core.trade.dwx import DwxTrade
from tests.conformance.trade_rig import TradeRig, VenueBooks
from tests.conformance.trade_table import HEDGING
from tests.support.dwx_trading import NOON, WIDE, inject_before, net, trade_at, venue_fills
from tests.support.dwx_venue import EURUSD, USDJPY

_ORDERS = ("TRADE;OPEN", "TRADE;CLOSE")


def _working(ticket: Ticket) -> int:
    """The orders that a ticket stands for: itself while it is pending, its levels that are near."""
    if ticket.kind.pending:
        return 1
    near = (ticket.open_price / 5, ticket.open_price * 5)
    return sum(near[0] < level < near[1] for level in (ticket.stop_loss, ticket.take_profit))


class DwxTradeRig(TradeRig):
    """Lots at a hedging account: each position is a ticket."""

    name = "dwx"
    kind = HEDGING
    trade: ClassVar[type[DwxTrade]] = DwxTrade
    prices: ClassVar[dict[str, float]] = {EURUSD: 1.1, USDJPY: 105.0}
    lot = 1.0
    spread = 1
    start = NOON
    too_many = 95.0

    _terminal: Mt4Terminal | None = None

    @classmethod
    def contract(cls, symbol: str) -> Contract:
        return default_contract(symbol)

    @property
    def terminal(self) -> Mt4Terminal:
        assert self._terminal is not None
        return self._terminal

    async def open_venue(self) -> None:
        self._terminal = Mt4Terminal(
            self.recordings(), self.clock, freeze=0.0, balance=100_000.0, inputs=WIDE
        )
        await self._terminal.start()

    async def close_venue(self) -> None:
        await self.terminal.stop()

    def adapter(self, market: MarketService) -> TradeBase:
        return trade_at(self.terminal, self.clock, self.folder / "state.sqlite", self.trade)

    async def books(self) -> VenueBooks:
        terminal = self.terminal
        terminal.trading.advance()
        tickets = [*terminal.trading.tickets.values(), *terminal.trading.history]
        names = {ticket.number: ticket.name for ticket in tickets}
        traded: dict[str, float] = {}
        for trade_id, (lots, _) in venue_fills(terminal).items():
            symbol = f"FOREX.{names[int(trade_id.partition('-')[0])]}"
            traded[symbol] = round(traded.get(symbol, 0.0) + lots, 8)
        working = sum(map(_working, terminal.trading.tickets.values()))
        nets = {symbol: net(terminal, symbol[6:]) for symbol in self.prices}
        positions = {symbol: lots for symbol, lots in nets.items() if lots}
        return VenueBooks(working, traded, positions, terminal.trading.balance)

    def refuse_next(self) -> None:
        self.terminal.trading.refusals.append(NOT_ENOUGH_MONEY)

    def strangers(self) -> list[TradeBase]:
        gone = free_port("127.0.0.1")
        ports = {"push_port": gone, "pull_port": gone + 1, "sub_port": gone + 2}
        settings = {"host": "127.0.0.1", "connect_timeout": 0.3, "clock": self.clock}
        nobody = self.trade(**ports, **settings, state=self.folder / "gone.sqlite")
        # The file of the orders of one account is none for another.
        self.terminal.expert.account_number += 1
        state = self.folder / "state.sqlite"
        return [nobody, trade_at(self.terminal, self.clock, state, self.trade)]

    def lose_next_order(self) -> None:
        inject_before(self.terminal, Fault(FaultKind.LOSE), _ORDERS)

    def lose_next_answer(self) -> None:
        inject_before(self.terminal, Fault(FaultKind.DROP), _ORDERS)

    def slow(self, seconds: float) -> None:
        self.terminal.inject(Fault(FaultKind.LATE, seconds, 3))

    def cut(self) -> None:
        self.terminal.inject(Fault(FaultKind.CUT))

    async def leave(self) -> None:
        await self.terminal.stop()

    async def come_back(self) -> None:
        await self.terminal.start()

    async def shut(self) -> None:
        self.terminal.trading.closed_market = True

    def tickets(self, symbol: str) -> list[float]:
        tickets = self.terminal.trading.tickets.values()
        open_ = [t for t in tickets if t.name == symbol[6:] and not t.kind.pending]
        return [t.kind.sign * t.lots for t in sorted(open_, key=lambda t: t.number)]

    def place_foreign(self, symbol: str) -> None:
        price = self.price(symbol, -900)
        self.terminal.trading.send(symbol[6:], OrderKind.BUY_LIMIT, 0.1, price, magic=0)

    def trade_foreign(self, symbol: str, quantity: float) -> None:
        price = self.price(symbol)
        self.terminal.trading.send(symbol[6:], OrderKind.BUY, quantity, price, magic=0)
