"""What happens in the thread of a TqApi that trades: orders out, changes of its books back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from livetrader_core.market.tq.library import LINE_DOWN, LINE_NOTICES, LINE_UP
from livetrader_core.market.tq.line import Line
from livetrader_core.market.tq.worker import News, Worker
from livetrader_core.trade.tq.books import (
    Books,
    VenueOrder,
    holding_of,
    money_of,
    number,
    order_of,
    trade_of,
)

log = logging.getLogger(__name__)

#: The connections to the quotes and to the trading server, as the vendor calls them.
_QUOTES, _TRADING = "md", "td_0"


class Request(NamedTuple):
    """An order to be sent; ``price`` None is a market order, ``advanced`` None, FAK or FOK."""

    order_id: str
    symbol: str
    direction: str
    offset: str
    volume: int
    price: float | None
    advanced: str | None


class TradeWorker(Worker):
    """A Worker that also tells what changes in the account's books."""

    connections = (_QUOTES, _TRADING)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._down: set[str] = set()
        self._changed = False
        self._told = Books()
        self._over: set[str] = set()

    def _watch(self) -> None:
        self._begin(self._watch_books())

    async def _watch_books(self) -> None:
        api = self._api
        tree = [api.get_order(), api.get_trade(), api.get_position(), api.get_account()]
        async with api.register_update_notify(tree) as updates:
            async for _ in updates:
                self._changed = True
                self._touch()

    def _on_notice(self, notice: Mapping[str, Any]) -> None:
        code, connection = notice.get("code"), str(notice.get("conn_id", ""))
        if code not in LINE_NOTICES:
            log.info("tqsdk: %s", notice.get("content", ""))
        elif code == LINE_DOWN:
            self._down.add(connection)
        elif code in LINE_UP:
            self._down.discard(connection)
        super()._on_notice(notice)

    # ---- commands

    async def sync(self) -> None:
        """Tell everything that has changed before the answer to this."""
        self._changed = True

    async def insert(self, requests: Sequence[Request]) -> bool:
        """Send orders of one symbol; False if the line is down: then none of them left."""
        await self.follow_quote(requests[0].symbol)
        if self._down:
            return False
        for one in requests:
            # tqsdk would keep what is sent while the line is down, and send it before it logs in.
            self._api.insert_order(
                one.symbol,
                one.direction,
                one.offset,
                one.volume,
                one.price,
                one.advanced,
                order_id=one.order_id,
            )
        await self._let_go()
        return True

    async def cancel(self, order_ids: Sequence[str]) -> bool:
        """Ask to cancel; False if the line is down: then nothing left."""
        if self._down:
            return False
        for order_id in order_ids:
            self._api.cancel_order(order_id)
        await self._let_go()
        return True

    async def _let_go(self) -> None:
        """Return when what was sent is on its way out of tqsdk."""
        for _ in range(3):
            await asyncio.sleep(0)

    async def band(self, symbol: str) -> tuple[float, float]:
        """Lowest and highest price of an order at present."""
        await self.follow_quote(symbol)
        quote = self._quotes[symbol]
        async with self._api.register_update_notify(quote) as updates:
            while not (quote.lower_limit > 0 and quote.upper_limit > 0):
                await updates.recv()
        return number(quote.lower_limit), number(quote.upper_limit)

    # ---- news

    def _add(self, news: News) -> None:
        if self._changed:
            self._changed = False
            news.books = self._news_of_books()

    def _news_of_books(self) -> Books:
        api, found = self._api, Books()
        for order_id, entry in _entries(api.get_order()):
            if order_id not in self._over and (order := order_of(entry)) and _confirmed(order):
                found.orders[order_id] = order
        for key, entry in _entries(api.get_trade()):
            if key not in self._told.trades:
                self._told.trades[key] = found.trades[key] = trade_of(key, entry)
        for symbol, entry in _entries(api.get_position()):
            found.holdings[symbol] = holding_of(symbol, entry)
        found.money = money_of(api.get_account())
        # Nothing more happens to these.
        self._over |= {key for key, order in found.orders.items() if order.finished}
        return found


def _confirmed(order: VenueOrder) -> bool:
    """Whether the venue knows the order; tqsdk shows it from the moment it was to be sent."""
    return order.answered or bool(order.message) or order.inserted > 0


def _entries(tree: Any) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in tree.items() if not key.startswith("_")]


class TradeLine(Line):
    """A Line to a TqApi that trades."""

    worker = TradeWorker

    async def _do(self, name: str, *arguments: Any) -> Any:
        def work(worker: Worker) -> Any:
            return getattr(cast(TradeWorker, worker), name)(*arguments)

        return await self._ask(work)

    async def sync(self) -> None:
        """As :meth:`TradeWorker.sync`. Raises NotConnected."""
        await self._do("sync")

    async def insert(self, requests: Sequence[Request]) -> bool:
        """As :meth:`TradeWorker.insert`. Raises NotConnected, which leaves it open."""
        return bool(await self._do("insert", requests))

    async def cancel(self, order_ids: Sequence[str]) -> bool:
        """As :meth:`TradeWorker.cancel`. Raises NotConnected, which leaves it open."""
        return bool(await self._do("cancel", order_ids))

    async def band(self, symbol: str) -> tuple[float, float]:
        """As :meth:`TradeWorker.band`. Raises NotConnected."""
        lower, upper = await self._do("band", symbol)
        return lower, upper
