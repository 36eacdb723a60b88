"""The sessions of a store, in a thread of their own, as backtrader's thread uses them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from livetrader_bt.hub import Hub, Source
from livetrader_bt.io import IoThread
from livetrader_bt.snapshot import Snapshot, take_snapshot
from livetrader_core.errors import ConfigError, LiveTraderError, UnknownSymbol
from livetrader_core.local import LocalSession
from livetrader_core.models import Balance, Contract, Klines, Order, Position, market_of
from livetrader_core.rpc.keys import Keys
from livetrader_core.rpc.session import RemoteSession
from livetrader_core.service import MAX_KLINES, MarketService
from livetrader_core.session import MarketInfo, Session
from livetrader_core.trade import TradeService

log = logging.getLogger(__name__)
Result = TypeVar("Result")
#: Makes a request of a session.
Work = Callable[[], Coroutine[Any, Any, Any]]


class _Elsewhere:
    """Stands for the services of a store that was copied into another process."""

    def __reduce__(self) -> str:
        return "ELSEWHERE"


ELSEWHERE = _Elsewhere()


class Connection:
    """Requests to, and events of, one or several endpoints or the services of this process."""

    def __init__(
        self,
        endpoint: str | Mapping[str, str] | None,
        service: Any,
        timeout: float,
        align_timeout: float,
        keys: Keys | None = None,
    ) -> None:
        if (endpoint is None) == (service is None):
            raise ConfigError("LiveTraderStore needs either an endpoint or service=…")
        self.endpoint = endpoint
        self.timeout = timeout
        self.keys = keys
        self.hub = Hub(align_timeout)
        self._service = service
        self._io: IoThread | None = None
        self._sessions: dict[str, Session] = {}
        self._sources: dict[str, Source] = {}
        self._markets: dict[str, tuple[str, MarketInfo]] = {}
        self._contracts: dict[str, Contract] = {}
        #: The window of the last replay that was begun, and whether that still runs.
        self._replayed: tuple[int, int | None] | None = None
        self._begun = False
        self._in_order = asyncio.Lock()

    def check_copies(self) -> None:
        """Raise ConfigError if a copy in another process could not load anything."""
        if self._service is not None:
            raise ConfigError(
                "other processes have no way to the services of this store: optimize with "
                "cerebro.run(maxcpus=1), over a thousand bars or more that are neither resampled "
                "nor replayed, or give the store an endpoint"
            )

    # ---- connection

    def connect(self) -> None:
        """Connect, if not yet; feeds and the broker do so themselves. Raises Unavailable."""
        if self._io is not None:
            return
        if self._service is ELSEWHERE:
            self.check_copies()
        self.hub.clear()
        self._io = IoThread("livetrader-store")
        self._in_order = asyncio.Lock()
        try:
            for name, session in self._make_sessions().items():
                self._open_session(name, session)
        except BaseException:
            self.close()
            raise

    def _make_sessions(self) -> dict[str, Session]:
        if self._service is not None:
            services = self._service if isinstance(self._service, tuple) else (self._service,)
            market = next((s for s in services if isinstance(s, MarketService)), None)
            trade = next((s for s in services if isinstance(s, TradeService)), None)
            return {"module": LocalSession(market, trade)}
        endpoints = [self.endpoint] if isinstance(self.endpoint, str) else self._mapped().values()
        return {
            e: RemoteSession(e, timeout=self.timeout, keys=self.keys)
            for e in dict.fromkeys(endpoints)
        }

    def _mapped(self) -> Mapping[str, str]:
        return self.endpoint if isinstance(self.endpoint, Mapping) else {}

    def _open_session(self, name: str, session: Session) -> None:
        source = Source(name)
        self._sessions[name] = session
        self._sources[name] = source
        self.call(session.open(functools.partial(self.hub.push, source), trade_from=-1))
        # Events of earlier runs are not sent again: nothing waits for them.
        source.seen_seq = max(source.seen_seq, self.call(session.status())["trade_seq"])
        wanted = [market for market, endpoint in self._mapped().items() if endpoint == name]
        for market, info in session.info.markets.items():
            if not wanted or market in wanted:
                self._markets[market] = (name, info)

    def close(self) -> None:
        """Disconnect; may be called more than once. A later use connects anew."""
        self.hub.stop()
        io, self._io = self._io, None
        sessions, self._sessions = self._sessions, {}
        if io is None:
            return
        for session in sessions.values():
            try:
                io.call(session.close(), self.timeout)
            except LiveTraderError as error:
                log.warning("closing %s: %s", session, error)
        io.close()
        self._begun = False
        self._sources.clear()
        self._markets.clear()
        self.hub.clear()

    # ---- requests, blocking

    def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a request of a session and wait for it."""
        if self._io is None:
            work.close()
            raise ConfigError("the store is not connected")
        return self._io.call(work, self.timeout + 5.0)

    def post(self, work: Work) -> concurrent.futures.Future[Any] | None:
        """Run the request that ``work`` makes in the background; None if the store is closed."""
        return None if self._io is None else self._io.post(work)

    def post_in_order(self, work: Work) -> concurrent.futures.Future[Any] | None:
        """:meth:`post`, but begun only when what was posted so before is done."""

        async def wait_for_turn() -> None:
            async with self._in_order:
                await work()

        return self.post(wait_for_turn)

    def market(self, symbol: str) -> MarketInfo:
        """What is known of the symbol's MARKET. Raises UnknownSymbol."""
        return self._route(symbol)[1]

    def session(self, symbol: str) -> Session:
        """The session that serves ``symbol``. Raises UnknownSymbol."""
        return self._sessions[self._route(symbol)[0]]

    @property
    def sessions(self) -> list[Session]:
        """All sessions."""
        return list(self._sessions.values())

    def source(self, symbol: str) -> Source:
        """The hub's view of the session that serves ``symbol``."""
        return self._sources[self._route(symbol)[0]]

    def _route(self, symbol: str) -> tuple[str, MarketInfo]:
        self.connect()
        try:
            return self._markets[market_of(symbol)]
        except KeyError:
            served = ", ".join(sorted(self._markets)) or "none"
            where = self.endpoint or "the service"
            raise UnknownSymbol(
                f"{symbol}: {where} does not serve the market {market_of(symbol)}; served: {served}"
            ) from None

    def contract(self, symbol: str) -> Contract:
        """The contract of ``symbol``. Raises UnknownSymbol."""
        if symbol not in self._contracts:
            self._contracts[symbol] = self.call(self.session(symbol).get_contract(symbol))
        return self._contracts[symbol]

    def history(
        self, symbol: str, timeframe: str, from_ts: int | None, to_ts: int | None
    ) -> Klines:
        """All closed klines that open in [``from_ts``, ``to_ts``), in as many pages as it takes."""
        session = self.session(symbol)
        pages: list[Klines] = []
        while True:
            page = self.call(
                session.get_kline_histories(symbol, from_ts, MAX_KLINES, to_ts, timeframe)
            )
            pages.insert(0, page)
            if len(page) < MAX_KLINES:
                return Klines.concat(pages)
            to_ts = int(page.datetime[0])

    def subscribe(
        self, symbol: str, timeframe: str, from_ts: int | None, limit: int | None
    ) -> Klines:
        """History so far; what closes later arrives at the hub, without a hole between."""
        return self.call(self.session(symbol).subscribe(symbol, timeframe, from_ts, limit))

    def balances(self) -> list[Balance]:
        """The accounts of all sessions that trade."""
        return [
            balance
            for session in self._trading_sessions()
            for balance in self.call(session.fetch_balance())
        ]

    def positions(self) -> list[Position]:
        """The net positions of all sessions that trade."""
        return [
            position
            for session in self._trading_sessions()
            for position in self.call(session.fetch_positions())
        ]

    def snapshots(self) -> list[tuple[Source, Snapshot]]:
        """:meth:`take_snapshots`, from backtrader's thread."""
        self.connect()
        return self.call(self.take_snapshots())

    async def take_snapshots(self) -> list[tuple[Source, Snapshot]]:
        """The accounts of each session that trades, at one moment each. Raises Unavailable."""
        real = {name for name, info in self._markets.values() if info.trade == "live"}
        trading = self._trading_sessions()
        return [
            (self._sources[name], await take_snapshot(session, real_money=name in real))
            for name, session in list(self._sessions.items())
            if session in trading
        ]

    def kill(self, flatten: bool = False, reason: str = "") -> None:
        """Throw the kill switch of every server: all orders are cancelled, none is taken.

        ``flatten``: then every position is closed. It stays on until somebody lifts it
        (`livetrader kill --lift`). Raises Unavailable or StorageError of a server that did not.
        """
        for session in self._trading_sessions():
            self.call(session.kill(flatten, reason))

    def open_orders(self) -> list[Order]:
        """The open orders of all sessions that trade."""
        return [
            order
            for session in self._trading_sessions()
            for order in self.call(session.fetch_open_orders())
        ]

    def _trading_sessions(self) -> list[Session]:
        self.connect()
        trading = {name for name, info in self._markets.values() if info.trade}
        return [session for name, session in self._sessions.items() if name in trading]

    def fills_on_bars(self) -> bool:
        """Whether every venue here simulates fills on closed klines."""
        kinds = {info.fill_on for _, info in self._markets.values() if info.trade}
        return kinds == {"bar"}

    # ---- replays

    def begin_replay(self, start: int, end: int | None = None) -> None:
        """Begin the recorded markets of all sessions at ``start`` (UTC ms)."""
        if self._begun and (start, end) == self._replayed:
            return
        if self._begun and self._service is not None:
            self.close()  # services of this process begin anew with their connection
        self.connect()
        paced = {name for name, info in self._markets.values() if info.paced}
        for name, session in self._sessions.items():
            if name in paced:
                self.call(session.follow(0))
            self.call(session.begin_replay(start, end))
            self._sources[name].clock = max(self._sources[name].clock, start)
        self._replayed, self._begun = (start, end), True
