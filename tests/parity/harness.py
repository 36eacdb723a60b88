"""Runs one random strategy in every mode, over one window of klines, and tells what it did."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import backtrader as bt

from livetrader_bt import LiveTraderStore
from livetrader_core.market import MarketService, ReplayMarket
from livetrader_core.market.generated import GeneratedSource
from livetrader_core.models import Klines
from livetrader_core.timeframe import DAY_MS, MINUTE_MS
from livetrader_core.trade import PaperTrade, TradeService
from tests.parity.random_trader import RandomTrader
from tests.support.data import recorded_data

HOUR_MS = 60 * MINUTE_MS
CASH = {"USD": 1_000_000.0, "CNY": 3_000_000.0, "JPY": 0.0, "USDT": 100_000.0}
RATES = {"CNY": 0.15, "JPY": 0.01, "USDT": 1.0}
#: 52 weeks bring the futures of autumn 2019 to the days of the others, in autumn 2020.
SHIFT = {"SHFE": 52, "DCE": 52, "BINANCE": 52}
#: Recorded around the clock or with night sessions, by when they have data after shifting.
RECORDED = (
    "US.BABA",
    "US.AAPL",
    "US.TSLA",
    "FOREX.EURUSD",
    "SHFE.cu2002",
    "SHFE.rb2002",
    "DCE.m2005",
    "DCE.jd2002",
    "BINANCE.BTCUSDT",
)
GENERATED = ("US.BABA", "US.AAPL", "FOREX.EURUSD", "FOREX.USDJPY", "SHFE.cu2002", "DCE.jd2002")
#: 2020-11-02 and 2020-11-12, 00:00 UTC: every recording has data here.
FIRST, LAST = 1_604_275_200_000, 1_605_139_200_000


@dataclass(frozen=True)
class Case:
    """A strategy, its feeds and its window."""

    seed: int
    symbols: tuple[str, ...]
    timeframes: tuple[str, ...]
    start: int
    live_from: int
    end: int


@dataclass
class Outcome:
    """What a run told the strategy, in order."""

    log: list[Any] = field(default_factory=list)

    def fills(self) -> list[Any]:
        return [entry for entry in self.log if entry[0] == "fill"]


def make_case(seed: int, recorded: bool) -> Case:
    """The case of ``seed``: 1 to 5 feeds, a few hours of warm-up, some hours live."""
    draw = random.Random(seed)
    pool = RECORDED if recorded else GENERATED
    symbols = tuple(draw.sample(pool, draw.randint(1, 5)))
    live_from = draw.randrange(FIRST + DAY_MS, LAST - DAY_MS, MINUTE_MS)
    return Case(
        seed=seed,
        symbols=symbols,
        timeframes=tuple(draw.choice(("1m", "1m", "1m", "5m", "15m")) for _ in symbols),
        start=live_from - draw.randint(1, 4) * HOUR_MS,
        live_from=live_from,
        end=live_from + draw.randint(3, 9) * HOUR_MS,
    )


class Recording:
    """Klines in memory, read once for all runs; what a KlineStore is to a ReplayMarket."""

    @dataclass(frozen=True)
    class Range:
        symbol: str
        timeframe: str

    def __init__(self, klines: dict[str, Klines]) -> None:
        self.klines = klines

    def ranges(self) -> list[Range]:
        return [self.Range(symbol, "1m") for symbol in self.klines]

    def read(self, symbol: str, timeframe: str) -> Klines:
        return self.klines[symbol]

    def close(self) -> None:
        return


@functools.lru_cache(maxsize=1)
def recorded_source() -> tuple[Recording, Path]:
    """The recorded window, shifted."""
    folder = recorded_data()
    assert folder is not None
    market = ReplayMarket(folder, shift_weeks=SHIFT, symbols=list(RECORDED))
    klines = {symbol: _window(market._load(symbol, "1m").klines) for symbol in RECORDED}
    return Recording(klines), folder / "contracts.json"


@functools.lru_cache(maxsize=1)
def generated_source() -> tuple[Recording, None]:
    """The same window, generated."""
    source = GeneratedSource(list(GENERATED), seed=11, start="2020-10-30", days=16)
    return Recording({symbol: _window(source.klines(symbol)) for symbol in GENERATED}), None


def _window(klines: Klines) -> Klines:
    first, last = klines.datetime.searchsorted([FIRST, LAST])
    assert last > first, f"{klines.symbol} has nothing in the window"
    return klines[int(first) : int(last)]


def market_of(recorded: bool, recording: Recording | None = None) -> ReplayMarket:
    """A replay of the window, with ``recording`` in its place if given."""
    source, contracts = recorded_source() if recorded else generated_source()
    return ReplayMarket(recording or source, contracts=contracts)  # type: ignore[arg-type]


def services(market: ReplayMarket) -> tuple[MarketService, TradeService]:
    """Market data and paper trading over it."""
    service = MarketService(market)
    return service, TradeService(PaperTrade(service, cash=CASH))


def run(case: Case, store: LiveTraderStore, mode: str) -> Outcome:
    """Run the case's strategy until its window ends."""
    outcome = Outcome()
    cerebro = bt.Cerebro(stdstats=False)
    try:
        store.setup(
            cerebro,
            case.symbols,
            mode,
            timeframe=case.timeframes,
            fromdate=case.start,
            todate=case.end,
            live_from=case.live_from,
            cash=CASH if mode == "backtest" else None,
        )
        cerebro.addstrategy(RandomTrader, seed=case.seed, log=outcome.log)
        cerebro.run()
    finally:
        store.close()
    return replace(outcome, log=[entry for entry in outcome.log if _is_live(entry, case)])


def _is_live(entry: Any, case: Case) -> bool:
    return entry[0] == "fill" or entry[1] > case.live_from


def backtest(case: Case, recorded: bool) -> Outcome:
    """The reference."""
    store = LiveTraderStore(service=MarketService(market_of(recorded)), rates=RATES)
    return run(case, store, "backtest")


def paper_in_process(case: Case, recorded: bool, recording: Recording | None = None) -> Outcome:
    """Accelerated paper trading, the services used as a module."""
    store = LiveTraderStore(service=services(market_of(recorded, recording)), rates=RATES)
    return run(case, store, "paper")


@contextmanager
def server_of(recorded: bool) -> Iterator[str]:
    """A server over ipc, in a thread of its own."""
    from tests.support.serving import serving

    with serving(lambda: services(market_of(recorded))) as endpoint:
        yield endpoint


def paper_over_ipc(case: Case, recorded: bool) -> Outcome:
    """Accelerated paper trading at a server."""
    with server_of(recorded) as endpoint:
        return run(case, LiveTraderStore(endpoint, rates=RATES), "paper")
