"""LiveTraderStore: the connection that feeds and the broker of a Cerebro share."""

from __future__ import annotations

import atexit
import logging
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import backtrader as bt

from livetrader_bt.connection import ELSEWHERE, Connection
from livetrader_bt.hub import Channel
from livetrader_bt.rates import Rates
from livetrader_bt.runs import run_of
from livetrader_bt.switch import Moment, Switch
from livetrader_core.errors import ConfigError
from livetrader_core.rpc.keys import Keys
from livetrader_core.session import Session

if TYPE_CHECKING:
    from livetrader_bt.broker import LiveTraderBroker
    from livetrader_bt.feed import LiveTraderData

log = logging.getLogger(__name__)


class LiveTraderStore(Connection):
    """Market data and trading of livetrader for one Cerebro.

    ``endpoint`` is a server's base endpoint, or a mapping from MARKET to endpoint. With
    ``service=`` (a MarketService, a TradeService, or both in a tuple) the services run inside
    this process instead. ``rates`` say what one unit of each currency is worth in ``base``: a
    number, or a symbol that has a feed here (see :class:`~livetrader_bt.rates.Rates`).

    ``align_timeout`` is how many seconds the klines of one moment wait for those of other feeds
    whose venue does not tell its clock; 0 delivers each as it comes. Feeds whose venues differ by
    more than that in how late they quote are refused together, unless ``mix_delays``. ``timeout``
    bounds every request, in seconds. ``keys`` are for servers beyond this computer.
    """

    def __init__(
        self,
        endpoint: str | Mapping[str, str] | None = None,
        *,
        service: Any = None,
        base: str = "USD",
        rates: Mapping[str, float | str] | None = None,
        align_timeout: float = 1.0,
        mix_delays: bool = False,
        timeout: float = 10.0,
        keys: Keys | None = None,
    ) -> None:
        super().__init__(endpoint, service, timeout, align_timeout, keys)
        self.mix_delays = mix_delays
        self.rates = Rates(base, dict(rates or {}))
        self._notifications: deque[Any] = deque()
        self._broker: LiveTraderBroker | None = None
        self._feeds: list[LiveTraderData] = []
        self._asked: set[int] = set()
        self._late_told = 0
        _open_stores.add(self)

    # ---- copies in other processes, as an optimization makes them

    def __getstate__(self) -> dict[str, Any]:
        kept = ("endpoint", "timeout", "keys", "mix_delays", "rates", "_contracts")
        return {
            **{name: getattr(self, name) for name in kept},
            "align_timeout": self.hub.align_timeout,
            "elsewhere": self._service is not None,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(  # type: ignore[misc]
            state["endpoint"],
            service=ELSEWHERE if state["elsewhere"] else None,
            align_timeout=state["align_timeout"],
            mix_delays=state["mix_delays"],
            timeout=state["timeout"],
            keys=state["keys"],
        )
        self.rates, self._contracts = state["rates"], state["_contracts"]

    # ---- what users call

    def getdata(self, dataname: str, **params: Any) -> LiveTraderData:
        """A feed of the symbol ``dataname``; see :class:`LiveTraderData` for its parameters."""
        from livetrader_bt.feed import LiveTraderData

        make: Callable[..., LiveTraderData] = LiveTraderData  # backtrader makes the signature
        return make(dataname=dataname, store=self, **params)

    def getbroker(self, **params: Any) -> LiveTraderBroker:
        """The broker of this store; see :class:`LiveTraderBroker` for its parameters."""
        from livetrader_bt.broker import LiveTraderBroker

        make: Callable[..., LiveTraderBroker] = LiveTraderBroker
        return make(store=self, **params)

    def setup(
        self,
        cerebro: bt.Cerebro,
        symbols: Sequence[str],
        mode: str = "backtest",
        *,
        timeframe: str | Sequence[str] = "1m",
        fromdate: Moment = None,
        todate: Moment = None,
        live_from: Moment = None,
        cash: float | Mapping[str, float] | None = None,
        check_margin: bool = False,
        backfill_orders: str = "refuse",
        stop_orders: str = "keep",
        adopt: bool = True,
        ids: Any = None,
        **feed_params: Any,
    ) -> list[LiveTraderData]:
        """Put ``symbols`` and the broker into ``cerebro``: the switch from backtest to live.

        ``mode`` is "backtest" (history only, backtrader's own simulated broker), "paper" (live
        bars, simulated fills at the server) or "live" (live bars, the venue's own fills); it is
        refused if the server trades a symbol otherwise. ``timeframe`` is one for all or one for
        each symbol. ``fromdate`` and ``todate`` bound the bars by the moment they close; without a
        time zone of their own they, and ``live_from``, are in ``tz`` if that is given, else UTC.

        ``live_from``: bars that close up to then only warm up; orders on them are refused. In
        paper mode on a server that replays recordings, the replay begins there. ``cash`` is what
        a backtest starts with (by default what the server's accounts hold); ``check_margin``,
        ``backfill_orders``, ``stop_orders``, ``adopt`` and ``ids`` are those of the brokers. The
        rest is for the feeds.

        Raises ConfigError, UnknownSymbol, UnknownTimeframe, Unavailable.
        """
        broker_params = {
            "check_margin": check_margin,
            "backfill_orders": backfill_orders,
            "stop_orders": stop_orders,
            "adopt": adopt,
            "ids": ids,
        }
        switch = Switch(
            mode, timeframe, fromdate, todate, live_from, cash, broker_params, feed_params
        )
        return switch.apply(self, cerebro, symbols)

    def close(self) -> None:
        """Disconnect; may be called more than once. A later use connects anew."""
        super().close()
        self._feeds.clear()
        self._asked.clear()

    # ---- rates

    def seed_rates(
        self, at: int | None = None, feeds: Sequence[LiveTraderData] | None = None
    ) -> None:
        """Know the rates that follow a symbol, as they are or as they were at ``at`` (UTC ms).

        Where ``feeds`` are given, it must be among theirs. Raises UnknownSymbol, Unavailable,
        ConfigError.
        """
        if feeds is not None:
            self.check_rates(feeds)
        for symbol in self.rates.symbols:
            price = self._price_at(symbol, at)
            if price is None:
                raise ConfigError(f"rates: {symbol} has no klines to take a rate from")
            self.rates.seed(symbol, price)

    def _price_at(self, symbol: str, at: int | None) -> float | None:
        session = self.session(symbol)
        for timeframe in ("1m", "1d"):
            last = self.call(session.get_kline_histories(symbol, None, 1, at, timeframe))
            if len(last):
                return float(last.close[-1])
        for timeframe in ("1d", "1m"):
            later = self.history(symbol, timeframe, at, None)
            if len(later):
                return float(later.open[0])
        return None

    def check_rates(self, feeds: Sequence[LiveTraderData]) -> None:
        """Raise ConfigError if a rate follows a symbol that is not among ``feeds``."""
        served = {feed.symbol for feed in feeds}
        for symbol in self.rates.symbols:
            if symbol not in served:
                raise ConfigError(
                    f"rates: a currency follows {symbol}, which has no feed in this Cerebro: add "
                    "it to the symbols, or give a number"
                )

    def acknowledge(self) -> None:
        """Tell paced markets that the strategy is done with what it was given."""
        for source, clock in self.hub.unacked():
            self._acknowledge(self._sessions[source.name], clock)

    def _acknowledge(self, session: Session, clock: int) -> None:
        self.post_in_order(lambda: session.ack(clock))

    def opens_round(self, data: LiveTraderData) -> bool:
        """Whether ``data`` is the first feed that Cerebro asks in this round: it may wait for all.

        Not the first that was added: Cerebro asks feeds in the order of their timeframes. A feed
        that asks again begins a new round; until then, the strategy has not run.
        """
        if data.over:
            return False
        first = not self._asked or id(data) in self._asked
        if first:
            self._asked = set()
        self._asked.add(id(data))
        return first

    def wait(self, seconds: float) -> None:
        """Wait, at most ``seconds``, until a feed or the broker has something to do."""
        if any(feed.has_undelivered() for feed in self._feeds):
            return
        self.acknowledge()
        immediate = self._broker is not None and not self._broker.follows_bars
        self.hub.wait(seconds, wake_on_inbox=immediate)

    # ---- backtrader's store interface

    def start(self, data: LiveTraderData | None = None, broker: Any = None) -> None:
        """Called by Cerebro, and by feeds and the broker as they start."""
        # Feeds overload ==, so they are told apart by identity.
        if data is not None and not any(feed is data for feed in self._feeds):
            self._feeds.append(data)
        if broker is not None:
            self._broker = broker

    def attach(self, cerebro: bt.Cerebro) -> None:
        """Know a Cerebro that this store works for, so that its end ends any wait here."""
        run = run_of(cerebro)
        if any(store is self for store in run.stores):
            return
        run.stores.append(self)
        cerebro.addstore(self)
        # Without it a fill would be told to the strategy only with the next bar.
        cerebro.p.quicknotify = True

    def begin_run(self) -> None:
        """A Cerebro of this store is about to run: nothing of an earlier run is left."""
        if self._feeds or self._broker is not None or self.hub.channels:
            self.stop()
        if self._io is None and self._replayed is not None and self._service is not ELSEWHERE:
            self.begin_replay(*self._replayed)

    def abort_run(self) -> None:
        """A run raised: what backtrader would have stopped at its end is stopped."""
        broker = self._broker
        if broker is not None:
            broker.stop()
        self.stop()

    def add_channel(self, channel: Channel) -> None:
        """Have the events of ``channel`` collected.

        Raises ConfigError if its venue's klines come so much later than another's that the two
        could never be aligned.
        """
        self._check_delays(channel)
        self.hub.add(channel)

    def _check_delays(self, channel: Channel) -> None:
        if self.mix_delays or not self.hub.align_timeout:
            return
        for other in self.hub.channels:
            apart = abs(other.market.delay_ms - channel.market.delay_ms)
            if apart > self.hub.align_timeout * 1000:
                here, there = channel.contract.symbol, other.contract.symbol
                raise ConfigError(
                    f"{here} comes {channel.market.delay_ms / 1000:g} s late and {there} "
                    f"{other.market.delay_ms / 1000:g} s: bars of one moment would not meet within "
                    f"align_timeout={self.hub.align_timeout:g}; pass mix_delays=True to trade them "
                    "together all the same"
                )

    def stop(self) -> None:
        """Called by Cerebro at its end, more than once."""
        self._feeds.clear()
        self._broker = None
        self.close()

    def tell_late_klines(self) -> None:
        """Notify of klines that came after their moment had been delivered."""
        late = self.hub.late_klines
        if late > self._late_told:
            self._late_told = late
            self.put_notification(f"{late} klines came late: after others of a later moment")

    def warn(self, message: str) -> None:
        """Have ``message`` logged, and told to ``notify_store``."""
        log.warning("%s", message)
        self.put_notification(message)

    def put_notification(self, message: str, *args: Any, **kwargs: Any) -> None:
        """Have ``message`` told to ``notify_store``."""
        self._notifications.append((message, args, kwargs))

    def get_notifications(self) -> list[Any]:
        """Messages since the last call."""
        self._notifications.append(None)
        return list(iter(self._notifications.popleft, None))


_open_stores: weakref.WeakSet[LiveTraderStore] = weakref.WeakSet()
_shared: dict[str, LiveTraderStore] = {}


def shared_store(endpoint: str) -> LiveTraderStore:
    """The store that feeds and brokers without one of their own share, by endpoint."""
    if endpoint not in _shared:
        _shared[endpoint] = LiveTraderStore(endpoint)
    return _shared[endpoint]


@atexit.register
def _close_all() -> None:
    # A strategy that raises leaves backtrader without calling any stop().
    for store in list(_open_stores):
        store.close()
