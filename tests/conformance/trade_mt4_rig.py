"""Mt4Trade against the compiled expert advisor on the simulated terminal."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

import pytest

from livetrader_core.market.specs import default_contract
from livetrader_core.models import Contract
from livetrader_core.service import MarketService
from livetrader_core.sim.mt4_terminal import free_port
from livetrader_core.sim.mt4_trading import NOT_ENOUGH_MONEY, OrderKind
from livetrader_core.sim.venue import Fault, FaultKind
from livetrader_core.trade.base import TradeBase
from livetrader_core.trade.metatrader.memory import Memory
from livetrader_core.trade.mt4 import Mt4Trade
from tests.conformance.trade_rig import TradeRig, VenueBooks
from tests.conformance.trade_table import HEDGING
from tests.ea.build import compiler
from tests.ea.terminal import EaTerminal
from tests.support.dwx_trading import NOON
from tests.support.dwx_venue import EURUSD, USDJPY
from tests.support.mt4_account import bought_and_sold, held, working
from tests.support.zmtp_relay import ZmtpRelay


class Mt4TradeRig(TradeRig):
    """Lots at a hedging account, through our own expert advisor."""

    name = "mt4"
    kind = HEDGING
    trade: ClassVar[type[Mt4Trade]] = Mt4Trade
    prices: ClassVar[dict[str, float]] = {EURUSD: 1.1, USDJPY: 105.0}
    lot = 1.0
    spread = 1
    start = NOON
    too_many = 95.0

    _terminal: EaTerminal | None = None
    _files: tempfile.TemporaryDirectory[str] | None = None
    _relays: tuple[ZmtpRelay, ...] = ()

    @classmethod
    def contract(cls, symbol: str) -> Contract:
        return default_contract(symbol)

    @property
    def terminal(self) -> EaTerminal:
        assert self._terminal is not None
        return self._terminal

    async def open_venue(self) -> None:
        if compiler() is None:
            pytest.skip("g++ is needed to compile the expert advisor; install it (package g++)")
        self._files = tempfile.TemporaryDirectory(prefix="lt-ea")
        self._terminal = EaTerminal(self.recordings(), self.clock, Path(self._files.name))
        await self._terminal.start()
        ports = (self._terminal.inputs["RequestPort"], self._terminal.inputs["PublicationPort"])
        self._relays = tuple(ZmtpRelay(port) for port in ports)
        for relay in self._relays:
            await relay.start()

    async def close_venue(self) -> None:
        for relay in self._relays:
            await relay.stop()
        await self.terminal.stop()
        if self._files is not None:
            self._files.cleanup()

    def adapter(self, market: MarketService) -> TradeBase:
        return self._adapter(self.folder / "state.sqlite")

    def _adapter(self, state: Path) -> TradeBase:
        requests, publications = (f"tcp://127.0.0.1:{relay.port}" for relay in self._relays)
        return self.trade(
            requests,
            publications,
            state=state,
            clock=self.clock,
            timeout=0.5,
            patience=0.3,
            connect_timeout=2.0,
            retry=0.01,
            longest_retry=0.05,
        )

    async def books(self) -> VenueBooks:
        trading = self.terminal.trading
        trading.advance()
        return VenueBooks(
            working(trading), bought_and_sold(trading), held(trading), trading.balance
        )

    def refuse_next(self) -> None:
        self.terminal.trading.refusals.append(NOT_ENOUGH_MONEY)

    def strangers(self) -> list[TradeBase]:
        gone = free_port("127.0.0.1")
        nobody = self.trade(
            f"tcp://127.0.0.1:{gone}",
            state=self.folder / "gone.sqlite",
            connect_timeout=0.3,
            clock=self.clock,
        )
        # The file of the orders of one account is none for another.
        others = Memory(self.folder / "others.sqlite")
        others.open("another account")
        others.close()
        return [nobody, self._adapter(self.folder / "others.sqlite")]

    def lose_next_order(self) -> None:
        self._relays[0].lose_request(b"order", b"close")
        self._relays[0].lose_answer(b"void")  # else it is known before anybody is told

    def lose_next_answer(self) -> None:
        self._relays[0].lose_answer(b"order", b"close")
        self._relays[0].lose_answer(b"void")

    def slow(self, seconds: float) -> None:
        self.terminal.inject(Fault(FaultKind.LATE, seconds))

    def cut(self) -> None:
        for relay in self._relays:
            relay.cut()

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
