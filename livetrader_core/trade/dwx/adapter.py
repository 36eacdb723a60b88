"""DwxTrade: orders at a MetaTrader 4 terminal with the DWX expert advisor v2.0.1."""

from __future__ import annotations

import asyncio
import logging
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
    OutcomeUnknown,
    Unavailable,
    UnknownSymbol,
)
from livetrader_core.market.dwx.hub import hub_of
from livetrader_core.market.dwx.line import Accept, Address, Line
from livetrader_core.market.dwx.messages import ACCOUNT_INFO, answers
from livetrader_core.market.dwx.replies import Reply
from livetrader_core.market.metatrader import settings
from livetrader_core.market.metatrader.servertime import EET_US, server_time
from livetrader_core.market.specs import default_contract
from livetrader_core.models import (
    Balance,
    Fill,
    Order,
    OrderStatus,
    OrderType,
    Position,
    market_of,
)
from livetrader_core.trade.base import Abilities
from livetrader_core.trade.dwx import messages
from livetrader_core.trade.dwx.books import OrderBooks, Trades
from livetrader_core.trade.dwx.messages import Account
from livetrader_core.trade.metatrader.account_line import AccountLine, Patience
from livetrader_core.trade.metatrader.guards import Guard, Guarded, guard_of, points_of
from livetrader_core.trade.metatrader.memory import Memory, Record, Step
from livetrader_core.trade.metatrader.positions import (
    hedged_pair,
    net_positions,
    opposing,
    symbol_of,
)
from livetrader_core.trade.metatrader.trades import Trade

log = logging.getLogger(__name__)


class DwxTrade(AccountLine[Line]):
    """Orders at a MetaTrader 4 terminal, through the published DWX v2.0.1 advisor.

    ``host``, the three ports, ``time_zone``, ``suffix``, ``markets``, ``timeout``,
    ``connect_timeout``, ``retry``, ``longest_retry`` and ``clock`` are as in DwxMarket, with which
    it shares its connection if both are in one event loop. In two processes they must not point at
    one advisor: it deals its replies out to all who connect.

    ``magic`` marks what is ours: other orders and positions of the account are left alone, and are
    no part of :meth:`fetch_positions`. ``currency`` is the account's, which the advisor does not
    tell. ``poll_every``: seconds between two looks at the open trades while there are orders; the
    advisor tells of no fill by itself. ``state`` is the file in which is written what the terminal
    does not remember, the closes; by default one in the user's own folder, for each host and port.

    Quantities are lots. The account is a hedging one: a market order closes positions of the other
    side first, the oldest before the others, and opens what is left. A limit or stop order that
    closes positions, with their number of lots, is set on them as take-profit or stop-loss. Needs a
    build of the advisor that knows GET_ACCOUNT_INFO; its inputs MaximumOrders and MaximumLotSize
    must be raised from 1 and 0.01. Raises ConfigError naming the setting at fault.
    """

    abilities = Abilities(frozenset({OrderType.MARKET, OrderType.LIMIT, OrderType.STOP}))

    def __init__(
        self,
        host: str = "127.0.0.1",
        push_port: int = 32768,
        pull_port: int = 32769,
        sub_port: int = 32770,
        time_zone: str = EET_US,
        suffix: str = "",
        markets: Sequence[str] = ("FOREX",),
        magic: int = 77_201,
        currency: str = "USD",
        state: str | Path | None = None,
        poll_every: float = 0.5,
        timeout: float = 10.0,
        connect_timeout: float = 5.0,
        retry: float = 1.0,
        longest_retry: float = 30.0,
        clock: Clock | str | None = None,
    ) -> None:
        ports = {"push_port": push_port, "pull_port": pull_port, "sub_port": sub_port}
        self._address = Address(
            settings.host(host), *(settings.port(*item) for item in ports.items())
        )
        self._zone = server_time(time_zone)
        self.markets = settings.markets(markets)
        self._suffix = settings.suffix(suffix)
        self._magic = _magic(magic)
        self._currency = _currency(currency)
        self._poll_every = settings.seconds("poll_every", poll_every)
        folder = user_folder("XDG_STATE_HOME", ".local/state")
        own = folder / f"dwx-{self._address.host}-{push_port}.sqlite"
        super().__init__(
            str(self._address),
            lambda: hub_of(self._address),
            lambda frame: None,
            Memory(own if state is None else Path(state)),
            Patience.of(timeout, connect_timeout, retry, longest_retry),
            parse_clock(clock),
        )
        self._books = OrderBooks(
            self._memory,
            self._magic,
            self._currency,
            self._symbol,
            self._zone.moment,
            self._clock.now,
            self._events.put,
        )

    # ---- the line

    async def _account_on(self, line: Line) -> str:
        return (await self._asked_account(line)).number

    async def _catch_up(self, anew: bool) -> None:
        if anew or self._books.busy:
            await self._refresh()

    async def _rest(self) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), self._poll_every)
        except asyncio.TimeoutError:
            return

    # ---- asking

    async def _ask(self, command: str, accept: Accept, line: Line | None = None) -> Reply:
        """The answer to a command that changes nothing. Raises Unavailable, ProtocolError."""
        reply = await (line or self._working()).request(command, accept)
        if reply is None:
            name = command.split(";")[1]
            raise Unavailable(
                f"{self._address}: {name} was not answered; a build of the expert advisor that "
                "does not know it cannot be traded with: install v2.0.1 RC8"
            )
        return reply

    async def _account(self) -> Account:
        account = await self._asked_account(self._working())
        self._check_account(account.number)
        return account

    async def _asked_account(self, line: Line) -> Account:
        if not line.empty_frames:
            raise Unavailable(
                f"{self._address}: this build of the expert advisor does not tell the account; "
                "install v2.0.1 RC8 for trading"
            )
        return messages.read_account(
            await self._ask(ACCOUNT_INFO, answers("GET_ACCOUNT_INFORMATION"), line)
        )

    async def _trades(self) -> Trades:
        return messages.read_trades(await self._ask(messages.OPEN_TRADES, answers("OPEN_TRADES")))

    async def _look(self) -> tuple[Account, Trades]:
        # The trades last: that selects the oldest order, on which CLOSE_PARTIAL depends.
        return await self._account(), await self._trades()

    async def _refresh(self) -> Trades:
        """What is open now, with all orders brought up to date."""
        account, trades = await self._look()
        if self._books.misses(trades):
            account, trades = await self._settled(account, trades)
        self._books.compare(trades, account)
        return trades

    async def _settled(self, account: Account, trades: Trades) -> tuple[Account, Trades]:
        """Balance and trades of one moment: the one tells what became of the others."""
        while True:
            balance, open_before = account.balance, trades.keys()
            account, trades = await self._look()
            if account.balance == balance and trades.keys() == open_before:
                return account, trades

    async def _do(self, command: str, accept: Accept, name: str) -> Reply:
        """Send what changes something, once. Raises OrderRejected, OutcomeUnknown, NotConnected."""
        line = self._working()
        try:
            reply = await line.request(command, accept)
        except LiveTraderError as error:
            if type(error) is Unavailable and line.lost is None:
                raise OrderRejected(f"{name}: {error}") from error
            raise OutcomeUnknown(f"{name}: not known whether it was done: {error}") from error
        if reply is None:
            raise OutcomeUnknown(f"{name}: the terminal gave no answer")
        return reply

    # ---- orders

    async def create_order(self, order: Order) -> Order:
        """As :meth:`TradeBase.create_order`. A market order may take several steps: when one is
        refused after others were done, the order ends as CANCELED with what is filled.
        """
        self._check(order)
        async with self._turn:
            try:
                trades = await self._refresh()
            except LiveTraderError as error:
                raise NotConnected(
                    f"order {order.client_order_id} was not sent: {error}"
                ) from error
            known = self._books.order(order.client_order_id)
            if known is not None and known.order.status is not OrderStatus.UNKNOWN:
                return known.order
            sent = order.but(status=OrderStatus.SUBMITTED, filled=0.0, average_price=0.0)
            await self._execute(sent, trades)
        done = self._books.order(order.client_order_id)
        return order.but(
            status=OrderStatus.ACCEPTED, order_id="" if done is None else done.order.order_id
        )

    def _check(self, order: Order) -> None:
        market = market_of(order.symbol)
        if market not in self.markets:
            raise UnknownSymbol(f"{order.symbol}: this terminal trades {', '.join(self.markets)}")
        contract = default_contract(order.symbol)
        name = f"order {order.client_order_id}"
        if order.type not in self.abilities.types:
            raise InvalidRequest(f"{name}: this terminal has no {order.type.value} orders")
        if "'" in order.client_order_id:
            raise InvalidRequest(f"{name}: a client_order_id must not hold a ' at MetaTrader 4")
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

    async def _execute(self, order: Order, trades: Trades) -> None:
        """Do all steps of ``order``. Raises OrderRejected if nothing was done, OutcomeUnknown."""
        guard = guard_of(order, self._opposing(order, trades))
        if guard is not None:
            await self._guard_step(order, guard, trades)
            return
        record = Record(order)
        while True:
            left = round(order.quantity - record.order.filled, 8)
            target = self._target(order, trades)
            try:
                record = await self._close_step(record, target, left, trades)
            except OrderRejected as error:
                self._refused(record, str(error))
                return
            if record.order.status is not OrderStatus.PARTIALLY_FILLED:
                return
            trades = await self._after(record)

    async def _after(self, record: Record) -> Trades:
        try:
            trades = await self._trades()
        except LiveTraderError as error:
            name = f"order {record.order.client_order_id}"
            raise OutcomeUnknown(f"{name}: stopped after a part of it: {error}") from error
        # An order that was filled meanwhile may be closed next, and is not seen again then.
        self._books.look(trades)
        return trades

    def _target(self, order: Order, trades: Trades) -> Trade | None:
        if order.type is not OrderType.MARKET:
            return None
        found = self._opposing(order, trades)
        return found[0] if found else None

    def _opposing(self, order: Order, trades: Trades) -> list[Trade]:
        ours = [trade for trade in trades.values() if self._books.ours(trade)]
        return opposing(ours, self._name(order.symbol), order.side)

    async def _guard_step(self, order: Order, guard: Guard, trades: Trades) -> None:
        """Set ``order`` as a level of the positions that it closes: of all of them, or of none."""
        record = self._books.guard(order, guard)
        done: list[Guarded] = []
        try:
            for one in guard.tickets:
                await self._set_level(order, trades[one.ticket], guard, guard.level)
                done.append(one)
        except OrderRejected as error:
            for one in done:
                await self._set_level(order, await self._seen(one.ticket), guard, 0.0)
            self._refused(record, str(error))
        self._books.guards(order, guard)

    async def _seen(self, ticket: int) -> Trade:
        trade = (await self._trades()).get(ticket)
        if trade is None:
            raise OutcomeUnknown(f"ticket {ticket} was closed while its level was set")
        return trade

    async def _set_level(self, order: Order, trade: Trade, guard: Guard, level: float) -> None:
        """Raises OrderRejected, OutcomeUnknown, NotConnected."""
        name = f"order {order.client_order_id}"
        tick = default_contract(order.symbol).price_tick
        command = messages.modify(trade.ticket, *points_of(trade, guard.gain, level, tick))
        reply = await self._do(command, messages.answers_modify, name)
        reason, certain = messages.refusal(reply)
        if reason and not certain:
            raise OutcomeUnknown(f"{name}: {reason}")
        if reason:
            raise OrderRejected(f"{name}: {reason}")

    async def _close_step(
        self, record: Record, target: Trade | None, left: float, trades: Trades
    ) -> Record:
        """Close ``target`` as far as ``left`` lots go; without one, or where it can't, open."""
        order = record.order
        if target is None or (left < target.lots and not await self._can_part(trades)):
            return await self._open_step(order, left)
        sign = target.side.sign
        account = await self._before(order)
        step = Step(target.lots, account.balance, target.ticket, target.price, sign)
        record = self._books.begin(order, step)
        part = left if left < target.lots else 0.0
        command = messages.close(target.ticket, part)
        name = f"order {order.client_order_id}"
        accept = messages.answers_close(target.ticket)
        reply = await self._do(command, accept, name)
        return await self._verify(record, messages.close_price(reply), "its close failed")

    async def _open_step(self, order: Order, lots: float) -> Record:
        name = f"order {order.client_order_id}"
        record = self._books.begin(order, Step(lots, 0.0))
        code = self._name(order.symbol)
        command = messages.open_order(order, code, lots, self._magic)
        reply = await self._do(command, messages.answers_open(code, self._magic), name)
        reason, certain = messages.refusal(reply)
        if reason and not certain:
            raise OutcomeUnknown(f"{name}: {reason}")
        if reason:
            raise OrderRejected(f"{name}: {reason}")
        return await self._verify(record, 0.0, "it is not among the open trades")

    async def _before(self, order: Order) -> Account:
        try:
            return await self._account()
        except LiveTraderError as error:
            if order.filled:
                raise OrderRejected(str(error)) from error
            raise NotConnected(f"order {order.client_order_id} was not sent: {error}") from error

    async def _verify(self, record: Record, asked: float, failure: str) -> Record:
        """See whether the step was done, for what the advisor says may not be true."""
        name = f"order {record.order.client_order_id}"
        before = record.order.filled
        try:
            account, trades = await self._look()
        except LiveTraderError as error:
            raise OutcomeUnknown(f"{name}: what became of it could not be seen: {error}") from error
        after = self._books.take(record, trades, account, asked)
        if after.order.filled == before and not after.ticket:
            raise OrderRejected(
                f"{name}: {failure}, whatever the expert advisor answered (market closed, requote "
                "or stops: see the terminal's journal)"
            )
        return after

    def _refused(self, record: Record, reason: str) -> None:
        """End an order at its first refusal. Raises OrderRejected if nothing of it was done."""
        if record.order.filled:
            self._books.end(record, OrderStatus.CANCELED, reason)
            return
        self._books.end(record, OrderStatus.REJECTED, reason)
        raise OrderRejected(reason)

    async def _can_part(self, trades: Trades) -> bool:
        """Whether CLOSE_PARTIAL works now: it does nothing while a pending order is selected."""
        listed = list(trades.values())
        if not listed[0].pending:
            return True  # GET_OPEN_TRADES selected it
        if listed[-1].pending:
            return False
        # Looking for a ticket that is not there selects the newest.
        await self._ask(messages.close(0), messages.answers_close(0))
        return True

    async def cancel_order(self, client_order_id: str) -> None:
        """As :meth:`TradeBase.cancel_order`.

        The advisor deletes and closes by the same command: an order that is filled in the moment
        of its cancel is closed again, which counts as canceled and is logged.
        """
        name = f"order {client_order_id}"
        async with self._turn:
            await self._refresh()
            record = self._books.order(client_order_id)
            works = record is not None and (record.ticket or record.guard is not None)
            if record is None or not works or record.order.status.is_final:
                state = "unknown here" if record is None else record.order.status.value
                raise OrderRejected(f"{name}: it cannot be canceled, it is {state}")
            if record.guard is not None:
                await self._take_away(record, record.guard)
                return
            accept = messages.answers_close(record.ticket)
            reply = await self._do(messages.close(record.ticket), accept, f"cancel of {name}")
            _, trades = await self._look()
            if record.ticket in trades:
                raise OrderRejected(f"{name}: the terminal did not delete it; it still works")
            reason = ""
            if price := messages.close_price(reply):
                reason = f"filled in the moment of its cancel, and closed at once at {price:g}"
                log.error("%s: %s", name, reason)
            self._books.end(record, OrderStatus.CANCELED, reason)

    async def _take_away(self, record: Record, guard: Guard) -> None:
        for one in guard.tickets:
            await self._set_level(record.order, await self._seen(one.ticket), guard, 0.0)
        self._books.end(record, OrderStatus.CANCELED, "")

    # ---- what there is

    async def fetch_order(self, client_order_id: str) -> Order | None:
        """As :meth:`TradeBase.fetch_order`."""
        async with self._turn:
            await self._refresh()
        record = self._books.order(client_order_id)
        if record is None or record.order.status is OrderStatus.UNKNOWN:
            return None
        return record.order

    async def fetch_open_orders(self) -> list[Order]:
        """Pending orders of the whole account; those of others are called ``mt4:`` and ticket.

        Our levels of tickets are among them.
        """
        async with self._turn:
            trades = await self._refresh()
        pending = [self._working_order(trade) for trade in trades.values() if trade.pending]
        guards = [record.order for record in self._memory.records.values() if record.guard]
        return pending + [order for order in guards if not order.status.is_final]

    def _working_order(self, trade: Trade) -> Order:
        for record in self._memory.records.values():
            if record.ticket == trade.ticket:
                return record.order
        return self._books.found(trade)

    async def fetch_fills(self, since: int = 0) -> list[Fill]:
        """As :meth:`TradeBase.fetch_fills`; what was closed by others is not among them."""
        async with self._turn:
            await self._refresh()
        found = [fill for fill in self._memory.fills.values() if fill.datetime >= since]
        return sorted(found, key=lambda fill: fill.datetime)

    async def fetch_positions(self) -> list[Position]:
        """What we hold, net by symbol, at the average price of the side that is left."""
        async with self._turn:
            trades = await self._refresh()
        return net_positions(
            [trade for trade in trades.values() if self._books.ours(trade)], self._symbol
        )

    async def fetch_balance(self) -> list[Balance]:
        """The account, with all that is in it."""
        async with self._turn:
            account = await self._account()
        margin = round(account.equity - account.free_margin, 2)
        return [
            Balance(
                account.number,
                self._currency,
                account.balance,
                margin,
                account.free_margin,
                account.equity,
            )
        ]

    async def close_hedged(self) -> None:
        """As :meth:`TradeBase.close_hedged`, by market orders, which costs the spread."""
        async with self._turn:
            trades = await self._refresh()
            while pair := hedged_pair([t for t in trades.values() if self._books.ours(t)]):
                await self._close_pair(*pair, trades)
                before, trades = trades, await self._refresh()
                if before.keys() == trades.keys():
                    raise Unavailable(
                        f"{self._address}: {pair[0].ticket} and {pair[1].ticket} could not be "
                        "closed; see the terminal's journal"
                    )

    async def _close_pair(self, one: Trade, other: Trade, trades: Trades) -> None:
        lots = min(one.lots, other.lots)
        log.warning("%g lots of %s are closed on both sides", lots, one.name)
        for trade in sorted((one, other), key=lambda trade: -trade.lots):
            part = lots if lots < trade.lots and await self._can_part(trades) else 0.0
            if lots < trade.lots and not part:
                raise Unavailable(
                    f"{trade.ticket}: a part cannot be closed now; cancel orders first"
                )
            command = messages.close(trade.ticket, part)
            await self._do(command, messages.answers_close(trade.ticket), f"ticket {trade.ticket}")
            trades = await self._trades()

    # ---- symbols

    def _name(self, symbol: str) -> str:
        return symbol[len(market_of(symbol)) + 1 :] + self._suffix

    def _symbol(self, name: str) -> str:
        return symbol_of(name, self.markets, self._suffix)


def _magic(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise ConfigError(f"magic: must be a number from 1 to 2147483647, not {value!r}")
    return value


def _currency(value: object) -> str:
    if not isinstance(value, str) or not (len(value) == 3 and value.isalpha() and value.isupper()):
        raise ConfigError(f"currency: must be the account's, such as USD, not {value!r}")
    return value
