"""Margin calls: positions that the account can no longer carry are closed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from livetrader_core.models import Order, OrderStatus, OrderType, Side
from livetrader_core.trade.paper.account import Book, Holding
from livetrader_core.trade.paper.book import MARGIN_CALL, Bar, PaperBook


def call_margin(
    book: PaperBook, share: float, bars: Sequence[Bar], next_id: Callable[[], str]
) -> None:
    """Close the margined positions of each currency whose equity is below ``share`` of its margin.

    ``bars`` are the klines of this moment: positions in other symbols are closed when they have
    one. ``next_id`` makes the client_order_id of an order of the venue's own.
    """
    for money in book.account.books.values():
        if not money.margin or money.equity >= share * money.margin:
            continue
        called = {one.order.symbol for one in book.working if one.order.reason == MARGIN_CALL}
        for bar in bars:
            holding = money.holdings.get(bar.kline.symbol)
            if holding is None or not holding.margin or bar.kline.symbol in called:
                continue
            called.add(bar.kline.symbol)
            _cancel_orders(book, money, bar.end)
            book.call_margin(_closing(holding, bar, next_id()), holding.contract)


def _cancel_orders(book: PaperBook, money: Book, clock: int) -> None:
    for working in book.working:
        contract = working.contract
        if working.order.reason == MARGIN_CALL or not contract.margined:
            continue
        # One that was canceled may have taken others with it.
        if contract.currency == money.currency and book.find(working.order.client_order_id):
            book.cancel(working, clock)


def _closing(holding: Holding, bar: Bar, client_order_id: str) -> Order:
    return Order(
        client_order_id,
        bar.kline.symbol,
        Side.SELL if holding.quantity > 0 else Side.BUY,
        OrderType.MARKET,
        abs(holding.quantity),
        as_of=bar.end,
        timeframe=bar.kline.timeframe,
        order_id=client_order_id,
        status=OrderStatus.ACCEPTED,
        reason=MARGIN_CALL,
        created_at=bar.end,
        updated_at=bar.end,
    )
