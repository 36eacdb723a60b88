"""How an order is done at a hedging account: in which steps, and how it ends when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace

from livetrader_core.errors import LiveTraderError, NotConnected, OrderRejected
from livetrader_core.market.mt4.refusal import refusal_of
from livetrader_core.models import Order, OrderStatus, OrderType, Side
from livetrader_core.trade.metatrader.guards import guard_of
from livetrader_core.trade.metatrader.memory import Record
from livetrader_core.trade.metatrader.positions import opposing
from livetrader_core.trade.metatrader.trades import Trade
from livetrader_core.trade.mt4.books import STEP, OrderBooks
from livetrader_core.trade.mt4.levels import Levels
from livetrader_core.trade.mt4.messages import at_market, type_of
from livetrader_core.trade.mt4.operations import PASSING
from livetrader_core.trade.mt4.steps import Steps
from livetrader_core.trade.mt4.terminal import Terminal

#: How often a limit order is tried at a market whose price changes while it is sent.
_ATTEMPTS = 4


class _Stopped(Exception):
    """A step failed after others were done."""


class Execution:
    """``slippage`` is what market orders take, in points; ``pause``: seconds between attempts."""

    def __init__(
        self,
        terminal: Terminal,
        books: OrderBooks,
        steps: Steps,
        levels: Levels,
        slippage: int,
        pause: float,
    ) -> None:
        self._terminal = terminal
        self._books = books
        self._steps = steps
        self._levels = levels
        self._slippage = slippage
        self._pause = pause

    async def execute(self, record: Record, trades: Mapping[int, Trade]) -> None:
        """Do all steps of an order; ``trades`` are ours now.

        Raises OrderRejected if nothing was done, NotConnected if a step was not sent,
        OutcomeUnknown.
        """
        order = record.order
        against = opposing(trades.values(), self._terminal.name(order.symbol), order.side)
        guard = guard_of(order, against)
        try:
            if guard is not None:
                await self._levels.place(replace(record, guard=guard), guard, trades)
            elif order.type is OrderType.MARKET:
                await self._trade_at_market(record, against)
            elif order.type is OrderType.LIMIT:
                await self._place_limit(record)
            else:
                await self._send(record, type_of(order), order.quantity, order.stop_price)
        except OrderRejected as error:
            now = self._books.order(order.client_order_id) or record
            self._books.end(now, OrderStatus.REJECTED, str(error))
            raise
        except NotConnected:
            self._books.forget(self._books.order(order.client_order_id) or record)
            raise
        except _Stopped as error:
            now = self._books.order(order.client_order_id) or record
            self._books.end(now, OrderStatus.CANCELED, str(error))

    async def _trade_at_market(self, record: Record, against: Sequence[Trade]) -> None:
        """Close what stands against it, oldest first, and open the rest."""
        order = record.order
        left = order.quantity
        for number, trade in enumerate(against, 1):
            lots = min(left, trade.lots)
            operation = f"{order.client_order_id}{STEP}{number}"
            step = self._steps.do(record, "close", operation, trade.ticket, lots, self._slippage)
            await _begun(step, number > 1)
            record = self._books.order(order.client_order_id) or record
            # Not by the fills: the terminal may tell of a closed position some seconds later.
            left = round(left - lots, 8)
            if left <= 0:
                return
        step = self._send(record, at_market(order.side), left, 0.0, self._slippage)
        await _begun(step, bool(against))

    async def _place_limit(self, record: Record) -> None:
        """At the market as long as that is at its price or better, else as a pending order."""
        order = record.order
        for attempt in range(1, _ATTEMPTS + 1):
            if not await self._is_marketable(order):
                break
            try:
                kind = at_market(order.side)
                await self._send(record, kind, order.quantity, order.price, 0, again=False)
                return
            except OrderRejected as error:
                refusal = refusal_of(error)
                passing = refusal is not None and refusal.number in PASSING
                if not passing or attempt == _ATTEMPTS:
                    raise
            await asyncio.sleep(self._pause)
        await self._send(record, type_of(order), order.quantity, order.price)

    async def _is_marketable(self, order: Order) -> bool:
        try:
            quote = await self._terminal.quote(order.symbol)
        except LiveTraderError as error:
            raise NotConnected(f"order {order.client_order_id} was not sent: {error}") from error
        if order.side is Side.BUY:
            return quote.ask <= order.price
        return quote.bid >= order.price

    async def _send(
        self,
        record: Record,
        kind: str,
        lots: float,
        price: float,
        slippage: int = 0,
        again: bool = True,
    ) -> None:
        order = record.order
        arguments = (self._terminal.name(order.symbol), kind, lots, price, 0, 0, slippage, 0)
        await self._steps.do(record, "order", order.client_order_id, *arguments, again=again)


async def _begun(step: Awaitable[None], begun: bool) -> None:
    """Take a step; once an order is ``begun``, what is against it stops the order."""
    try:
        await step
    except (OrderRejected, NotConnected) as error:
        if begun:
            raise _Stopped(str(error)) from error
        raise
