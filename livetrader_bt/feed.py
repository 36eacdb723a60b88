"""LiveTraderData: a backtrader feed that goes from history to live in one run."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import backtrader as bt
import numpy as np

from livetrader_bt.calendar import SessionCalendar
from livetrader_bt.hub import Arrival, Channel
from livetrader_bt.times import localizer, timeframe_name, to_ms, to_num, to_nums
from livetrader_core.errors import ConfigError
from livetrader_core.models import Contract, FeedState, Floats, Ints, Klines
from livetrader_core.timeframe import duration_ms

if TYPE_CHECKING:
    from livetrader_bt.store import LiveTraderStore

STAMPS = ("close", "open")
#: Up to so many bars a backtest goes bar by bar, which costs little then.
FEW_BARS = 1000


class LiveTraderData(bt.DataBase):
    """Klines of one symbol.

    Parameters, beside those of every backtrader feed:

    - ``dataname``: the symbol, ``MARKET.CODE``;
    - ``store`` or ``endpoint``: where it comes from; feeds of one endpoint share a store;
    - ``timeframe``, ``compression``: one of the klines the server has, one minute by default;
    - ``historical`` (False): only history, to the end of it or ``todate``; loaded in bulk;
    - ``backfill_start`` (True): begin with history, from ``fromdate`` or the last ``backfill``
      bars (all there are, if neither is given);
    - ``stamp`` ("close"): a bar carries the moment it closes, as backtrader's resampler does;
      "open" to compare with a chart;
    - ``qcheck`` (0.5): longest wait in seconds without looking after timers and resampling.

    Times are UTC unless ``tz`` is set: a name such as "America/New_York" or any tzinfo.

    Notifications: DELAYED while history is delivered, LIVE from the first moment that is not,
    CONNBROKEN when the link is lost, CONNECTED and DELAYED when it is back and what was missed
    comes in, DISCONNECTED when a replay has ended.
    """

    params = (
        ("store", None),
        ("endpoint", None),
        ("timeframe", bt.TimeFrame.Minutes),
        ("historical", False),
        ("backfill_start", True),
        ("backfill", None),
        ("stamp", "close"),
        ("qcheck", 0.5),
    )

    def __init__(self) -> None:
        super().__init__()
        self.symbol: str = self.p.dataname
        self._klines_timeframe = timeframe_name(self.p.timeframe, self.p.compression)
        self._store = self._find_store()
        if self.p.stamp not in STAMPS:
            raise ConfigError(f"stamp={self.p.stamp!r}: it is one of {', '.join(STAMPS)}")
        self._channel: Channel | None = None
        self._history = Klines.empty(self.symbol, self._klines_timeframe)
        self._stamps: Floats = np.empty(0)
        self._next_history = 0
        self._may_wait = False
        self._recovering = False
        self._at_close = self.p.stamp == "close"
        self.over = False

    def _find_store(self) -> LiveTraderStore:
        from livetrader_bt.store import shared_store

        if self.p.store is not None:
            store: LiveTraderStore = self.p.store
            return store
        if self.p.endpoint is None:
            raise ConfigError(f"LiveTraderData({self.symbol!r}) needs an endpoint or a store")
        return shared_store(self.p.endpoint)

    # ---- what Cerebro asks

    def setenvironment(self, env: bt.Cerebro) -> None:
        """Cerebro adds this feed."""
        super().setenvironment(env)
        self._store.attach(env)

    def islive(self) -> bool:
        """Whether Cerebro must ask bar by bar: not for history alone."""
        return not bool(self.p.historical)

    def clone(self, **kwargs: Any) -> LiveTraderClone:
        """Another view on the same bars, as resampling asks for."""
        make: Callable[..., LiveTraderClone] = LiveTraderClone
        return make(dataname=self, **kwargs)

    def start(self) -> None:
        """Load history, and subscribe unless ``historical``.

        Raises UnknownSymbol, Unavailable.
        """
        super().start()
        self.over = False
        self._recovering = False
        self._next_history = 0
        # backtrader takes CONNECTED for granted; this lets a first notification through.
        self._laststatus = None
        self._store.start(data=self)
        contract = self.contract
        self._sessions = contract.sessions
        if self.p.calendar is None:
            make: Callable[..., SessionCalendar] = SessionCalendar
            self.p.calendar = make(sessions=contract.sessions)
        if self.p.historical:
            self._set_history(
                self._store.history(self.symbol, self._klines_timeframe, *self._bounds())
            )
            return
        self._channel = Channel(
            contract,
            self._klines_timeframe,
            self._store.market(self.symbol),
            self._store.source(self.symbol),
        )
        self._store.add_channel(self._channel)
        self.put_notification(self.CONNECTED)
        if not self._channel.market.begun:
            self._store.put_notification(
                f"{self.symbol}: this market is a recording that has not begun; "
                "nothing live comes before it does"
            )
        self._subscribe(self._channel)

    def _subscribe(self, channel: Channel) -> None:
        from_ts, _ = self._bounds()
        limit = self.p.backfill if self.p.backfill_start else 0
        history = self._store.subscribe(self.symbol, self._klines_timeframe, from_ts, limit)
        self._set_history(history)
        last_end = int(self._ends[-1]) if len(history) else 0
        # Where another feed watches the symbol already, klines can come twice.
        self._store.hub.drop_before(channel, last_end)
        known = channel.source.clock if channel.market.clocked else 0
        channel.live_from = max(channel.live_from, last_end, known)
        if len(history):
            self.put_notification(self.DELAYED)

    def _bounds(self) -> tuple[int | None, int | None]:
        # By the open, with a day to spare: fromdate and todate mean the stamp, and load() and
        # preload() apply them exactly.
        zone = localizer(self.p.tz) or timezone.utc

        def utc_ms(moment: Any) -> int:
            if not isinstance(moment, datetime):
                moment = datetime(moment.year, moment.month, moment.day)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=zone)
            return round(float(moment.timestamp()) * 1000)

        day = timedelta(days=1) // timedelta(milliseconds=1)
        spare = day * 4 if self._klines_timeframe == "1d" else day
        start = utc_ms(self.p.fromdate) - spare if self.p.fromdate else None
        end = utc_ms(self.p.todate) + spare if self.p.todate else None
        return start, end

    def _set_history(self, history: Klines) -> None:
        self._history = history
        self._ends: Ints = self._sessions.kline_ends(history.datetime, self._klines_timeframe)
        self._stamps = to_nums(self._ends if self.p.stamp == "close" else history.datetime)

    def stop(self) -> None:
        """Cerebro's run is over."""
        super().stop()
        if self._channel is not None:
            self._store.hub.close(self._channel)
        self._store.stop()

    def _gettz(self) -> Any:
        return localizer(self.p.tz)

    def _gettzinput(self) -> Any:
        return localizer(self.p.tzinput)

    def haslivedata(self) -> bool:
        """False: this feed never needs others to hurry; see :meth:`do_qcheck`."""
        return False

    def do_qcheck(self, onoff: bool, qlapse: float) -> None:
        """Called once a round before the first ask: only here may the round's first feed wait."""
        self._may_wait = self._store.opens_round(self) and bool(onoff)

    def _timeoffset(self) -> timedelta:
        # backtrader closes resampled bars by the computer's clock plus this; a replay has its own.
        channel = self._channel
        if channel is None or not channel.market.clocked or not channel.source.clock:
            return timedelta()
        venue = datetime.fromtimestamp(channel.source.clock / 1000, timezone.utc)
        return venue - datetime.now(timezone.utc)

    def _check(self, forcedata: Any = None) -> None:
        if forcedata is not None or self.may_close_bars_by_clock():
            super()._check(forcedata)

    def may_close_bars_by_clock(self) -> bool:
        """Whether a resampled bar may be delivered between two bars, because its time is over.

        Not as fast as it is read: no backtest would know of that time yet. And not beside feeds
        that are not resampled: Cerebro cannot take a round of resampled bars alone.
        """
        if self._channel is not None and self._channel.market.paced:
            return False
        return all(data.resampling for data in self._env.datas)

    # ---- bars

    def preload(self) -> None:
        """Fill the lines with all history at once; bar by bar where filters must see each."""
        if self._filters or self._tzinput:
            super().preload()
            return
        wanted = (self._stamps >= self.fromdate) & (self._stamps <= self.todate)
        history = self._history
        columns = {
            "datetime": self._stamps,
            "open": history.open,
            "high": history.high,
            "low": history.low,
            "close": history.close,
            "volume": history.volume,
            "openinterest": history.open_interest,
        }
        for alias, column in columns.items():
            line = getattr(self.lines, alias)
            line.array = array("d", np.ascontiguousarray(column[wanted], np.float64).tobytes())
            line.extension = 0
        self._next_history = len(history)
        self.home()
        if len(self.lines.datetime.array) < FEW_BARS:
            # Run at once, an indicator fails on fewer bars than its period.
            self._env._disable_runonce()
        if self._env._dooptimize and self._env.p.maxcpus != 1:
            if not self._env._dorunonce:
                self._store.check_copies()
            self._store.close()  # processes are forked next, and a thread may not be

    def _load(self) -> bool | None:
        if self._next_history < len(self._history):
            return self._load_history()
        if self.p.historical or self.over or self._channel is None:
            return False
        return self._load_live(self._channel)

    def _load_history(self) -> bool:
        index, history = self._next_history, self._history
        self._next_history += 1
        lines = self.lines
        lines.datetime[0] = self._stamps[index]
        lines.open[0] = history.open[index]
        lines.high[0] = history.high[index]
        lines.low[0] = history.low[index]
        lines.close[0] = history.close[index]
        lines.volume[0] = history.volume[index]
        lines.openinterest[0] = history.open_interest[index]
        return True

    def _load_live(self, channel: Channel) -> bool | None:
        hub = self._store.hub
        if channel.in_history:
            hub.history_done(channel)
        arrival = hub.take(channel)
        if arrival is None and self._may_wait and hub.all_caught_up():
            self._store.wait(self.p.qcheck)
            arrival = hub.take(channel)
        self._may_wait = False
        if channel.statuses:
            for status in hub.take_statuses(channel):
                self._tell(status.state)
        if arrival is None:
            return self._nothing(channel)
        if self._laststatus != self.LIVE and arrival.end > channel.live_from:
            self._tell_live()
        if arrival.late:
            self._store.tell_late_klines()
        self._fill(arrival)
        if self.lines.datetime[0] > self.todate:
            self._close(channel)
            return False
        return True

    def _nothing(self, channel: Channel) -> bool | None:
        if self._store.hub.is_over(channel):
            self._close(channel)
            return False
        if self._store.hub.all_caught_up() and self._laststatus != self.CONNBROKEN:
            source = channel.source
            passed = channel.market.clocked and source.clock > channel.live_from
            if passed or not self._recovering:
                self._tell_live()
        return None

    def _close(self, channel: Channel) -> None:
        self.over = True
        self.put_notification(self.DISCONNECTED)
        self._store.hub.close(channel)

    def _tell(self, state: FeedState) -> None:
        if state is FeedState.DISCONNECTED:
            self.put_notification(self.CONNBROKEN)
        elif state is FeedState.CONNECTED:
            self.put_notification(self.CONNECTED)
            self.put_notification(self.DELAYED)
            self._recovering = True

    def _tell_live(self) -> None:
        self._recovering = False
        self.put_notification(self.LIVE)

    def _fill(self, arrival: Arrival) -> None:
        lines, kline = self.lines, arrival.kline
        lines.datetime[0] = to_num(arrival.end if self._at_close else kline.datetime)
        lines.open[0] = kline.open
        lines.high[0] = kline.high
        lines.low[0] = kline.low
        lines.close[0] = kline.close
        lines.volume[0] = kline.volume
        lines.openinterest[0] = kline.open_interest

    # ---- what the brokers ask

    @property
    def contract(self) -> Contract:
        """What one unit of its symbol is."""
        return self._store.contract(self.symbol)

    @property
    def timeframe_name(self) -> str:
        """The timeframe of its klines, such as ``1m``."""
        return self._klines_timeframe

    def has_undelivered(self) -> bool:
        """Whether a loaded bar waits for the others to catch up."""
        return bool(len(self) < self.buflen())

    def position_in_time(self) -> tuple[int, int]:
        """How many bars there are and when the last closes: what changes when a bar comes.

        A replayed bar grows without a new one being added.
        """
        return len(self), self.bar_close()

    def bar_close(self) -> int:
        """When the current bar closes (UTC ms); 0 before the first."""
        return self.close_of_stamp(to_ms(self.lines.datetime[0])) if len(self) else 0

    def bar_open(self) -> int:
        """When the current bar opened (UTC ms); there must be one."""
        stamp = to_ms(self.lines.datetime[0])
        if self.p.stamp == "open":
            return stamp
        if self._klines_timeframe == "1d":
            return self._sessions.open_of(self._sessions.trading_date(stamp - 1))
        return stamp - duration_ms(self._klines_timeframe)

    def close_of_stamp(self, stamp: int) -> int:
        """When the bar that carries ``stamp`` closes (UTC ms)."""
        if self.p.stamp == "close":
            return stamp
        return self._sessions.kline_end(stamp, self._klines_timeframe)

    def stamp_of_close(self, moment: int) -> int:
        """What the bar carries that closes the trading day which ``moment`` is in (UTC ms)."""
        day = self._sessions.trading_date(moment)
        if self.p.stamp == "close":
            return self._sessions.close_of(day)
        if self._klines_timeframe == "1d":
            return self._sessions.open_of(day)
        return self._sessions.close_of(day) - duration_ms(self._klines_timeframe)

    def last_stamp_of_day(self, moment: int) -> int:
        """The latest stamp of a bar in the trading day which ``moment`` is in (UTC ms)."""
        close = self._sessions.close_of(self._sessions.trading_date(moment))
        return close if self.p.stamp == "close" else close - 1

    def stamp_of(self, opened: int) -> int:
        """What the bar that opened at ``opened`` carries (UTC ms)."""
        if self.p.stamp == "open":
            return opened
        return self._sessions.kline_end(opened, self._klines_timeframe)


class LiveTraderClone(bt.feed.DataClone):
    """A second view on a LiveTraderData's bars, on the same venue's clock."""

    def _timeoffset(self) -> timedelta:
        offset: timedelta = self.data._timeoffset()
        return offset

    def _check(self, forcedata: Any = None) -> None:
        if forcedata is not None or self.data.may_close_bars_by_clock():
            super()._check(forcedata)


def base_feed(data: Any) -> Any:
    """The feed behind a clone; orders and positions belong to it."""
    while isinstance(data, bt.feed.DataClone):
        data = data.data
    return data
