"""The lines between the request of an order and the venue's answer to it, for each venue."""

from __future__ import annotations

from typing import Any

from livetrader_core.trade import TradeService
from livetrader_core.trade.dwx import DwxTrade
from livetrader_core.trade.dwx.books import OrderBooks
from livetrader_core.trade.held import HeldOrders
from livetrader_core.trade.inquiry import Inquiry
from livetrader_core.trade.journal import Journal
from livetrader_core.trade.ledger import OrderLedger
from livetrader_core.trade.metatrader.memory import Memory
from livetrader_core.trade.mt4 import Mt4Trade
from livetrader_core.trade.mt4.books import OrderBooks as AdvisorBooks
from livetrader_core.trade.mt4.execution import Execution
from livetrader_core.trade.mt4.levels import Levels
from livetrader_core.trade.mt4.operations import Operations
from livetrader_core.trade.mt4.steps import Steps
from livetrader_core.trade.reconcile import Reconciler
from livetrader_core.trade.sending import Sender
from livetrader_core.trade.tq import TqTrade
from livetrader_core.trade.tq.desk import Desk
from livetrader_core.trade.tq.worker import TradeLine, TradeWorker
from tests.crash.strike import lines_of

#: By venue: functions in which the server may kill itself; "service" comes with any of them.
PATHS: dict[str, tuple[Any, ...]] = {
    "service": (
        TradeService.create_order,
        TradeService._let_out,
        Sender.submit,
        OrderLedger.write_first,
        Sender.begin,
        Sender._send,
        TradeService._release,
        Sender.leave,
        OrderLedger.change,
        OrderLedger._record,
        OrderLedger.write_unwritten,
        OrderLedger._publish,
        OrderLedger.on_event,
        Inquiry._ask,
        Inquiry._never_arrived,
        Reconciler.take_fills,
        HeldOrders._release,
        Journal.append,
    ),
    "dwx": (
        DwxTrade.create_order,
        DwxTrade._execute,
        DwxTrade._after,
        DwxTrade._target,
        DwxTrade._close_step,
        DwxTrade._open_step,
        DwxTrade._before,
        DwxTrade._do,
        DwxTrade._verify,
        DwxTrade._refused,
        DwxTrade._can_part,
        DwxTrade.cancel_order,
        OrderBooks.begin,
        OrderBooks.take,
        OrderBooks._take_open,
        OrderBooks._take_close,
        OrderBooks.end,
        OrderBooks.compare,
        OrderBooks._settle,
        OrderBooks._progress,
        OrderBooks._filled,
        OrderBooks._write,
        Memory.write,
        Memory._insert,
    ),
    "mt4": (
        Mt4Trade._sync,
        Mt4Trade._take,
        Mt4Trade.create_order,
        Execution.execute,
        Execution._trade_at_market,
        Execution._place_limit,
        Execution._send,
        Steps.do,
        Levels.place,
        Levels._set,
        Mt4Trade.cancel_order,
        Mt4Trade._settle,
        Operations.do,
        AdvisorBooks.begin,
        AdvisorBooks.take,
        AdvisorBooks._keep,
        AdvisorBooks._on_opened,
        AdvisorBooks._opened,
        AdvisorBooks._on_placed,
        AdvisorBooks._on_closed,
        AdvisorBooks._on_deleted,
        AdvisorBooks._write,
        AdvisorBooks.accept,
        AdvisorBooks.end,
        Memory.write_all,
    ),
    "tq": (
        TqTrade._adopt,
        TqTrade._hear,
        TqTrade._take,
        TqTrade.create_order,
        TqTrade._requests,
        TqTrade._send,
        TqTrade._answered,
        TqTrade.cancel_order,
        TradeLine.insert,
        TradeLine.cancel,
        TradeWorker.insert,
        TradeWorker.cancel,
        TradeWorker._let_go,
        TradeWorker.band,
        TradeWorker._news_of_books,
        Desk.begin,
        Desk.end,
        Desk.take,
        Desk._note,
        Desk._fills,
        Desk._order,
    ),
}
PATH = tuple(function for functions in PATHS.values() for function in functions)
#: Orders that were on their way in these lines have to be found again by the next server.
UNDER_WAY: dict[str, list[str]] = {
    "dwx": [lines_of([DwxTrade._do])[0], lines_of([DwxTrade._verify])[0]],
    "mt4": [lines_of([Steps.do])[0], lines_of([AdvisorBooks.take])[0]],
    "tq": [lines_of([TradeLine.insert])[0], lines_of([TqTrade._answered])[0]],
}


def lines(part: str) -> list[str]:
    """All lines of a part of the way, as ``FILE:NUMBER``."""
    return lines_of(PATHS[part])
