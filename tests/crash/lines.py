"""The functions between the request of an order and the venue's answer to it."""

from __future__ import annotations

from typing import Any

from livetrader_core.trade import TradeService
from livetrader_core.trade.dwx import DwxTrade
from livetrader_core.trade.dwx.books import OrderBooks
from livetrader_core.trade.dwx.memory import Memory
from livetrader_core.trade.journal import Journal

#: Where the server of three venues may kill itself.
PATH: tuple[Any, ...] = (
    TradeService.create_order,
    TradeService._let_out,
    TradeService._submit,
    TradeService._write_first,
    TradeService._begin_sending,
    TradeService._release,
    TradeService._send,
    TradeService._change,
    TradeService._record,
    TradeService._write_unwritten,
    TradeService._publish,
    TradeService._on_event,
    Journal.append,
    DwxTrade.create_order,
    DwxTrade._execute,
    DwxTrade._after,
    DwxTrade._close_step,
    DwxTrade._open_step,
    DwxTrade._verify,
    DwxTrade._refused,
    DwxTrade._do,
    DwxTrade.cancel_order,
    OrderBooks.begin,
    OrderBooks.take,
    OrderBooks._take_open,
    OrderBooks._take_close,
    OrderBooks._progress,
    OrderBooks._filled,
    OrderBooks.end,
    Memory.write,
)
