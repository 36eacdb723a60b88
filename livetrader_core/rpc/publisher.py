"""What a server publishes: klines, ticks, clocks, statuses, trade events and heartbeats."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from livetrader_core.models import (
    Clock,
    FeedStatus,
    Kline,
    Klines,
    MarketEvent,
    Tick,
    TradeEvent,
)
from livetrader_core.rpc import protocol

#: Klines that each stream remembers: enough to bridge what a venue's history lags behind.
_MEMORY = 256
#: Heartbeats that repeat a stream's number after it published. A client that hears none of them
#: takes the line for dead anyway.
_BEATS = 10


@dataclass
class Stream:
    """One kline stream: its topic, the number of its last publication, and the last klines."""

    symbol: str
    timeframe: str
    topic: bytes
    seq: int = 0
    #: When the first kline of this run opened; -1 before it.
    first: int = -1
    recent: deque[Kline] = field(default_factory=lambda: deque(maxlen=_MEMORY))
    beats: int = 0

    def since(self, seq: int) -> list[Kline] | None:
        """The klines published after number ``seq``, or None if they are no longer remembered."""
        count = self.seq - seq
        if not 0 <= count <= len(self.recent):
            return None
        return list(itertools.islice(self.recent, len(self.recent) - count, None))

    def joined_to(self, history: Klines, from_ts: int) -> Klines:
        """``history`` and the published klines, from ``from_ts`` on, that it does not have yet."""
        newest = int(history.datetime[-1]) if len(history) else from_ts - 1
        later = [kline for kline in self.recent if kline.datetime > newest]
        if not later:
            return history
        tail = Klines.of(self.symbol, self.timeframe, later)
        return Klines.concat([history, tail]) if len(history) else tail


class Publisher:
    """Numbers events, encodes them once and hands them to ``send(topic, body)``."""

    def __init__(self, start_id: str, send: Callable[[bytes, bytes], None]) -> None:
        self.start_id = start_id
        self.published = 0
        self._send = send
        self._streams: dict[tuple[str, str], Stream] = {}
        self._ticks: dict[bytes, int] = {}
        self._since_clock: dict[bytes, Stream] = {}
        self._lively: dict[bytes, Stream] = {}
        self._control_seq = 0
        self._beat_seq = 0
        self._clocks: dict[tuple[str, ...], Clock] = {}
        self._statuses: dict[tuple[str, ...], FeedStatus] = {}

    # ---- streams

    @property
    def streams(self) -> list[Stream]:
        """All kline streams."""
        return list(self._streams.values())

    @property
    def states(self) -> dict[str, str]:
        """What was last said of each MARKET's feed, with the reason."""
        return {
            code: f"{status.state.value}: {status.reason}" if status.reason else status.state.value
            for status in self._statuses.values()
            for code in status.markets
        }

    def stream(self, symbol: str, timeframe: str) -> Stream:
        """The stream of ``symbol``. Raises InvalidRequest for what cannot be a topic."""
        key = (symbol, timeframe)
        stream = self._streams.get(key)
        if stream is None:
            topic = protocol.kline_topic(symbol, timeframe)
            stream = self._streams[key] = Stream(symbol, timeframe, topic)
        return stream

    # ---- events

    def on_market(self, event: MarketEvent) -> None:
        """Publish an event of the market service."""
        if isinstance(event, Kline):
            self._on_kline(event)
        elif isinstance(event, Clock):
            self._on_clock(event)
        elif isinstance(event, FeedStatus):
            self._on_status(event)
        elif isinstance(event, Tick):
            self._on_tick(event)

    def on_trade(self, event: TradeEvent) -> None:
        """Publish a trade event."""
        self._publish(protocol.TRADE, protocol.encode_trade(self.start_id, event))

    def _on_kline(self, kline: Kline) -> None:
        stream = self._streams.get((kline.symbol, kline.timeframe))
        if stream is None:
            stream = self.stream(kline.symbol, kline.timeframe)
        body = protocol.encode_kline(self.start_id, stream.seq + 1, kline)
        stream.seq += 1
        stream.recent.append(kline)
        stream.beats = _BEATS
        if stream.first < 0:
            stream.first = kline.datetime
        self._since_clock[stream.topic] = self._lively[stream.topic] = stream
        self._publish(stream.topic, body)

    def _on_tick(self, tick: Tick) -> None:
        topic = protocol.tick_topic(tick.symbol)
        seq = self._ticks[topic] = self._ticks.get(topic, 0) + 1
        self._publish(topic, protocol.encode_tick(self.start_id, seq, tick))

    def _on_clock(self, clock: Clock) -> None:
        self._control_seq += 1
        self._clocks[clock.markets] = clock
        streams = {topic: stream.seq for topic, stream in self._since_clock.items()}
        self._since_clock.clear()
        body = protocol.encode_clock(self.start_id, self._control_seq, clock, streams)
        self._publish(protocol.CONTROL, body)

    def _on_status(self, status: FeedStatus) -> None:
        self._control_seq += 1
        self._statuses.pop(status.markets, None)  # the latest comes last
        self._statuses[status.markets] = status
        body = protocol.encode_status(self.start_id, self._control_seq, status)
        self._publish(protocol.CONTROL, body)

    def beat(self, trade_seq: int, clocks: dict[str, int]) -> None:
        """Publish a heartbeat."""
        self._beat_seq += 1
        streams = {topic: stream.seq for topic, stream in self._lively.items()}
        for topic, stream in list(self._lively.items()):
            stream.beats -= 1
            if stream.beats <= 0:
                del self._lively[topic]
        beat = protocol.Beat(
            self.start_id, self._beat_seq, self._control_seq, trade_seq, streams, clocks
        )
        self._publish(protocol.HEARTBEAT, protocol.encode_beat(beat))

    def sync(self, topic: bytes) -> None:
        """Answer a subscription to a sync topic."""
        self._publish(topic, protocol.pack((self.start_id,)))

    def state(self, trade_seq: int) -> list[Any]:
        """``[control_seq, trade_seq, clocks, statuses]``: what a client needs to catch up."""
        return [
            self._control_seq,
            trade_seq,
            [[c.markets, c.datetime, c.trade_seq] for c in self._clocks.values()],
            [[s.markets, s.state.value, s.reason] for s in self._statuses.values()],
        ]

    def _publish(self, topic: bytes, body: bytes) -> None:
        self.published += 1
        self._send(topic, body)
