"""Mt4Trade: orders at a MetaTrader 4 terminal with livetrader's own expert advisor."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from pathlib import Path

from livetrader_core.clock import Clock, parse_clock
from livetrader_core.config import user_folder
from livetrader_core.errors import (
    ConfigError,
    InvalidRequest,
    LiveTraderError,
    NotConnected,
    OrderRejected,
)
from livetrader_core.market.finding import Finding, Verdict
from livetrader_core.market.metatrader import settings
from livetrader_core.market.metatrader.servertime import EET_US, server_time
from livetrader_core.market.mt4 import fields
from livetrader_core.market.mt4.address import ENDPOINT, Address
from livetrader_core.market.mt4.hub import hub_of
from livetrader_core.market.mt4.line import Line
from livetrader_core.market.mt4.messages import Publication
from livetrader_core.models import (
    Balance,
    Fill,
    Order,
    OrderStatus,
    OrderType,
    Position,
)
from livetrader_core.rpc.keys import KeyPair
from livetrader_core.trade.base import Abilities
from livetrader_core.trade.metatrader.account_line import AccountLine, Patience
from livetrader_core.trade.metatrader.memory import Memory, Record
from livetrader_core.trade.metatrader.positions import (
    hedged_pair,
    net_positions,
)
from livetrader_core.trade.metatrader.trades import Trade
from livetrader_core.trade.mt4.books import STEP, OrderBooks
from livetrader_core.trade.mt4.execution import Execution
from livetrader_core.trade.mt4.levels import Levels
from livetrader_core.trade.mt4.looking import Looking
from livetrader_core.trade.mt4.messages import OrderEvent
from livetrader_core.trade.mt4.operations import Operations
from livetrader_core.trade.mt4.steps import Steps
from livetrader_core.trade.mt4.terminal import Terminal

log = logging.getLogger(__name__)

_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:")
#: How often the events that were missed are asked for, beside when a number is missing (seconds).
_PAUSE = 0.05
_IN_DOUBT = (OrderStatus.SUBMITTED, OrderStatus.UNKNOWN, OrderStatus.PARTIALLY_FILLED)


class Mt4Trade(AccountLine[Line]):
    """Orders at a MetaTrader 4 terminal, through LiveTrader.mq4.

    ``endpoint``, ``publications``, ``token``, ``keys``, ``server_key``, ``time_zone``, ``suffix``,
    ``markets``, ``timeout``, ``connect_timeout``, ``retry``, ``longest_retry`` and ``clock`` are as
    in Mt4Market, with which it shares its connection if both are in one event loop. ``slippage`` is
    what market orders take, in points. ``patience``: seconds in which an outcome that did not come
    is asked for. ``state`` is the file in which the orders of the account are kept; by default one
    in the user's own folder, for each endpoint.

    What is ours is told by the advisor's magic number; other orders and positions of the account
    are left alone, and are no part of :meth:`fetch_positions`. Quantities are lots. The account is
    a hedging one: a market order closes positions of the other side first, the oldest before the
    others, and opens what is left. A limit or stop order that closes positions, with their number
    of lots, is set on them as take-profit or stop-loss. A limit order that can be filled at once
    is, at its price or a better one as far as the broker keeps to it. Raises ConfigError naming the
    setting at fault.
    """

    abilities = Abilities(
        frozenset({OrderType.MARKET, OrderType.LIMIT, OrderType.STOP}),
        modify=frozenset({"price", "stop_price"}),
    )

    def __init__(
        self,
        endpoint: str = ENDPOINT,
        publications: str | None = None,
        token: str = "",
        keys: str | Path | KeyPair | None = None,
        server_key: str | Path | None = None,
        time_zone: str = EET_US,
        suffix: str = "",
        markets: Sequence[str] = ("FOREX",),
        slippage: int = 3,
        state: str | Path | None = None,
        patience: float = 3.0,
        timeout: float = 10.0,
        connect_timeout: float = 5.0,
        retry: float = 1.0,
        longest_retry: float = 30.0,
        clock: Clock | str | None = None,
    ) -> None:
        self._address = Address.of(endpoint, publications, token, keys, server_key)
        self._zone = server_time(time_zone)
        self.markets = settings.markets(markets)
        self._slippage = _slippage(slippage)
        host, port = self._address.requests.host, self._address.requests.port
        own = user_folder("XDG_STATE_HOME", ".local/state") / f"mt4-{host}-{port}.sqlite"
        super().__init__(
            str(self._address),
            lambda: hub_of(self._address),
            self._on_publication,
            Memory(own if state is None else Path(state)),
            Patience.of(timeout, connect_timeout, retry, longest_retry),
            parse_clock(clock),
        )
        self._terminal = Terminal(self._working, self.markets, settings.suffix(suffix))
        self._books = OrderBooks(
            self._memory,
            self._terminal.symbol,
            self._zone.moment,
            self._terminal.costs,
            self._clock.now,
            self._events.put,
        )
        self._operations = Operations(
            self._working,
            lambda: self.account_id,
            min(_PAUSE, self._patience.retry),
            settings.seconds("patience", patience),
        )
        self._steps = Steps(self._books, self._operations, self._sync)
        self._levels = Levels(self._terminal, self._books, self._steps)
        self._execution = Execution(
            self._terminal,
            self._books,
            self._steps,
            self._levels,
            self._slippage,
            min(_PAUSE, self._patience.retry),
        )
        self._looking = Looking(self._terminal, self._books)

    # ---- the line

    async def _account_on(self, line: Line) -> str:
        return str(line.greeting.account)

    async def _catch_up(self, anew: bool) -> None:
        await (self._refresh() if anew else self._sync())

    async def _rest(self) -> None:
        await self._wake.wait()

    # ---- events

    def _on_publication(self, heard: Publication) -> None:
        if heard.topic == "event":
            self._wake.set()
        elif heard.topic == "beat" and heard.body.get("event") != self._memory.event:
            self._wake.set()  # the last publication was lost

    async def _sync(self) -> None:
        """Take every event that there is. Raises Unavailable, ProtocolError."""
        while True:
            after = self._memory.event or 0
            body = await self._working().request("events", after)
            events = [OrderEvent.read(item) for item in fields.items(body, "events")]
            last, oldest = fields.integer(body, "last"), fields.integer(body, "oldest")
            journal = fields.text(body, "journal")
            self._check_account(str(fields.integer(body, "account")))
            missed = oldest > after + 1 or last < after
            if missed or self._memory.journal not in ("", journal):
                await self._look(after, journal)
                continue
            for event in events:
                self._take(event, journal)
            if not events or events[-1].number >= last:
                return

    def _take(self, event: OrderEvent, journal: str) -> None:
        if event.number <= (self._memory.event or 0):
            return
        if not self._memory.journal:
            self._memory.write_all([], journal=journal)
        self._books.take(event, self._terminal.owns(event.ticket.trade))

    async def _look(self, after: int, journal: str) -> None:
        """Events are missing: look at every order in their place."""
        log.error(
            "%s: the advisor no longer knows what happened after event %d%s; every order is "
            "looked at",
            self._address,
            after,
            "" if self._memory.journal in ("", journal) else ", it has lost its journal",
        )
        event = await self._looking.look()
        self._memory.write_all([], event=event, journal=journal)

    async def _refresh(self) -> None:
        """Bring all orders up to date, also those of which no event can tell."""
        if self._memory.event is None:
            await self._adopt()
        await self._sync()
        for record in self._books.working:
            if record.order.status in _IN_DOUBT:
                await self._settle(record)

    async def _adopt(self) -> None:
        """At the first start with a file: what is open is known from now on."""
        body = await self._working().request("events", 0)
        event = await self._looking.look()
        self._memory.write_all([], event=event, journal=fields.text(body, "journal"))

    # ---- what is in doubt

    async def _settle(self, record: Record) -> None:
        """What became of the last step of an order; the events before it are all taken."""
        if not record.operation:
            return
        body = await self._operations.give_up(record.operation)
        state = body.get("state")
        record = self._books.order(record.order.client_order_id) or record
        if state == "begun" or record.order.status.is_final:
            return
        if record.guard is not None:
            await self._levels.settle(record, record.guard)
            return
        if state == "done" and record.order.type is not OrderType.MARKET:
            return  # it works, and its events are told
        if state == "done" and not self._books.has_fill_of(record, fields.integer(body, "ticket")):
            return  # the terminal tells of what is closed some seconds later
        if not record.order.filled and await self._has_begun(record):
            return
        if record.order.filled:
            done = f"{record.order.filled:g} of {record.order.quantity:g} done"
            reason = f"stopped when the terminal did not answer: {done}"
            self._books.end(record, OrderStatus.CANCELED, reason)
        elif state == "refused":
            reason = f"the terminal refused: error {body.get('number')}"
            self._books.end(record, OrderStatus.REJECTED, reason)
        else:
            self._books.forget(record)

    async def _has_begun(self, record: Record) -> bool:
        """Whether a first step was done that was not told yet."""
        first = f"{record.order.client_order_id}{STEP}1"
        if record.operation == first:
            return False
        body = await self._operations.result(first)
        return body is not None and body.get("state") == "done"

    # ---- orders

    async def create_order(self, order: Order) -> Order:
        """As :meth:`TradeBase.create_order`. A market order may take several steps: when one is
        refused after others were done, the order ends as CANCELED with what is filled.
        """
        order = await self._checked(order)
        name = f"order {order.client_order_id}"
        async with self._turn:
            try:
                await self._sync()
                trades = await self._terminal.trades()
            except LiveTraderError as error:
                raise NotConnected(f"{name} was not sent: {error}") from error
            known = self._books.order(order.client_order_id)
            if known is not None and known.order.status is not OrderStatus.UNKNOWN:
                return known.order
            sent = order.but(status=OrderStatus.SUBMITTED, filled=0.0, average_price=0.0)
            await self._execution.execute(Record(sent), trades)
        done = self._books.order(order.client_order_id)
        return order.but(
            status=OrderStatus.ACCEPTED, order_id="" if done is None else done.order.order_id
        )

    async def _checked(self, order: Order) -> Order:
        """``order`` with its prices as the terminal has them."""
        name = f"order {order.client_order_id}"
        if order.type not in self.abilities.types:
            raise InvalidRequest(f"{name}: this terminal has no {order.type.value} orders")
        if not _LETTERS.issuperset(order.client_order_id):
            raise InvalidRequest(
                f"{name}: at MetaTrader 4 a client_order_id has letters, digits and . _ - : only"
            )
        contract = await self._terminal.contract(order.symbol)
        if abs(contract.round_quantity(order.quantity) - order.quantity) > 1e-9:
            raise OrderRejected(
                f"{name}: quantity {order.quantity:g} is not a number of lots in steps of "
                f"{contract.quantity_step:g}"
            )
        tick = contract.price_tick
        for field in ("price", "stop_price"):
            value = getattr(order, field)
            # The terminal would take it, at another price.
            if abs(contract.round_price(value) - value) > tick * 1e-6:
                raise OrderRejected(
                    f"{name}: {field} {value:g} is no price of {order.symbol}: its tick is {tick:g}"
                )
            order = order.but(**{field: contract.round_price(value)})
        return order

    # ---- changing and canceling

    async def modify_order(
        self,
        client_order_id: str,
        quantity: float | None = None,
        price: float | None = None,
        stop_price: float | None = None,
    ) -> Order:
        """As :meth:`TradeBase.modify_order`; the lots of an order cannot be changed."""
        name = f"order {client_order_id}"
        async with self._turn:
            await self._sync()
            record = self._at_work(client_order_id, "modified")
            order = record.order
            if quantity is not None and quantity != order.quantity:
                raise InvalidRequest(
                    f"{name}: MetaTrader 4 cannot change the lots of an order; cancel and order "
                    "anew"
                )
            field = "stop_price" if order.type is OrderType.STOP else "price"
            asked = {"price": price, "stop_price": stop_price}
            level = asked.pop(field)
            if any(value for value in asked.values()):
                raise InvalidRequest(f"{name}: a {order.type.value} order has {field} only")
            if level is None:
                return order
            level = getattr(await self._checked(order.but(**{field: level})), field)
            if record.guard is not None:
                await self._levels.move(record, record.guard, level)
            else:
                await self._reprice(record, level)
            await self._sync()
            return (self._books.order(client_order_id) or record).order

    async def _reprice(self, record: Record, price: float) -> None:
        """Change the price of a pending order, and nothing else of its ticket."""
        _, tickets = await self._terminal.tickets()
        for ticket in tickets:
            trade = ticket.trade
            if trade.ticket == record.ticket:
                levels = (trade.stop_loss, trade.take_profit)
                until = ticket.expiration // 1000
                await self._steps.change(record, trade.ticket, price, *levels, until)
                return
        name = f"order {record.order.client_order_id}"
        raise OrderRejected(f"{name}: it cannot be modified, it works no longer")

    def _at_work(self, client_order_id: str, wish: str) -> Record:
        """The record of an order that works. Raises OrderRejected."""
        record = self._books.order(client_order_id)
        works = record is not None and (record.ticket or record.guard is not None)
        if record is None or not works or record.order.status.is_final:
            state = "unknown here" if record is None else record.order.status.value
            raise OrderRejected(f"order {client_order_id}: it cannot be {wish}, it is {state}")
        return record

    async def cancel_order(self, client_order_id: str) -> None:
        """As :meth:`TradeBase.cancel_order`."""
        async with self._turn:
            await self._sync()
            record = self._at_work(client_order_id, "canceled")
            if record.guard is not None:
                await self._levels.take_away(record, record.guard)
                return
            await self._steps.delete(record)
            await self._sync()

    async def close_hedged(self) -> None:
        """As :meth:`TradeBase.close_hedged`, by market orders, which costs the spread."""
        async with self._turn:
            while pair := hedged_pair(list((await self._terminal.trades()).values())):
                lots = min(one.lots for one in pair)
                log.warning("%g lots of %s are closed on both sides", lots, pair[0].name)
                if not await self._close_pair(pair, lots):
                    break
            await self._sync()

    async def _close_pair(self, pair: Sequence[Trade], lots: float) -> bool:
        """Close ``lots`` of both; whether that was done. What is left of one is a net position."""
        for one in pair:
            operation = f"hedge{STEP}{secrets.token_hex(8)}"
            name = f"ticket {one.ticket}"
            arguments = (one.ticket, lots, self._slippage)
            try:
                await self._operations.do(name, "close", operation, *arguments)
            except OrderRejected as error:
                log.error("%s", error)
                return False
        return True

    # ---- what there is

    async def fetch_order(self, client_order_id: str) -> Order | None:
        """As :meth:`TradeBase.fetch_order`."""
        async with self._turn:
            await self._sync()
            record = self._books.order(client_order_id)
            if record is None:
                await self._find(client_order_id)
            elif record.order.status in _IN_DOUBT:
                await self._settle(record)
        record = self._books.order(client_order_id)
        if record is None or record.order.status is OrderStatus.UNKNOWN:
            return None
        return record.order

    async def _find(self, client_order_id: str) -> None:
        """An order that is in no record, for the file was lost: the advisor may know its name."""
        if not _LETTERS.issuperset(client_order_id):
            return
        body = await self._operations.result(client_order_id)
        if body is None or body.get("state") != "done":
            return
        found = await self._terminal.ticket(fields.integer(body, "ticket", 1))
        if found is not None and found[0].trade.client_order_id == client_order_id:
            self._books.adopt(found[0])

    async def fetch_open_orders(self) -> list[Order]:
        """Pending orders of the whole account; those of others are called ``mt4:`` and ticket.

        Our levels of tickets are among them.
        """
        async with self._turn:
            await self._sync()
            _, tickets = await self._terminal.tickets()
        ours = {r.ticket: r.order for r in self._books.working if r.guard is None and r.ticket}
        pending = [ticket.trade for ticket in tickets if ticket.trade.pending]
        found = [ours.get(trade.ticket) or self._books.found(trade) for trade in pending]
        return found + [r.order for r in self._books.working if r.guard is not None]

    async def fetch_fills(self, since: int = 0) -> list[Fill]:
        """As :meth:`TradeBase.fetch_fills`; what was closed by others is not among them."""
        async with self._turn:
            await self._sync()
        found = [fill for fill in self._memory.fills.values() if fill.datetime >= since]
        return sorted(found, key=lambda fill: fill.datetime)

    async def fetch_positions(self) -> list[Position]:
        """What we hold, net by symbol, at the average price of the side that is left."""
        async with self._turn:
            await self._sync()
            trades = await self._terminal.trades()
        return net_positions(list(trades.values()), self._terminal.symbol)

    async def fetch_balance(self) -> list[Balance]:
        """The account, with all that is in it."""
        line = self._working()
        body = await line.request("account")
        return [
            Balance(
                self.account_id,
                fields.text(body, "currency"),
                fields.number(body, "balance"),
                fields.number(body, "margin"),
                fields.number(body, "free_margin"),
                fields.number(body, "equity"),
            )
        ]

    async def diagnose(self) -> list[Finding]:
        """Whether orders may be sent, and what the advisor's inputs allow."""
        line = self._working()
        greeting, beat = line.greeting, line.beat
        kind = "a demo account" if greeting.demo else "an account with REAL MONEY"
        found = [Finding("kind of account", Verdict.OK, f"{kind} at {greeting.server}")]
        if greeting.read_only:
            advice = "set its input ReadOnly to false"
            found.append(Finding("trading", Verdict.FAILED, "the advisor is read only", advice))
        elif not beat.trade_allowed:
            advice = "switch on AutoTrading, allow live trading in the advisor's settings, log in"
            found.append(Finding("trading", Verdict.FAILED, "orders are not allowed now", advice))
        else:
            found.append(Finding("trading", Verdict.OK, "orders are allowed"))
        limits = f"orders of up to {greeting.max_lots:g} lots, {greeting.max_orders} at once"
        told = f"{limits}; ours carry the magic number {greeting.magic}"
        return [*found, Finding("limits", Verdict.OK, told, "inputs of the advisor")]


def _slippage(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10_000:
        raise ConfigError(f"slippage: must be points from 0 to 10000, not {value!r}")
    return value
