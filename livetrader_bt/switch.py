"""From backtest to live by one word: what :meth:`LiveTraderStore.setup` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any

import backtrader as bt

from livetrader_bt.times import bt_timeframe, localizer, moment_ms
from livetrader_core.errors import ConfigError

if TYPE_CHECKING:
    from livetrader_bt.backtest import LiveTraderBackBroker
    from livetrader_bt.broker import LiveTraderBroker
    from livetrader_bt.feed import LiveTraderData
    from livetrader_bt.store import LiveTraderStore

#: A moment as a user writes it; see :func:`~livetrader_bt.times.moment_ms`.
Moment = int | str | datetime | None

MODES = ("backtest", "paper", "live")


@dataclass(frozen=True)
class Switch:
    """What is asked for; the fields are the arguments of :meth:`LiveTraderStore.setup`."""

    mode: str
    timeframe: str | Sequence[str]
    fromdate: Moment
    todate: Moment
    live_from: Moment
    cash: float | Mapping[str, float] | None
    broker_params: Mapping[str, Any]
    feed_params: Mapping[str, Any] = field(default_factory=dict)

    def apply(
        self, store: LiveTraderStore, cerebro: bt.Cerebro, symbols: Sequence[str]
    ) -> list[LiveTraderData]:
        """Put feeds of ``symbols`` and the broker into ``cerebro``."""
        if self.mode not in MODES:
            raise ConfigError(f"mode {self.mode!r} does not exist; there are {', '.join(MODES)}")
        frames = self._frames(len(symbols))
        zone = localizer(self.feed_params.get("tz"))
        start, first, last = (
            moment_ms(moment, zone) for moment in (self.live_from, self.fromdate, self.todate)
        )
        store.connect()
        try:
            if self.mode != "backtest":
                self._check_mode(store, symbols)
                _check_begun(store, symbols, start)
                if start is not None:
                    store.begin_replay(start, last)
            store.seed_rates((first or 0) if self.mode == "backtest" else None)
            datas = [
                self._add_feed(store, cerebro, symbol, frame, first, last)
                for symbol, frame in zip(symbols, frames, strict=True)
            ]
            broker = self._make_broker(store, start)
        except BaseException:
            store.close()
            raise
        cerebro.setbroker(broker)
        return datas

    def _frames(self, count: int) -> list[str]:
        if isinstance(self.timeframe, str):
            return [self.timeframe] * count
        if len(self.timeframe) != count:
            raise ConfigError(f"{count} symbols but {len(self.timeframe)} timeframes")
        return list(self.timeframe)

    def _add_feed(
        self,
        store: LiveTraderStore,
        cerebro: bt.Cerebro,
        symbol: str,
        timeframe: str,
        first: int | None,
        last: int | None,
    ) -> LiveTraderData:
        # An unknown symbol, or a currency without a rate, fails here, by its name.
        store.rates.of(store.contract(symbol).currency)
        frame, compression = bt_timeframe(timeframe)
        zone = localizer(self.feed_params.get("tz")) or timezone.utc
        data = store.getdata(
            symbol,
            name=symbol,
            timeframe=frame,
            compression=compression,
            fromdate=_as_datetime(first, zone),
            todate=_as_datetime(last, zone),
            historical=self.mode == "backtest",
            **self.feed_params,
        )
        cerebro.adddata(data)
        return data

    def _make_broker(
        self, store: LiveTraderStore, live_from: int | None
    ) -> LiveTraderBroker | LiveTraderBackBroker:
        if self.mode != "backtest":
            return store.getbroker(**self.broker_params)
        from livetrader_bt.backtest import LiveTraderBackBroker

        make: Callable[..., LiveTraderBackBroker] = LiveTraderBackBroker
        return make(
            store=store,
            account_cash=self._starting_cash(store),
            live_from=live_from or 0,
            check_margin=self.broker_params["check_margin"],
        )

    def _starting_cash(self, store: LiveTraderStore) -> dict[str, float]:
        if isinstance(self.cash, Mapping):
            return dict(self.cash)
        if self.cash is not None:
            return {store.rates.base: float(self.cash)}
        cash: dict[str, float] = {}
        for balance in store.balances():
            cash[balance.currency] = cash.get(balance.currency, 0.0) + balance.cash
        if not cash:
            raise ConfigError("this server has no account: give the backtest its cash=…")
        return cash

    def _check_mode(self, store: LiveTraderStore, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            trade = store.market(symbol).trade
            if trade is None:
                raise ConfigError(
                    f"{symbol}: {store.endpoint or 'the service'} does not trade this market; "
                    "add it to a [trades.…] section of the server, or use mode='backtest'"
                )
            if trade != self.mode:
                raise ConfigError(
                    f"{symbol}: mode={self.mode!r} was asked for, but this server's trading of it "
                    f"is {trade}"
                )


def _check_begun(store: LiveTraderStore, symbols: Sequence[str], live_from: int | None) -> None:
    waiting = [symbol for symbol in symbols if not store.market(symbol).begun]
    if waiting and live_from is None:
        raise ConfigError(
            f"{waiting[0]}: this market is a recording that has not begun; say where it goes "
            "live with live_from=…, or start its server with start = …"
        )


def _as_datetime(ts: int | None, zone: tzinfo) -> datetime | None:
    # Naive, in the feed's own zone: backtrader reads it so.
    if ts is None:
        return None
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=ts)
    return moment.astimezone(zone).replace(tzinfo=None)
