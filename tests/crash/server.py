"""The server that is killed: ``python -m tests.crash.server ENDPOINT JOURNAL VENUE [LINE NTH]``.

With LINE (``FILE:NUMBER``) it kills itself when that line is about to run for the NTH time.
"""

from __future__ import annotations

import os
import signal
import sys
from types import CodeType, FrameType
from typing import Any

from livetrader_core.rpc import Server
from livetrader_core.trade import TradeService
from livetrader_core.trade.journal import Journal
from tests.crash.adapter import PersistentTrade

#: What runs between the request of an order and the venue's answer to it.
_PATH: tuple[Any, ...] = (
    TradeService.create_order,
    TradeService._let_out,
    TradeService._submit,
    TradeService._write_first,
    TradeService._begin_sending,
    TradeService._send,
    TradeService._change,
    TradeService._record,
    TradeService._write_unwritten,
    TradeService._publish,
    TradeService._on_event,
    Journal.append,
    PersistentTrade.create_order,
    PersistentTrade._ask,
)


def codes() -> dict[CodeType, str]:
    """The code of each function on the way of an order, and its file's name."""
    functions = [function.__code__ for function in _PATH]
    return {code: os.path.basename(code.co_filename) for code in functions}


def lines() -> list[str]:
    """Every line on the way of an order, as ``FILE:NUMBER``."""
    found = {
        f"{name}:{line}"
        for code, name in codes().items()
        for _, _, line in code.co_lines()
        if line is not None and line > code.co_firstlineno
    }
    return sorted(found)


def kill_at(where: str, nth: int) -> None:
    """SIGKILL this process when line ``where`` is about to run for the ``nth`` time."""
    watched, hits = codes(), 0

    def on_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal hits
        if event == "line" and f"{watched[frame.f_code]}:{frame.f_lineno}" == where:
            hits += 1
            if hits == nth:
                os.kill(os.getpid(), signal.SIGKILL)
        return on_line

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        return on_line if frame.f_code in watched else None

    sys.settrace(on_call)


def main(endpoint: str, journal: str, venue: str, where: str = "", nth: str = "0") -> None:
    trade = TradeService(PersistentTrade(venue), journal, ask_every=0.05, settle_after=0.05)
    server = Server(trade, heartbeat=0.2)
    server.bind(endpoint)
    if where:
        kill_at(where, int(nth))
    server.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
