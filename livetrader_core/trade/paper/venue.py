"""PaperTrade: a simulated account that fills against any market's closed klines."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from livetrader_core.errors import (
    ConfigError,
    LiveTraderError,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
    StorageError,
)
from livetrader_core.market.base import MarketBase
from livetrader_core.models import (
    Balance,
    Clock,
    Contract,
    Fill,
    Kline,
    Order,
    OrderStatus,
    OrderType,
    Position,
    TimeInForce,
    market_of,
)
from livetrader_core.service import MarketService
from livetrader_core.trade.base import CHANGES, Abilities, TradeBase, VenueEvent
from livetrader_core.trade.events import EventReader, EventStream
from livetrader_core.trade.paper.account import Account
from livetrader_core.trade.paper.book import Bar, PaperBook, Rules, Working
from livetrader_core.trade.paper.calls import call_margin
from livetrader_core.trade.paper.checks import (
    cash_by_currency,
    check_grid,
    check_setting,
    check_times,
)
from livetrader_core.trade.paper.matching import Slippage
from livetrader_core.trade.paper.nights import charge_nights
from livetrader_core.trade.paper.state import StateFile
from livetrader_core.trade.request import check_number, check_order

log = logging.getLogger(__name__)

#: Seconds between two looks whether the market is there.
_PAUSE = 0.05


class PaperTrade(TradeBase):
    """Orders filled on the klines of ``market``, by the rules of backtrader's own broker.

    ``market`` is a MarketService, or a MarketBase, which then gets a service of its own. ``cash``
    is an amount in ``currency``, or amounts by currency. ``slippage_perc`` (0.01 is 1 %) or
    ``slippage_fixed`` (in price) moves fills against the order; fills at an open only with
    ``slippage_open``. ``volume_limit`` is the fraction of a kline's volume that one order may take
    (0: all it wants). ``check_margin`` refuses what the account cannot pay. ``fill_on`` is "bar".
    ``markets`` limits it to some MARKETs, where others are traded elsewhere.

    ``margin_call`` (0: never): when the equity of a currency falls below this share of the margin
    that its positions reserve, its orders in margined contracts are canceled, and the positions
    closed at the next kline. Swaps of contracts are booked with the first kline of each trading
    day. ``state`` is a file that keeps account, orders and fills over restarts; without one they
    end with the connection. Klines that close while nobody is there fill nothing.

    An order is tried on each kline of its symbol and timeframe that opens at or after its
    ``as_of`` (0: the venue's clock when it arrived) and is given after it arrived. On a clocked
    market all klines of a moment make one round, in which the orders are tried in the order of
    their arrival; elsewhere each kline is a round of its own. A kline is let through to listeners
    when every reader of :meth:`watch_events` is done with what it caused.
    """

    paper = True
    keeps_books = False
    abilities = Abilities(frozenset(OrderType), frozenset(TimeInForce), linked=True, modify=CHANGES)

    def __init__(
        self,
        market: MarketService | MarketBase,
        cash: float | Mapping[str, float] = 100_000.0,
        currency: str = "USD",
        check_margin: bool = False,
        slippage_perc: float = 0.0,
        slippage_fixed: float = 0.0,
        volume_limit: float = 0.0,
        fill_on: str = "bar",
        slippage_open: bool = False,
        markets: Sequence[str] | None = None,
        margin_call: float = 0.0,
        state: str | Path | None = None,
    ) -> None:
        if fill_on != "bar":
            raise ConfigError(f"fill_on: {fill_on!r} is not known; PaperTrade fills on 'bar' only")
        for name, value in (
            ("slippage_perc", slippage_perc),
            ("slippage_fixed", slippage_fixed),
            ("volume_limit", volume_limit),
            ("margin_call", margin_call),
        ):
            check_setting(name, value)
        self._only = None if markets is None else tuple(markets)
        self._own_service = isinstance(market, MarketBase)
        self.service = MarketService(market) if isinstance(market, MarketBase) else market
        self.fill_on = fill_on
        rules = Rules(
            Slippage(slippage_perc, slippage_fixed, slippage_open), volume_limit, check_margin
        )
        self.account = Account(cash_by_currency(cash, currency))
        # Fills of two runs must not share a trade_id: a journal outlives the run.
        self._run = secrets.token_hex(3)
        self._order_numbers = itertools.count(1)
        self._trade_numbers = itertools.count(1)
        self._contracts: dict[str, Contract] = {}
        self._orders: dict[str, Order] = {}
        self._book = PaperBook(self.account, rules, self._tell, self._next_trade_id)
        self._fills: list[Fill] = []
        self._margin_call = margin_call
        self._state = None if state is None else StateFile(Path(state).expanduser())
        self.keeps_books = state is not None
        #: What is not in the file yet, and so nobody has heard of.
        self._unsaved: dict[str, Order] = {}
        self._unsaved_fills: list[Fill] = []
        self._untold: list[VenueEvent] = []
        self._is_behind = False
        self._arriving = asyncio.Lock()
        self._gathered: list[Bar] = []
        self._events = EventStream()
        self._remove_hook: Callable[[], None] | None = None
        self._resuming: asyncio.Task[None] | None = None

    @property
    def markets(self) -> tuple[str, ...]:  # type: ignore[override]
        """What it trades; some MARKETs may be known only when the market service connects."""
        served = tuple(code for market in self.service.markets for code in market.markets)
        return served if self._only is None else tuple(c for c in served if c in self._only)

    # ---- life

    async def connect(self) -> None:
        """Follow the market.

        Raises Unavailable if a market of its own can't be reached, StorageError.
        """
        if self._remove_hook is not None:
            return
        if self._state is not None:
            self._load(self._state)
        self._remove_hook = self.service.add_hook(self._on_market)
        if self._own_service:
            try:
                await self.service.connect()
            except BaseException:
                self._unhook()
                raise

    async def disconnect(self) -> None:
        """Follow no more; readers of events come to their end."""
        resuming, self._resuming = self._resuming, None
        if resuming is not None:
            resuming.cancel()
            await asyncio.gather(resuming, return_exceptions=True)
        self._unhook()
        self._events.close()
        if self._state is not None:
            self._state.close()
        if self._own_service:
            await self.service.stop()

    def _unhook(self) -> None:
        if self._remove_hook is not None:
            self._remove_hook()
            self._remove_hook = None

    def _load(self, state: StateFile) -> None:
        saved = state.open()
        if saved is None:
            return
        self.account.books = saved.account.books
        self._orders, self._fills = saved.orders, saved.fills
        self._book.restore(saved.working, saved.links)
        streams = {(one.order.symbol, one.order.timeframe) for one in saved.working}
        streams |= {(position.symbol, "1m") for position in self.account.positions()}
        self._resuming = asyncio.get_running_loop().create_task(self._resume(sorted(streams)))

    async def _resume(self, streams: Sequence[tuple[str, str]]) -> None:
        """Follow what the account has orders and positions in, once the market is there."""
        while streams:
            await asyncio.sleep(_PAUSE)
            if not self.service.connected:
                continue
            for symbol, timeframe in streams:
                try:
                    await self.service.watch(symbol, timeframe)
                except LiveTraderError as error:
                    log.warning("paper: %s is held, and cannot be followed: %s", symbol, error)
            return

    def now(self, symbol: str) -> int:
        """The time in the market's stream: its clock, or its time less its delay."""
        market = self.service.market_for(symbol)
        return self.service.clock(symbol) - (0 if market.clocked else market.delay_ms)

    # ---- orders

    async def create_order(self, order: Order) -> Order:
        """Put ``order`` into the book. Raises OrderRejected, InvalidRequest, NotConnected."""
        if self._remove_hook is None:
            raise NotConnected("the paper venue is not connected; call connect() first")
        check_order(order)
        async with self._arriving:  # whoever comes first is first in the book
            known = self._orders.get(order.client_order_id)
            if known is not None:
                return self._confirmed(known)
            contract = await self._contract(order.symbol)
            check_times(order)
            check_grid(order, contract)
            await self.service.watch(order.symbol, order.timeframe)
            if reason := self._book.refusal(order, self._orders.get):
                raise OrderRejected(f"order {order.client_order_id}: {reason}")
            return self._accept(order, contract)

    async def _contract(self, symbol: str) -> Contract:
        contract = self._contracts.get(symbol)
        if contract is None:
            contract = self._contracts[symbol] = await self.service.get_contract(symbol)
        return contract

    def _accept(self, order: Order, contract: Contract) -> Order:
        now = self.now(order.symbol)
        as_of = order.as_of or now
        accepted = order.but(
            order_id=f"p-{self._run}-{next(self._order_numbers)}",
            status=OrderStatus.ACCEPTED,
            as_of=as_of,
            expires_at=_expiry(order, contract, as_of),
            created_at=order.created_at or now,
            updated_at=now,
        )
        self._book.add(accepted, contract, self._orders.get)
        self._orders[order.client_order_id] = self._unsaved[order.client_order_id] = accepted
        try:
            self._save()
        except StorageError as error:
            self._book.drop(accepted)
            del self._orders[order.client_order_id], self._unsaved[order.client_order_id]
            raise OrderRejected(f"order {order.client_order_id}: {error}") from error
        return accepted

    def _next_trade_id(self) -> str:
        return f"p-{self._run}-{next(self._trade_numbers)}"

    async def cancel_order(self, client_order_id: str) -> None:
        """Take an order out of the book. Raises OrderRejected if it is not in it."""
        working = self._working(client_order_id)
        self._book.cancel(working, self.now(working.order.symbol))
        self._publish()

    async def modify_order(
        self,
        client_order_id: str,
        quantity: float | None = None,
        price: float | None = None,
        stop_price: float | None = None,
    ) -> Order:
        """Change a working order, which keeps its place in the book.

        Raises InvalidRequest for a value that cannot be, OrderRejected if it does not work, and
        OutcomeUnknown if the change could not be written yet.
        """
        working = self._working(client_order_id)
        asked = {"quantity": quantity, "price": price, "stop_price": stop_price}
        changes = {name: value for name, value in asked.items() if value is not None}
        for name, value in changes.items():
            check_number(f"order {client_order_id}: {name}", value)
        changed = working.order.but(**changes, updated_at=self.now(working.order.symbol))
        check_order(changed)
        check_grid(changed, working.contract)
        if changed.quantity <= changed.filled:
            raise OrderRejected(
                f"order {client_order_id}: {changed.filled:g} are filled already; the quantity "
                "must stay above that"
            )
        self._book.change(working, changed)
        self._publish()
        return self._confirmed(changed)

    def _working(self, client_order_id: str) -> Working:
        working = self._book.find(client_order_id)
        if working is None:
            order = self._orders.get(client_order_id)
            what = f"it is {order.status.value}" if order else "there is no such order"
            raise OrderRejected(f"order {client_order_id} is not working: {what}")
        return working

    async def fetch_order(self, client_order_id: str) -> Order | None:
        """The order; None if it never arrived in this run."""
        self._catch_up()
        return self._orders.get(client_order_id)

    async def fetch_open_orders(self) -> list[Order]:
        """The book, in the order of arrival."""
        self._catch_up()
        return [working.order for working in self._book.working]

    async def fetch_fills(self, since: int = 0) -> list[Fill]:
        """Fills of this run at or after ``since`` (UTC ms)."""
        self._catch_up()
        return [fill for fill in self._fills if fill.datetime >= since]

    async def fetch_positions(self) -> list[Position]:
        """Net positions that are not flat."""
        self._catch_up()
        return self.account.positions()

    async def fetch_balance(self) -> list[Balance]:
        """One balance for each currency."""
        self._catch_up()
        return self.account.balances()

    def watch_events(self) -> EventReader:
        """Fills, cancellations, expiries and changes from the moment of this call on."""
        return self._events.reader()

    # ---- klines

    async def _on_market(self, event: Kline | Clock) -> None:
        if isinstance(event, Clock):
            self._run_moment(event)
        elif event.closed:
            bar = await self._bar(event)
            if self.service.market_for(event.symbol).clocked:
                self._gathered.append(bar)
            else:
                self._run_round([bar])
        await self._events.drained()

    async def _bar(self, kline: Kline) -> Bar:
        contract = await self._contract(kline.symbol)
        return Bar(kline, contract.sessions.kline_end(kline.datetime, kline.timeframe))

    def _run_moment(self, clock: Clock) -> None:
        due = [bar for bar in self._gathered if _belongs(bar, clock)]
        if not due:
            return
        self._gathered = [bar for bar in self._gathered if not _belongs(bar, clock)]
        due.sort(key=lambda bar: bar.end)
        for _, bars in itertools.groupby(due, key=lambda bar: bar.end):
            self._run_round(list(bars))

    def _run_round(self, bars: list[Bar]) -> None:
        contracts = [self._contracts[bar.kline.symbol] for bar in bars]
        for bar, contract in zip(bars, contracts, strict=True):
            charge_nights(self.account, contract, bar.kline.datetime)
        self._book.run(bars)
        # Valued at the closes only after the round: while it runs, money is what it was before.
        self.account.mark((bar.kline.symbol, bar.kline.close) for bar in bars)
        for bar, contract in zip(bars, contracts, strict=True):
            charge_nights(self.account, contract, bar.kline.datetime)  # what is new has its day
        if self._margin_call:
            call_margin(self._book, self._margin_call, bars, self._next_call_id)
        self._publish()

    def _next_call_id(self) -> str:
        return f"call-{self._run}-{next(self._order_numbers)}"

    # ---- what is told, once it is written

    def _tell(self, order: Order, clock: int, fill: Fill | None = None) -> None:
        self._orders[order.client_order_id] = self._unsaved[order.client_order_id] = order
        if fill is not None:
            self._fills.append(fill)
            self._unsaved_fills.append(fill)
        self._untold.append(VenueEvent(clock, order, fill))

    def _publish(self) -> None:
        """Write what changed, and tell of it; what cannot be written now is told with the next."""
        try:
            self._save()
        except StorageError as error:
            self._is_behind = True
            log.error("nobody hears of what happens on paper: %s", error)
            return
        self._tell_all()

    def _catch_up(self) -> None:
        """Write what could not be written; nothing else is said before. Raises StorageError."""
        if self._is_behind:
            self._save()
            self._tell_all()

    def _confirmed(self, order: Order) -> Order:
        """``order``, once what it is now is written. Raises OutcomeUnknown."""
        try:
            self._catch_up()
        except StorageError as error:
            raise OutcomeUnknown(
                f"order {order.client_order_id}: what it is now is not written: {error}"
            ) from error
        return order

    def _tell_all(self) -> None:
        self._is_behind = False
        for event in self._untold:
            self._events.put(event)
        self._untold.clear()

    def _save(self) -> None:
        if self._state is not None:
            # All that work: of a stop-limit that was triggered nobody is told.
            orders = {
                working.order.client_order_id: working.order for working in self._book.working
            }
            orders.update(self._unsaved)
            rows = [(order, self._book.find(name)) for name, order in orders.items()]
            self._state.write(self.account, self._book.links, rows, self._unsaved_fills)
        self._unsaved.clear()
        self._unsaved_fills.clear()


def _belongs(bar: Bar, clock: Clock) -> bool:
    return bar.end <= clock.datetime and market_of(bar.kline.symbol) in clock.markets


def _expiry(order: Order, contract: Contract, as_of: int) -> int:
    if order.time_in_force is TimeInForce.DAY:
        return contract.sessions.close_of(contract.sessions.trading_date(as_of))
    return order.expires_at if order.time_in_force is TimeInForce.GTD else 0
