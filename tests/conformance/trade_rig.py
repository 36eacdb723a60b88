"""What a trading card has in hand: one account, its simulated venue, the service before it."""

from __future__ import annotations

import secrets
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from livetrader_core.clock import SteppedClock
from livetrader_core.local import LocalSession
from livetrader_core.models import Contract, Kline, Klines, TradeEvent
from livetrader_core.rpc import RemoteSession, Server
from livetrader_core.service import MarketService
from livetrader_core.session import Session
from livetrader_core.sim.recording import MINUTE_MS, Recording
from livetrader_core.trade import TradeBase, TradeService
from tests.support.course_market import CourseMarket

#: Minutes of the course that lie before a card begins.
BEFORE = 5
_MINUTES = 40


@dataclass(frozen=True)
class VenueBooks:
    """The venue's own books, asked behind the adapter's back.

    ``working`` counts orders that work there, ``traded`` is all that was ever bought and sold of
    each symbol, ``positions`` are net ones that are not flat, ``cash`` is money without the profit
    of what is still open.
    """

    working: int
    traded: dict[str, float]
    positions: dict[str, float]
    cash: float


class TradeRig(ABC):
    """An account at a simulated venue whose time and prices stand until a card moves them.

    The price of every symbol takes ``course``, in ticks from its first price, a step a minute;
    after the last it stands still. With ``parts`` no order is filled by more than :attr:`part` at
    a time. ``wire``: the session speaks to a server over a wire, and not to the service itself.
    """

    #: Name of the adapter as it is registered.
    name: ClassVar[str]
    #: The kind of venue, which decides which cards are mandatory: paper, futures or hedging.
    kind: ClassVar[str]
    #: The adapter's class, for what it claims.
    trade: ClassVar[type[TradeBase]]
    #: First price of each symbol; there must be two.
    prices: ClassVar[dict[str, float]]
    #: What is traded by most orders: a whole number of steps that can be halved.
    lot: ClassVar[float] = 10.0
    #: Most that is filled at a time where a card asks for parts: less than a third of a lot.
    part: ClassVar[float] = 3.0
    #: How far a market order's fill may be from the price, in ticks: the spread.
    spread: ClassVar[int] = 0
    #: More than the account can pay or hold the margin of, and within the venue's largest order.
    too_many: ClassVar[float]
    #: The first moment (UTC ms), when all symbols trade.
    start: ClassVar[int]

    def __init__(self, course: Sequence[int] = (), parts: bool = False, wire: bool = False) -> None:
        self.course = [0] * BEFORE + list(course or [0])
        self.parts = parts
        self.wire = wire
        self.minute = BEFORE
        self.clock = SteppedClock(self.start)
        self.contracts = {symbol: self.contract(symbol) for symbol in self.prices}
        self.events: list[TradeEvent] = []
        self._folder = tempfile.TemporaryDirectory(prefix="ltt")
        self.folder = Path(self._folder.name)
        self._session: Session | None = None
        self._server: Server | None = None
        self.service: TradeService | None = None
        self.quotes: CourseMarket | None = None

    # ---- what an adapter's rig gives

    @classmethod
    @abstractmethod
    def contract(cls, symbol: str) -> Contract:
        """The contract of a symbol, as the venue has it."""

    @abstractmethod
    async def open_venue(self) -> None:
        """Start the venue on free ports."""

    @abstractmethod
    async def close_venue(self) -> None:
        """Stop the venue and leave nothing behind."""

    @abstractmethod
    def adapter(self, market: MarketService) -> TradeBase:
        """A new adapter for the account, as after a restart, with short times of patience."""

    @abstractmethod
    async def books(self) -> VenueBooks:
        """The venue's own books now."""

    # A venue behind a line gives these too; paper has no line.

    def strangers(self) -> list[TradeBase]:
        """Adapters that cannot come in: a wrong password, another account, a host that is gone."""
        raise NotImplementedError(f"{self.name} has no line")

    def refuse_next(self) -> None:
        """Let the venue refuse the next order."""
        raise NotImplementedError(f"{self.name} has no line")

    def lose_next_order(self) -> None:
        """Let the next order never arrive."""
        raise NotImplementedError(f"{self.name} has no line")

    def lose_next_answer(self) -> None:
        """Let the next order arrive, and its answer be lost."""
        raise NotImplementedError(f"{self.name} has no line")

    def slow(self, seconds: float) -> None:
        """Let the next answers come late."""
        raise NotImplementedError(f"{self.name} has no line")

    def cut(self) -> None:
        """Break the line; it can be made anew at once."""
        raise NotImplementedError(f"{self.name} has no line")

    async def leave(self) -> None:
        """Let the venue be out of reach. Its market goes on."""
        raise NotImplementedError(f"{self.name} has no line")

    async def come_back(self) -> None:
        """Let the venue be in reach again."""
        raise NotImplementedError(f"{self.name} has no line")

    def place_foreign(self, symbol: str) -> None:
        """Put an order into the account that works, is not ours, and never fills."""
        raise NotImplementedError(f"{self.name} has no line")

    def trade_foreign(self, symbol: str, quantity: float) -> None:
        """Let somebody else buy so much in the account, at the price there is."""
        raise NotImplementedError(f"{self.name} has no line")

    async def shut(self) -> None:
        """Let the market of every symbol be closed."""
        raise NotImplementedError(f"{self.name} never closes")

    def gross(self, symbol: str) -> tuple[float, float]:
        """What is held long and what is held short at the venue, by whomever."""
        raise NotImplementedError(f"{self.name} holds one side only")

    def tickets(self, symbol: str) -> list[float]:
        """The positions in ``symbol``, oldest first: what each holds, negative if it is short."""
        raise NotImplementedError(f"{self.name} has no tickets")

    def next_day(self) -> int:
        """A moment of the next trading day (UTC ms)."""
        raise NotImplementedError(f"{self.name} does not tell positions by day")

    # ---- prices and time

    def price(self, symbol: str, ticks: int = 0) -> float:
        """``ticks`` above the first price of ``symbol``."""
        contract = self.contracts[symbol]
        return contract.round_price(self.prices[symbol] + ticks * contract.price_tick)

    def recordings(self) -> list[Recording]:
        """The course of every symbol, a kline a minute whose price stands still."""
        steps = np.array(self.course + self.course[-1:] * _MINUTES)[:_MINUTES]
        first = self.start - BEFORE * MINUTE_MS
        times = first + np.arange(_MINUTES, dtype=np.int64) * MINUTE_MS
        found = []
        for symbol, contract in self.contracts.items():
            price = np.array([self.price(symbol, int(step)) for step in steps])
            columns = [price, price, price, price, np.full(_MINUTES, 30.0), np.zeros(_MINUTES)]
            found.append(Recording(contract, Klines.from_columns(symbol, "1m", times, columns)))
        return found

    async def minutes(self, count: int = 1) -> None:
        """Let so many minutes pass, each with its price."""
        for _ in range(count):
            opened = self.clock.now()
            step = self.course[min(self.minute, len(self.course) - 1)]
            self.minute += 1
            self.clock.advance(opened + MINUTE_MS)
            if self.quotes is not None:
                klines = [self._kline(symbol, opened, step) for symbol in self.prices]
                await self.quotes.give(klines, self.clock.now())

    async def leap(self, moment: int) -> None:
        """Let it be ``moment`` (UTC ms): one more kline, the last minute before it."""
        step = self.course[-1]
        self.minute = len(self.course)
        self.clock.advance(moment)
        if self.quotes is not None:
            klines = [self._kline(symbol, moment - MINUTE_MS, step) for symbol in self.prices]
            await self.quotes.give(klines, moment)

    def session_end(self) -> int:
        """When today's session of the first symbol ends (UTC ms)."""
        sessions = next(iter(self.contracts.values())).sessions
        return sessions.close_of(sessions.trading_date(self.clock.now()))

    def _kline(self, symbol: str, opened: int, step: int) -> Kline:
        price = self.price(symbol, step)
        return Kline(symbol, "1m", opened, price, price, price, price, 30.0)

    # ---- the service

    @property
    def session(self) -> Session:
        """The session of the client."""
        assert self._session is not None, "the service does not run"
        return self._session

    async def begin(self) -> None:
        """Start a service over the account, as after a restart, and a session with it.

        The session is given all events of the journal, and :attr:`events` begins anew.
        """
        self.quotes = CourseMarket(self.contracts.values(), self.clock)
        market = MarketService(self.quotes)
        self.service = TradeService(
            self.adapter(market),
            self.folder / "journal.sqlite",
            ask_every=0.05,
            settle_after=0.2,
            market=market,
            reconcile_every=0.2,
        )
        self.events = []
        try:
            self._session = await self._opened(market, self.service)
        except BaseException:
            await self.end()
            raise

    async def _opened(self, market: MarketService, trade: TradeService) -> Session:
        if not self.wire:
            local = LocalSession(market, trade)
            await local.open(self._heard, trade_from=0)
            return local
        self._server = Server(market, trade, heartbeat=0.2)
        endpoint = self._server.bind(f"inproc://cards-{secrets.token_hex(4)}")
        await self._server.start()
        remote = RemoteSession(endpoint, timeout=10.0)
        await remote.open(self._heard, trade_from=0)
        return remote

    def _heard(self, event: Any) -> None:
        if isinstance(event, TradeEvent):
            self.events.append(event)

    async def end(self) -> None:
        """Stop the session and the service; may be called more than once."""
        session, self._session = self._session, None
        server, self._server = self._server, None
        service, self.service = self.service, None
        if session is not None:
            await session.close()
        if server is not None:
            await server.stop()
        if service is not None:
            await service.stop()
        self.quotes = None

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """No service runs; afterwards there is a new one on the same journal."""
        await self.end()
        yield
        await self.begin()

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """The venue is out of reach."""
        await self.leave()
        try:
            yield
        finally:
            await self.come_back()

    async def close(self) -> None:
        """End everything."""
        try:
            await self.end()
        finally:
            await self.close_venue()
            self._folder.cleanup()
