"""LiveTraderStore: the connection that feeds and the broker of a Cerebro share."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import functools
import logging
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, TypeVar

import backtrader as bt

from livetrader_bt.hub import Channel, Hub, Source
from livetrader_bt.io import IoThread
from livetrader_bt.rates import Rates
from livetrader_bt.runs import run_of
from livetrader_bt.snapshot import Snapshot, take_snapshot
from livetrader_bt.times import bt_timeframe, localizer, moment_ms
from livetrader_core.errors import ConfigError, LiveTraderError, UnknownSymbol
from livetrader_core.local import LocalSession
from livetrader_core.models import Balance, Contract, Klines, Order, Position, market_of
from livetrader_core.rpc.session import RemoteSession
from livetrader_core.service import MAX_KLINES, MarketService
from livetrader_core.session import MarketInfo, Session
from livetrader_core.trade import TradeService

if TYPE_CHECKING:
    from livetrader_bt.backtest import LiveTraderBackBroker
    from livetrader_bt.broker import LiveTraderBroker
    from livetrader_bt.feed import LiveTraderData

log = logging.getLogger(__name__)
Result = TypeVar("Result")
Moment = int | str | datetime | None
#: Makes a request of a session.
Work = Callable[[], Coroutine[Any, Any, Any]]

MODES = ("backtest", "paper", "live")


class LiveTraderStore:
    """Market data and trading of livetrader for one Cerebro.

    ``endpoint`` is a server's base endpoint, or a mapping from MARKET to endpoint. With
    ``service=`` (a MarketService, a TradeService, or both in a tuple) the services run inside
    this process instead. ``rates`` say what one unit of each currency is worth in ``base``: a
    number, or a symbol that has a feed here (see :class:`~livetrader_bt.rates.Rates`).

    ``align_timeout`` is how many seconds the klines of one moment wait for those of other feeds
    whose venue does not tell its clock; 0 delivers each as it comes. Feeds whose venues differ by
    more than that in how late they quote are refused together, unless ``mix_delays``. ``timeout``
    bounds every request, in seconds.
    """

    def __init__(
        self,
        endpoint: str | Mapping[str, str] | None = None,
        *,
        service: Any = None,
        base: str = "USD",
        rates: Mapping[str, float | str] | None = None,
        align_timeout: float = 1.0,
        mix_delays: bool = False,
        timeout: float = 10.0,
    ) -> None:
        if (endpoint is None) == (service is None):
            raise ConfigError("LiveTraderStore needs either an endpoint or service=…")
        self.endpoint = endpoint
        self.timeout = timeout
        self.mix_delays = mix_delays
        self.rates = Rates(base, dict(rates or {}))
        self.hub = Hub(align_timeout)
        self._service = service
        self._io: IoThread | None = None
        self._sessions: dict[str, Session] = {}
        self._sources: dict[str, Source] = {}
        self._markets: dict[str, tuple[str, MarketInfo]] = {}
        self._contracts: dict[str, Contract] = {}
        self._notifications: deque[Any] = deque()
        self._broker: LiveTraderBroker | None = None
        self._feeds: list[LiveTraderData] = []
        #: The window of the last replay that was begun, and whether that still runs.
        self._replayed: tuple[int, int | None] | None = None
        self._begun = False
        self._asked: set[int] = set()
        self._late_told = 0
        self._in_order = asyncio.Lock()
        _open_stores.add(self)

    # ---- copies in other processes, as an optimization makes them

    def __getstate__(self) -> dict[str, Any]:
        kept = ("endpoint", "timeout", "mix_delays", "rates", "_contracts")
        return {
            **{name: getattr(self, name) for name in kept},
            "align_timeout": self.hub.align_timeout,
            "elsewhere": self._service is not None,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(  # type: ignore[misc]
            state["endpoint"],
            service=_ELSEWHERE if state["elsewhere"] else None,
            align_timeout=state["align_timeout"],
            mix_delays=state["mix_delays"],
            timeout=state["timeout"],
        )
        self.rates, self._contracts = state["rates"], state["_contracts"]

    def check_copies(self) -> None:
        """Raise ConfigError if a copy in another process could not load anything."""
        if self._service is not None:
            raise ConfigError(
                "other processes have no way to the services of this store: optimize with "
                "cerebro.run(maxcpus=1), over a thousand bars or more that are neither resampled "
                "nor replayed, or give the store an endpoint"
            )

    # ---- what users call

    def getdata(self, dataname: str, **params: Any) -> LiveTraderData:
        """A feed of the symbol ``dataname``; see :class:`LiveTraderData` for its parameters."""
        from livetrader_bt.feed import LiveTraderData

        make: Callable[..., LiveTraderData] = LiveTraderData  # backtrader makes the signature
        return make(dataname=dataname, store=self, **params)

    def getbroker(self, **params: Any) -> LiveTraderBroker:
        """The broker of this store; see :class:`LiveTraderBroker` for its parameters."""
        from livetrader_bt.broker import LiveTraderBroker

        make: Callable[..., LiveTraderBroker] = LiveTraderBroker
        return make(store=self, **params)

    def setup(
        self,
        cerebro: bt.Cerebro,
        symbols: Sequence[str],
        mode: str = "backtest",
        *,
        timeframe: str | Sequence[str] = "1m",
        fromdate: Moment = None,
        todate: Moment = None,
        live_from: Moment = None,
        cash: float | Mapping[str, float] | None = None,
        check_margin: bool = False,
        backfill_orders: str = "refuse",
        **feed_params: Any,
    ) -> list[LiveTraderData]:
        """Put ``symbols`` and the broker into ``cerebro``: the switch from backtest to live.

        ``mode`` is "backtest" (history only, backtrader's own simulated broker), "paper" (live
        bars, simulated fills at the server) or "live" (live bars, the venue's own fills); it is
        refused if the server trades a symbol otherwise. ``timeframe`` is one for all or one for
        each symbol. ``fromdate`` and ``todate`` bound the bars by the moment they close; without a
        time zone of their own they, and ``live_from``, are in ``tz`` if that is given, else UTC.

        ``live_from``: bars that close up to then only warm up; orders on them are refused. In
        paper mode on a server that replays recordings, the replay begins there. ``cash`` is what
        a backtest starts with (by default what the server's accounts hold); ``check_margin`` and
        ``backfill_orders`` are those of the brokers.

        Raises ConfigError, UnknownSymbol, UnknownTimeframe, Unavailable.
        """
        if mode not in MODES:
            raise ConfigError(f"mode {mode!r} does not exist; there are {', '.join(MODES)}")
        frames = [timeframe] * len(symbols) if isinstance(timeframe, str) else list(timeframe)
        if len(frames) != len(symbols):
            raise ConfigError(f"{len(symbols)} symbols but {len(frames)} timeframes")
        zone = localizer(feed_params.get("tz"))
        start, first, last = (moment_ms(m, zone) for m in (live_from, fromdate, todate))
        self.connect()
        try:
            if mode != "backtest":
                self._check_mode(symbols, mode)
                self._check_begun(symbols, start)
                if start is not None:
                    self.begin_replay(start, last)
            self.seed_rates((first or 0) if mode == "backtest" else None)
            datas = [
                self._add_feed(cerebro, symbol, frame, mode, first, last, feed_params)
                for symbol, frame in zip(symbols, frames, strict=True)
            ]
            broker = self._make_broker(mode, start, cash, check_margin, backfill_orders)
        except BaseException:
            self.close()
            raise
        cerebro.setbroker(broker)
        return datas

    def _add_feed(
        self,
        cerebro: bt.Cerebro,
        symbol: str,
        timeframe: str,
        mode: str,
        first: int | None,
        last: int | None,
        params: Mapping[str, Any],
    ) -> LiveTraderData:
        # An unknown symbol, or a currency without a rate, fails here, by its name.
        self.rates.of(self.contract(symbol).currency)
        frame, compression = bt_timeframe(timeframe)
        zone = localizer(params.get("tz")) or timezone.utc
        data = self.getdata(
            symbol,
            name=symbol,
            timeframe=frame,
            compression=compression,
            fromdate=_as_datetime(first, zone),
            todate=_as_datetime(last, zone),
            historical=mode == "backtest",
            **params,
        )
        cerebro.adddata(data)
        return data

    def _make_broker(
        self,
        mode: str,
        live_from: int | None,
        cash: float | Mapping[str, float] | None,
        check_margin: bool,
        backfill_orders: str,
    ) -> LiveTraderBroker | LiveTraderBackBroker:
        if mode != "backtest":
            return self.getbroker(backfill_orders=backfill_orders, check_margin=check_margin)
        from livetrader_bt.backtest import LiveTraderBackBroker

        make: Callable[..., LiveTraderBackBroker] = LiveTraderBackBroker
        return make(
            store=self,
            account_cash=self._starting_cash(cash),
            live_from=live_from or 0,
            check_margin=check_margin,
        )

    def _starting_cash(self, cash: float | Mapping[str, float] | None) -> dict[str, float]:
        if isinstance(cash, Mapping):
            return dict(cash)
        if cash is not None:
            return {self.rates.base: float(cash)}
        from_accounts = _cash_by_currency(self.balances())
        if not from_accounts:
            raise ConfigError("this server has no account: give the backtest its cash=…")
        return from_accounts

    # ---- connection

    def connect(self) -> None:
        """Connect, if not yet; feeds and the broker do so themselves. Raises Unavailable."""
        if self._io is not None:
            return
        if self._service is _ELSEWHERE:
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
        return {e: RemoteSession(e, timeout=self.timeout) for e in dict.fromkeys(endpoints)}

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
        self._feeds.clear()
        self._asked.clear()
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
        """The accounts of each session that trades, at one moment. Raises Unavailable."""
        self._trading_sessions()
        real = {name for name, info in self._markets.values() if info.trade == "live"}
        return [
            (self._sources[name], self.call(take_snapshot(session, real_money=name in real)))
            for name, session in self._sessions.items()
            if session in self._trading_sessions()
        ]

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

    # ---- rates

    def seed_rates(self, at: int | None = None) -> None:
        """Know the rates that follow a symbol, as they are or as they were at ``at`` (UTC ms).

        Raises UnknownSymbol, Unavailable, ConfigError.
        """
        for symbol in self.rates.symbols:
            price = self._price_at(symbol, at)
            if price is None:
                raise ConfigError(f"rates: {symbol} has no klines to take a rate from")
            self.rates.seed(symbol, price)

    def _price_at(self, symbol: str, at: int | None) -> float | None:
        session = self.session(symbol)
        for timeframe in ("1m", "1d"):
            last = self.call(session.get_kline_histories(symbol, None, 1, at, timeframe))
            if len(last):
                return float(last.close[-1])
        for timeframe in ("1d", "1m"):
            later = self.history(symbol, timeframe, at, None)
            if len(later):
                return float(later.open[0])
        return None

    def begin_rates(self, feeds: Sequence[LiveTraderData]) -> None:
        """Seed what is not known of the rates; every symbol that one follows must have a feed.

        Raises ConfigError.
        """
        served = {feed.symbol for feed in feeds}
        for symbol in self.rates.symbols:
            if symbol not in served:
                raise ConfigError(
                    f"rates: a currency follows {symbol}, which has no feed in this Cerebro: add "
                    "it to the symbols, or give a number"
                )
        if any(not self.rates.knows(symbol) for symbol in self.rates.symbols):
            self.seed_rates()

    def fills_on_bars(self) -> bool:
        """Whether every venue here simulates fills on closed klines."""
        kinds = {info.fill_on for _, info in self._markets.values() if info.trade}
        return kinds == {"bar"}

    def _check_mode(self, symbols: Sequence[str], mode: str) -> None:
        for symbol in symbols:
            trade = self.market(symbol).trade
            if trade is None:
                raise ConfigError(
                    f"{symbol}: {self.endpoint or 'the service'} does not trade this market; "
                    "add it to a [trades.…] section of the server, or use mode='backtest'"
                )
            if trade != mode:
                raise ConfigError(
                    f"{symbol}: mode={mode!r} was asked for, but this server's trading of it is "
                    f"{trade}"
                )

    def _check_begun(self, symbols: Sequence[str], live_from: int | None) -> None:
        waiting = [symbol for symbol in symbols if not self.market(symbol).begun]
        if waiting and live_from is None:
            raise ConfigError(
                f"{waiting[0]}: this market is a recording that has not begun; say where it goes "
                "live with live_from=…, or start its server with start = …"
            )

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

    def acknowledge(self) -> None:
        """Tell paced markets that the strategy is done with what it was given."""
        for source, clock in self.hub.unacked():
            self._acknowledge(self._sessions[source.name], clock)

    def _acknowledge(self, session: Session, clock: int) -> None:
        self.post_in_order(lambda: session.ack(clock))

    def opens_round(self, data: LiveTraderData) -> bool:
        """Whether ``data`` is the first feed that Cerebro asks in this round: it may wait for all.

        Not the first that was added: Cerebro asks feeds in the order of their timeframes. A feed
        that asks again begins a new round; until then, the strategy has not run.
        """
        if data.over:
            return False
        first = not self._asked or id(data) in self._asked
        if first:
            self._asked = set()
        self._asked.add(id(data))
        return first

    def wait(self, seconds: float) -> None:
        """Wait, at most ``seconds``, until a feed or the broker has something to do."""
        if any(feed.has_undelivered() for feed in self._feeds):
            return
        self.acknowledge()
        immediate = self._broker is not None and not self._broker.follows_bars
        self.hub.wait(seconds, wake_on_inbox=immediate)

    # ---- backtrader's store interface

    def start(self, data: LiveTraderData | None = None, broker: Any = None) -> None:
        """Called by Cerebro, and by feeds and the broker as they start."""
        # Feeds overload ==, so they are told apart by identity.
        if data is not None and not any(feed is data for feed in self._feeds):
            self._feeds.append(data)
        if broker is not None:
            self._broker = broker

    def attach(self, cerebro: bt.Cerebro) -> None:
        """Know a Cerebro that this store works for, so that its end ends any wait here."""
        run = run_of(cerebro)
        if any(store is self for store in run.stores):
            return
        run.stores.append(self)
        cerebro.addstore(self)
        # Without it a fill would be told to the strategy only with the next bar.
        cerebro.p.quicknotify = True

    def begin_run(self) -> None:
        """A Cerebro of this store is about to run: nothing of an earlier run is left."""
        if self._feeds or self._broker is not None or self.hub.channels:
            self.stop()
        if self._io is None and self._replayed is not None and self._service is not _ELSEWHERE:
            self.begin_replay(*self._replayed)

    def abort_run(self) -> None:
        """A run raised: what backtrader would have stopped at its end is stopped."""
        broker = self._broker
        if broker is not None:
            broker.stop()
        self.stop()

    def add_channel(self, channel: Channel) -> None:
        """Have the events of ``channel`` collected.

        Raises ConfigError if its venue's klines come so much later than another's that the two
        could never be aligned.
        """
        self._check_delays(channel)
        self.hub.add(channel)

    def _check_delays(self, channel: Channel) -> None:
        if self.mix_delays or not self.hub.align_timeout:
            return
        for other in self.hub.channels:
            apart = abs(other.market.delay_ms - channel.market.delay_ms)
            if apart > self.hub.align_timeout * 1000:
                here, there = channel.contract.symbol, other.contract.symbol
                raise ConfigError(
                    f"{here} comes {channel.market.delay_ms / 1000:g} s late and {there} "
                    f"{other.market.delay_ms / 1000:g} s: bars of one moment would not meet within "
                    f"align_timeout={self.hub.align_timeout:g}; pass mix_delays=True to trade them "
                    "together all the same"
                )

    def stop(self) -> None:
        """Called by Cerebro at its end, more than once."""
        self._feeds.clear()
        self._broker = None
        self.close()

    def tell_late_klines(self) -> None:
        """Notify of klines that came after their moment had been delivered."""
        late = self.hub.late_klines
        if late > self._late_told:
            self._late_told = late
            self.put_notification(f"{late} klines came late: after others of a later moment")

    def warn(self, message: str) -> None:
        """Have ``message`` logged, and told to ``notify_store``."""
        log.warning("%s", message)
        self.put_notification(message)

    def put_notification(self, message: str, *args: Any, **kwargs: Any) -> None:
        """Have ``message`` told to ``notify_store``."""
        self._notifications.append((message, args, kwargs))

    def get_notifications(self) -> list[Any]:
        """Messages since the last call."""
        self._notifications.append(None)
        return list(iter(self._notifications.popleft, None))


def _as_datetime(ts: int | None, zone: tzinfo) -> datetime | None:
    # Naive, in the feed's own zone: backtrader reads it so.
    if ts is None:
        return None
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=ts)
    return moment.astimezone(zone).replace(tzinfo=None)


def _cash_by_currency(balances: Sequence[Balance]) -> dict[str, float]:
    cash: dict[str, float] = {}
    for balance in balances:
        cash[balance.currency] = cash.get(balance.currency, 0.0) + balance.cash
    return cash


class _Elsewhere:
    """Stands for the services of a store that was copied into another process."""

    def __reduce__(self) -> str:
        return "_ELSEWHERE"


_ELSEWHERE = _Elsewhere()
_open_stores: weakref.WeakSet[LiveTraderStore] = weakref.WeakSet()
_shared: dict[str, LiveTraderStore] = {}


def shared_store(endpoint: str) -> LiveTraderStore:
    """The store that feeds and brokers without one of their own share, by endpoint."""
    if endpoint not in _shared:
        _shared[endpoint] = LiveTraderStore(endpoint)
    return _shared[endpoint]


@atexit.register
def _close_all() -> None:
    # A strategy that raises leaves backtrader without calling any stop().
    for store in list(_open_stores):
        store.close()
