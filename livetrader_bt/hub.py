"""Where events from the background thread meet the loop of ``cerebro.run()``.

Every feed of a store has a :class:`Channel` here. Klines arrive in the background thread and are
taken in backtrader's. Klines that close at one time are released together (a *moment*), so that
the strategy sees them in one ``next()`` as it does in a backtest. All waiting is done in one place,
on one condition that any arrival wakes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from livetrader_core.models import (
    Clock,
    Contract,
    FeedState,
    FeedStatus,
    Kline,
    MarketEvent,
    TradeEvent,
    market_of,
)
from livetrader_core.session import MarketInfo
from livetrader_core.timeframe import duration_ms

NEVER = float("inf")


@dataclass(eq=False)
class Source:
    """One session as the hub sees it."""

    name: str
    #: Up to which moment (UTC ms) its clocked markets have given everything.
    clock: int = 0
    #: Number of the last trade event that belongs to ``clock``.
    trade_seq: int = 0
    #: Number of the last trade event that arrived.
    seen_seq: int = 0
    #: Number of the last trade event that was in the books when the run began.
    booked_seq: int = 0
    acked: int = -1


@dataclass(slots=True)
class Arrival:
    """A kline that waits, with the moment it closes and when it came (monotonic seconds).

    ``late``: a later moment had been delivered before it came.
    """

    kline: Kline
    end: int
    at: float
    late: bool = False


@dataclass(eq=False)
class Channel:
    """The stream of one feed."""

    contract: Contract
    timeframe: str
    market: MarketInfo
    source: Source
    waiting: deque[Arrival] = field(default_factory=deque)
    statuses: deque[FeedStatus] = field(default_factory=deque)
    #: Klines that close up to here are history: no order on them may leave.
    live_from: int = 0
    #: Whether its history is not delivered yet; see :meth:`Hub.history_done`.
    in_history: bool = True
    #: Whether it takes part no more; see :meth:`Hub.close`.
    closed: bool = False
    #: Whether nothing more can arrive.
    ended: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Which stream it is."""
        return self.contract.symbol, self.timeframe

    def end_of(self, kline: Kline) -> int:
        """When ``kline`` closes."""
        return self.contract.sessions.kline_end(kline.datetime, self.timeframe)

    def may_have(self, moment: int) -> bool:
        """Whether the venue could have a kline that closes at ``moment``."""
        sessions = self.contract.sessions
        if self.timeframe == "1d":
            return sessions.close_of(sessions.trading_date(moment - 1)) == moment
        duration = duration_ms(self.timeframe)
        return moment % duration == 0 and sessions.is_open(moment - 1)


@dataclass
class InboxItem:
    """Something for the broker: ``apply`` is called in backtrader's thread."""

    clock: int
    apply: Callable[[], None]


class Hub:
    """The meeting point. Methods marked *background* may be called from any thread."""

    def __init__(self, align_timeout: float = 1.0) -> None:
        self.align_timeout = align_timeout
        self.late_klines = 0
        self._changed = threading.Condition()
        self._channels: list[Channel] = []
        self._by_key: dict[tuple[str, str], list[Channel]] = {}
        self._inbox: deque[InboxItem] = deque()
        self._trade_handler: Callable[[Source, TradeEvent], None] | None = None
        self._moment = 0
        self._retry_at = NEVER
        self._stopped = False
        self._fresh = True  # something arrived since the last fruitless try to release

    # ---- set-up (backtrader's thread)

    def add(self, channel: Channel) -> None:
        """Take part from now on."""
        with self._changed:
            self._channels.append(channel)
            self._by_key.setdefault(channel.key, []).append(channel)

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Who takes part."""
        return tuple(self._channels)

    def clear(self) -> None:
        """Forget everything of the last run."""
        with self._changed:
            self._channels.clear()
            self._by_key.clear()
            self._inbox.clear()
            self._trade_handler = None
            self._moment = 0
            self._stopped = False
            self._fresh = True

    def on_trade(self, handler: Callable[[Source, TradeEvent], None]) -> None:
        """Have trade events applied by ``handler``, through the inbox."""
        self._trade_handler = handler

    def drop_before(self, channel: Channel, moment: int) -> None:
        """Forget what waits on ``channel`` and closes at or before ``moment``: it is history."""
        with self._changed:
            while channel.waiting and channel.waiting[0].end <= moment:
                channel.waiting.popleft()

    def history_done(self, channel: Channel) -> None:
        """All history of ``channel`` is delivered: what is live may follow."""
        channel.in_history = False
        self.wake()

    def close(self, channel: Channel) -> None:
        """``channel`` takes part no more: nobody waits for it."""
        channel.closed = True
        with self._changed:
            self._channels = [c for c in self._channels if not c.closed]
            self._fresh = True
            self._changed.notify_all()

    # ---- arrivals (background)

    def push(self, source: Source, event: MarketEvent | TradeEvent) -> None:
        """Take an event of ``source``."""
        with self._changed:
            if isinstance(event, Kline):
                self._push_kline(event)
            elif isinstance(event, Clock):
                source.clock = max(source.clock, event.datetime)
                source.trade_seq = max(source.trade_seq, event.trade_seq)
            elif isinstance(event, TradeEvent):
                self._push_trade(source, event)
            elif isinstance(event, FeedStatus):
                self._push_status(source, event)
            self._fresh = True
            self._changed.notify_all()

    def _push_kline(self, kline: Kline) -> None:
        if not kline.closed:
            return
        for channel in self._by_key.get((kline.symbol, kline.timeframe), ()):
            channel.waiting.append(Arrival(kline, channel.end_of(kline), time.monotonic()))

    def _push_trade(self, source: Source, event: TradeEvent) -> None:
        source.seen_seq = max(source.seen_seq, event.seq)
        handler = self._trade_handler
        if handler is not None:
            self._inbox.append(InboxItem(event.clock, lambda: handler(source, event)))

    def _push_status(self, source: Source, status: FeedStatus) -> None:
        for channel in self._channels:
            if channel.source is source and market_of(channel.contract.symbol) in status.markets:
                channel.statuses.append(status)
                if status.state is FeedState.ENDED:
                    channel.ended = True
                elif status.state is FeedState.CONNECTED:
                    self._note_hole(channel)

    def _note_hole(self, channel: Channel) -> None:
        # What comes up to here was missed while the line was down: history, not live.
        now = (
            channel.source.clock if channel.market.clocked else _now_ms() - channel.market.delay_ms
        )
        channel.live_from = max(channel.live_from, now)

    def push_inbox(self, clock: int, apply: Callable[[], None]) -> None:
        """Have ``apply`` called by the broker; ``clock`` as in a trade event."""
        with self._changed:
            self._inbox.append(InboxItem(clock, apply))
            self._fresh = True
            self._changed.notify_all()

    def wake(self) -> None:
        """End any wait."""
        with self._changed:
            self._fresh = True
            self._changed.notify_all()

    def stop(self) -> None:
        """End any wait for good."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    # ---- backtrader's thread

    def take(self, channel: Channel) -> Arrival | None:
        """The channel's kline of the released moment, or None if it has none (yet)."""
        waiting = channel.waiting
        if not waiting:
            return None
        with self._changed:
            end = waiting[0].end
            if end > self._moment and (not self._release() or end > self._moment):
                return None
            arrival = waiting.popleft()
            if end < self._moment:
                arrival.late = True
                self.late_klines += 1
            self._fresh = True
            return arrival

    def take_statuses(self, channel: Channel) -> list[FeedStatus]:
        """Changes of the channel's stream since the last call."""
        if not channel.statuses:
            return []
        with self._changed:
            statuses = list(channel.statuses)
            channel.statuses.clear()
            return statuses

    def take_inbox(self, until: float = NEVER) -> list[InboxItem]:
        """What the broker has to apply, in order, of moments up to ``until`` (UTC ms)."""
        if not self._inbox:
            return []
        with self._changed:
            items = []
            while self._inbox and self._inbox[0].clock <= until:
                items.append(self._inbox.popleft())
            return items

    def is_over(self, channel: Channel) -> bool:
        """Whether nothing more can come on ``channel``."""
        return channel.closed or (channel.ended and not channel.waiting)

    def all_caught_up(self) -> bool:
        """Whether every feed has delivered its history."""
        return not any(channel.in_history for channel in self._channels)

    def live_from(self) -> int:
        """Up to which moment (UTC ms) what the strategy sees is history."""
        return max((channel.live_from for channel in self._channels), default=0)

    def wait(self, seconds: float, wake_on_inbox: bool) -> None:
        """Wait until a feed or the broker has something to do, at most ``seconds``."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._has_work(wake_on_inbox):
                left = min(deadline, self._retry_at) - time.monotonic()
                if left <= 0:
                    if time.monotonic() >= deadline:
                        return
                    self._fresh = True  # an alignment ran out of time
                    continue
                self._changed.wait(left)

    def unacked(self) -> list[tuple[Source, int]]:
        """Sources whose clock the strategy is done with, each with that clock; told once."""
        with self._changed:
            done = []
            for source in self._to_acknowledge():
                source.acked = source.clock
                done.append((source, source.clock))
            return done

    def _has_work(self, wake_on_inbox: bool) -> bool:
        if self._stopped or any(channel.statuses for channel in self._channels):
            return True
        if wake_on_inbox and self._inbox:
            return True
        if any(c.waiting and c.waiting[0].end <= self._moment for c in self._channels):
            return True
        if any(self.is_over(channel) for channel in self._channels):
            return True
        return self._fresh and (self._release() or bool(self._to_acknowledge()))

    def _to_acknowledge(self) -> list[Source]:
        """Sources with a clock of which everything was taken, and not yet acknowledged."""
        sources: list[Source] = []
        for channel in self._channels:
            if channel.waiting:
                return []
            source = channel.source
            if source.clock > source.acked and self._settled(source) and source not in sources:
                sources.append(source)
        return sources

    def _release(self) -> bool:
        """Move to the next moment if everyone is ready for it; says whether it did."""
        if not self._fresh:
            return False
        self._fresh = False
        self._retry_at = NEVER
        earliest: Arrival | None = None
        for channel in self._channels:
            if channel.in_history:
                return False
            if channel.waiting and (earliest is None or channel.waiting[0].end < earliest.end):
                earliest = channel.waiting[0]
        if earliest is None or (earliest.end > self._moment and not self._ready(earliest)):
            return False
        self._moment = max(self._moment, earliest.end)
        return True

    def _ready(self, earliest: Arrival) -> bool:
        """Whether nothing more of the moment of ``earliest`` has to be waited for."""
        moment = earliest.end
        behind = False
        for channel in self._channels:
            clock = channel.source.clock if channel.market.clocked else NEVER
            if not self._settled(channel.source):
                return False
            if channel.waiting:
                if clock < moment and channel.waiting[0].end == moment:
                    return False
            elif self.align_timeout and self._may_still_give(channel, moment):
                if channel.market.paced:
                    return False  # simulated time: no wall clock decides
                behind = True
        return not behind or self._timed_out(earliest)

    @staticmethod
    def _may_still_give(channel: Channel, moment: int) -> bool:
        if channel.ended:
            return False
        if channel.market.clocked:
            return channel.source.clock < moment
        return channel.may_have(moment)

    def _timed_out(self, earliest: Arrival) -> bool:
        self._retry_at = earliest.at + self.align_timeout
        return time.monotonic() >= self._retry_at

    def _settled(self, source: Source) -> bool:
        # The fills of a moment must be here before its klines are delivered.
        return self._trade_handler is None or source.seen_seq >= source.trade_seq


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
