"""Subscriptions of a remote session, and what it catches up with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from livetrader_core.errors import ProtocolError
from livetrader_core.models import TradeEvent
from livetrader_core.rpc.calls import Joined, State


@dataclass
class Stream:
    """A subscription, and how far it was delivered."""

    symbol: str
    timeframe: str
    topic: bytes
    #: Done when the server has answered; None from then on.
    joining: asyncio.Future[None] | None
    #: Publications that arrive until then.
    held: list[bytes] = field(default_factory=list)
    #: The server's run that ``seq`` counts in.
    run: str = ""
    #: Number of the last publication that was taken.
    seq: int = 0
    #: When the last kline that was delivered opened; -1: none was.
    delivered: int = -1
    #: When the newest kline known at the subscription opened; -1: none.
    newest: int = -1
    #: Publications of klines that open up to here were delivered from history.
    floor: int = -1

    def join(self, run: str, joined: Joined) -> None:
        """Its klines were delivered; publications go on from there."""
        if joined.topic != self.topic:
            raise ProtocolError(f"{self.symbol}: the server publishes it as {joined.topic!r}")
        self.run, self.seq = run, joined.seq
        self.newest = joined.newest
        if len(joined.klines):
            self.delivered = max(self.delivered, int(joined.klines.datetime[-1]))
        # A server that began anew with its recording would else give what was given before.
        self.floor = max(self.floor, self.delivered)


@dataclass(frozen=True)
class CaughtUp:
    """What was missed, of one moment."""

    state: State
    streams: list[tuple[Stream, Joined]]
    trades: list[TradeEvent]
