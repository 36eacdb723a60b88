"""How an order is done at a hedging account: in which steps, and how it ends when one fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class Execution:
    """``slippage`` is what market orders take, in points."""

    def __init__(
        self, terminal: Terminal, books: OrderBooks, steps: Steps, levels: Levels, slippage: int
    ) -> None:
        self._terminal = terminal
        self._books = books
        self._steps = steps
        self._levels = levels
        self._slippage = slippage

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
            self._refused(record, str(error))
        except NotConnected:
            self._not_sent(record)
            raise

    async def _trade_at_market(self, record: Record, against: Sequence[Trade]) -> None:
        """Close what stands against it, oldest first, and open the rest."""
        order = record.order
        left = order.quantity
        for number, trade in enumerate(against, 1):
            lots = min(left, trade.lots)
            operation = f"{order.client_order_id}{STEP}{number}"
            await self._steps.do(record, "close", operation, trade.ticket, lots, self._slippage)
            record = self._books.order(order.client_order_id) or record
            # Not by the fills: the terminal may tell of a closed position some seconds later.
            left = round(left - lots, 8)
            if left <= 0:
                return
        await self._send(record, at_market(order.side), left, 0.0, self._slippage)

    async def _place_limit(self, record: Record) -> None:
        """At the market as long as that is at its price or better, else as a pending order."""
        order = record.order
        while await self._is_marketable(order):
            try:
                kind = at_market(order.side)
                await self._send(record, kind, order.quantity, order.price, 0, again=False)
                return
            except OrderRejected as error:
                refusal = refusal_of(error)
                if refusal is None or refusal.number not in PASSING:
                    raise
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

    # ---- when a step fails

    def _refused(self, record: Record, reason: str) -> None:
        """End an order at its first refusal. Raises OrderRejected if nothing of it was done."""
        now = self._books.order(record.order.client_order_id) or record
        if now.order.filled:
            self._books.end(now, OrderStatus.CANCELED, reason)
            return
        self._books.end(now, OrderStatus.REJECTED, reason)
        raise OrderRejected(reason)

    def _not_sent(self, record: Record) -> None:
        """A step did not leave: what was done before stands, and the rest is not done later."""
        now = self._books.order(record.order.client_order_id) or record
        if now.order.filled:
            self._books.end(now, OrderStatus.CANCELED, "the line was lost before its next step")
        else:
            self._books.forget(now)
