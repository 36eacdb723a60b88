"""TqTrade: trading of Chinese futures over tqsdk."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from pydantic import SecretStr

from livetrader_core.clock import Clock, parse_clock
from livetrader_core.errors import (
    LiveTraderError,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
    RequestTimeout,
    UnknownSymbol,
)
from livetrader_core.market.tq import queries, settings
from livetrader_core.market.tq.keeper import Keeper
from livetrader_core.market.tq.library import Login
from livetrader_core.market.tq.line import Line
from livetrader_core.market.tq.parsing import contract_of
from livetrader_core.market.tq.symbols import MARKETS, instrument_of, is_main
from livetrader_core.market.tq.waiting import first_of, within
from livetrader_core.market.tq.worker import News
from livetrader_core.models import (
    Balance,
    Contract,
    Fill,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Side,
    TimeInForce,
)
from livetrader_core.trade.base import Abilities, TradeBase, VenueEvent
from livetrader_core.trade.events import EventStream
from livetrader_core.trade.tq.accounts import KINDS, account_of
from livetrader_core.trade.tq.books import FINISHED, Books, Holding, VenueTrade
from livetrader_core.trade.tq.desk import Desk
from livetrader_core.trade.tq.offsets import split
from livetrader_core.trade.tq.requests import check, no_market_orders, request_of
from livetrader_core.trade.tq.worker import Request, TradeLine

log = logging.getLogger(__name__)


class TqTrade(TradeBase):
    """One account for SHFE, INE, DCE, CZCE, CFFEX and GFEX.

    ``user`` and ``password`` are those of the vendor's account, which every login needs. ``kind``
    is what is traded with:

    - ``kq``: the vendor's simulated account that belongs to ``user`` (no real money);
    - ``account``: an account with a broker: ``broker`` as the vendor spells it, ``account`` and
      ``account_password``;
    - ``sim``: an account that tqsdk simulates by itself, of ``cash`` yuan; it ends with the
      connection.

    ``auth_url``, ``md_url`` and ``td_url`` lead to other servers than the vendor's. ``timeout``:
    seconds to log in, and for an answer; an order that has none by then is UNKNOWN, and the line
    is replaced to learn the truth. ``reconnect_after``: seconds between the first two attempts to
    come back. ``clock``: as :func:`livetrader_core.clock.parse_clock` takes it.

    Orders work until the end of their trading day at most: the exchanges know no longer ones.

    Raises ConfigError naming the setting at fault.
    """

    markets = MARKETS
    abilities = Abilities(
        times_in_force=frozenset({TimeInForce.DAY, TimeInForce.IOC, TimeInForce.FOK}),
        closing_reserves=True,
    )

    def __init__(
        self,
        user: str,
        password: SecretStr | str,
        kind: str = "kq",
        broker: str = "",
        account: str = "",
        account_password: SecretStr | str = "",
        cash: float = 10_000_000.0,
        auth_url: str = "",
        md_url: str = "",
        td_url: str = "",
        reconnect_after: float = 5.0,
        timeout: float = 20.0,
        clock: Clock | str | None = None,
    ) -> None:
        who = settings.text("user", user)
        make, name = account_of(
            kind, broker, account, account_password, cash, settings.address("td_url", td_url, "ws")
        )
        self._login = Login(
            who,
            settings.secret("password", password),
            settings.address("auth_url", auth_url, "http"),
            settings.address("md_url", md_url, "ws"),
            make,
        )
        self._name = name or f"{kind}:{who}"
        self._timeout = settings.seconds("timeout", timeout)
        pause = settings.seconds("reconnect_after", reconnect_after)
        self._clock = parse_clock(clock)
        self.paper = KINDS[kind].paper
        self._lasting = self.keeps_books = KINDS[kind].lasting
        self._pause = pause
        self._contracts: dict[str, Contract] = {}
        self._desk = Desk(Books(), self._contracts, self._clock)
        self._events = EventStream()
        self._keeper: Keeper[TradeLine] | None = None
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._pulse = asyncio.Event()
        #: Order ids that the present line has told of.
        self._listed: set[str] = set()
        #: The line over which an order left that was not answered, by client_order_id.
        self._unanswered: dict[str, Line] = {}

    # ---- life

    async def connect(self) -> None:
        """Log in and learn what the account has. Raises ConfigError, NotConnected."""
        if self._keeper is not None:
            return
        self._keeper = Keeper(self._new_line, self._adopt, self._pause)
        try:
            await self._keeper.open()
        except BaseException:
            self._keeper = None
            raise

    async def disconnect(self) -> None:
        """Leave: the thread ends, and with it every connection. Orders go on working."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.close()
        self._events.close()

    def now(self, symbol: str) -> int:
        """The venue's time (UTC ms)."""
        return self._clock.now()

    def _new_line(self) -> TradeLine:
        self._listed = set()
        self._desk.books.holdings.clear()
        if not self._lasting:
            self._desk.forget()
        return TradeLine(self._login, self._timeout, self._hear, self._on_ended)

    async def _adopt(self, line: TradeLine) -> None:
        """Take ``line`` into use once all that the venue has of the account has come."""
        await self._within(line.sync())
        for symbol in self._desk.symbols():
            if symbol not in self._contracts:
                await self._learn(line, symbol)
        self._end_missing()
        again = self._desk.to_cancel()
        if again:
            await self._within(line.cancel(again))

    def _end_missing(self) -> None:
        """Orders that worked and are not listed any more have ended with their trading day."""
        missing = self._desk.missing(self._listed)
        for order in missing:
            if self._desk.day_is_over(order):
                ended = order._replace(status=FINISHED, message="its trading day is over")
                self._take(Books(orders={order.order_id: ended}))
            else:
                log.warning("tqsdk: order %s worked, and is not listed any more", order.order_id)

    # ---- what comes from the line

    def _hear(self, line: Line, news: News) -> None:
        if self._keeper is None or line is not self._keeper.line:
            return
        if news.books is not None:
            self._listed |= news.books.orders.keys()
            self._take(news.books)
        if news.line is not None and not news.line[0] and self._lasting:
            # At once: what tqsdk still holds back must not leave when it comes back by itself.
            self._keeper.replace(line, news.line[1])
        self._beat()

    def _on_ended(self, line: Line, error: LiveTraderError | None) -> None:
        if self._keeper is not None and error is not None:
            self._keeper.replace(line, str(error))
        self._beat()

    def _take(self, news: Books) -> None:
        for event in self._desk.take(news):
            self._events.put(event)

    def _beat(self) -> None:
        self._pulse.set()
        self._pulse = asyncio.Event()

    # ---- orders

    async def create_order(self, order: Order) -> Order:
        """Send ``order``, in parts where offsets ask for it.

        Raises OrderRejected, UnknownSymbol or NotConnected for one that certainly did not trade;
        OutcomeUnknown.
        """
        client_order_id = order.client_order_id
        if is_main(order.symbol):
            raise OrderRejected(f"{order.symbol} stands for a contract; order that one by its name")
        line = await self._ready()
        contract = await self._learn(line, order.symbol)
        check(order, contract)
        async with self._locks[order.symbol]:
            known = self._desk.order(client_order_id)
            if known is not None:
                return known
            await self._settled(order.symbol)
            requests = await self._requests(line, order, contract)
            self._desk.begin(order)
            try:
                await self._send(line, order, requests)
            finally:
                self._desk.end(client_order_id)
        done = self._desk.order(client_order_id)
        assert done is not None
        if done.status is OrderStatus.REJECTED:
            raise OrderRejected(f"order {client_order_id}: {done.reason or 'refused'}")
        return done

    async def _settled(self, symbol: str) -> None:
        """Wait until positions say what orders have done to them."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        while not self._desk.books.settled(symbol):
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise NotConnected(
                    f"{symbol}: the trades of an earlier order have not come within "
                    f"{self._timeout:g} s, so what can be closed is not known; nothing was sent"
                )
            await first_of(self._pulse.wait(), left)

    async def _requests(self, line: TradeLine, order: Order, contract: Contract) -> list[Request]:
        holding = self._desk.books.holdings.get(order.symbol, Holding(order.symbol))
        parts = split(order, holding, self._desk.working())
        if order.time_in_force is TimeInForce.FOK and len(parts) > 1:
            offsets = ", ".join(f"{part.offset} {part.volume}" for part in parts)
            raise OrderRejected(
                f"order {order.client_order_id}: all or nothing, and it needs several: {offsets}"
            )
        price = contract.round_price(order.price) if order.type is OrderType.LIMIT else None
        if price is None and no_market_orders(order.symbol):
            try:
                lower, upper = await self._within(line.band(order.symbol))
            except RequestTimeout as error:
                raise NotConnected(f"{order.symbol}: no price band: {error}") from error
            price = upper if order.side is Side.BUY else lower
        return [request_of(order, number, part, price) for number, part in enumerate(parts, 1)]

    async def _send(self, line: TradeLine, order: Order, requests: Sequence[Request]) -> None:
        name = f"order {order.client_order_id}"
        if self._keeper is None or not self._keeper.stands(line):
            raise NotConnected(f"{name}: the line to tqsdk is down; it was not sent")
        try:
            sent = await self._within(line.insert(requests))
        except LiveTraderError as error:
            self._doubt(order.client_order_id, line, str(error))
            raise OutcomeUnknown(f"{name}: {error}") from error
        except asyncio.CancelledError:
            self._doubt(order.client_order_id, line, f"{name} was left alone")
            raise
        if not sent:
            raise NotConnected(f"{name}: the trading server cannot be reached; it was not sent")
        await self._answered(line, order, [one.order_id for one in requests])

    async def _answered(self, line: TradeLine, order: Order, order_ids: Sequence[str]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        books, keeper = self._desk.books, self._keeper
        asked = False
        while not all(key in books.orders and books.orders[key].answered for key in order_ids):
            left = deadline - loop.time()
            if keeper is None or not keeper.stands(line):
                why = "the line was lost before the venue answered"
            elif left <= 0:
                why = f"the venue has not answered within {self._timeout:g} s"
            else:
                pulse = self._pulse
                if not self._lasting and not asked:
                    # The account that tqsdk simulates speaks only when the venue does.
                    asked = True
                    await self._within(line.probe(order.symbol))
                    continue
                await first_of(pulse.wait(), left)
                continue
            if all(key in books.orders for key in order_ids):
                return  # at the venue, and not yet at the exchange
            self._doubt(order.client_order_id, line, why)
            raise OutcomeUnknown(f"order {order.client_order_id}: {why}")

    def _doubt(self, client_order_id: str, line: TradeLine, why: str) -> None:
        """Only a new line tells whether the order arrived."""
        self._unanswered[client_order_id] = line
        if self._keeper is not None and self._lasting:
            self._keeper.replace(line, f"order {client_order_id}: {why}")

    async def cancel_order(self, client_order_id: str) -> None:
        """Ask to cancel all parts that work. Raises OrderRejected, Unavailable."""
        line = await self._ready()
        order_ids = self._desk.alive(client_order_id)
        if not order_ids:
            if client_order_id in self._unanswered and self._unanswered[client_order_id] is line:
                raise RequestTimeout(f"order {client_order_id} has not been answered yet")
            raise OrderRejected(f"order {client_order_id} does not work at the venue")
        self._desk.cancelling.add(client_order_id)
        if not await self._within(line.cancel(order_ids)):
            raise NotConnected(f"order {client_order_id}: no line to the trading server")
        if not self._lasting:
            await self._within(line.probe(self._desk.books.orders[order_ids[0]].symbol))

    # ---- what the venue has

    async def fetch_order(self, client_order_id: str) -> Order | None:
        """The order in the venue's books of the day; None: it never arrived.

        Raises Unavailable, also while only a new line can tell.
        """
        line = await self._synced()
        found = self._desk.order(client_order_id)
        if found is None and self._unanswered.get(client_order_id) is line:
            raise RequestTimeout(f"order {client_order_id} has not been answered yet")
        self._unanswered.pop(client_order_id, None)
        return found

    async def fetch_open_orders(self) -> list[Order]:
        """Orders that still work, oldest first; others' under the ids they have there."""
        await self._synced()
        found = (self._desk.order(name) for name in self._desk.names(working=True))
        orders = [order for order in found if order is not None and not order.status.is_final]
        return sorted(orders, key=lambda order: order.created_at)

    async def fetch_fills(self, since: int = 0) -> list[Fill]:
        """Executions of the day at or after ``since`` (UTC ms), oldest first."""
        line = await self._synced()
        trades = [one for one in self._desk.books.trades.values() if one.datetime >= since]
        for symbol in {trade.symbol for trade in trades}:
            await self._learn(line, symbol)
        trades.sort(key=_when)
        return [self._desk.fill(trade) for trade in trades]

    async def fetch_positions(self) -> list[Position]:
        """Net positions that are not flat; the price is that of the side that prevails."""
        await self._synced()
        return [
            Position(
                one.symbol,
                float(one.net),
                one.long_price if one.net > 0 else one.short_price,
            )
            for one in self._desk.books.holdings.values()
            if one.net
        ]

    async def fetch_balance(self) -> list[Balance]:
        """The account in yuan; what positions have won since they were opened is no cash yet."""
        await self._synced()
        money = self._desk.books.money
        if money is None:
            raise NotConnected("the venue has not told what is in the account")
        return [
            Balance(
                self._name,
                "CNY",
                cash=money.balance - money.profit,
                margin=money.margin,
                available=money.available,
                equity=money.balance,
            )
        ]

    def watch_events(self) -> AsyncIterator[VenueEvent]:
        """Every change of an order of ours from this call on."""
        return self._events.reader()

    # ---- the line

    @property
    def lost(self) -> str:
        """As :attr:`TradeBase.lost`."""
        if self._keeper is None:
            return "no line to tqsdk: not connected; call connect() first"
        return self._keeper.lost

    async def _ready(self) -> TradeLine:
        if self._keeper is None:
            raise NotConnected(self.lost)
        return await self._keeper.ready(self._timeout)

    async def _synced(self) -> TradeLine:
        """The line, after all that has come over it so far was taken."""
        line = await self._ready()
        await self._within(line.sync())
        return line

    async def _learn(self, line: TradeLine, symbol: str) -> Contract:
        if symbol not in self._contracts:
            instrument = instrument_of(symbol)
            asked = line.query(queries.CONTRACT, {"instrument_id": [instrument]})
            try:
                entries = await self._within(asked)
            except RequestTimeout as error:
                raise NotConnected(f"{symbol}: its contract is not known: {error}") from error
            for entry in entries:
                if entry.get("instrument_id") == instrument:
                    self._contracts[symbol] = contract_of(symbol, entry)
                    break
            else:
                raise UnknownSymbol(f"{symbol}: the venue lists no such contract")
        return self._contracts[symbol]

    async def _within(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await within(work, self._timeout, "tqsdk")


def _when(trade: VenueTrade) -> int:
    return trade.datetime
