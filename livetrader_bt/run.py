"""Run a strategy file in any mode: what `livetrader run` does, for use from Python."""

from __future__ import annotations

import importlib.util
import inspect
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import backtrader as bt

from livetrader_bt.recorder import Recorder
from livetrader_bt.results import RunSummary, SymbolStats
from livetrader_bt.store import LiveTraderStore
from livetrader_bt.switch import Moment
from livetrader_bt.times import moment_ms
from livetrader_core.errors import ConfigError


def load_strategy(path: str | Path, name: str | None = None) -> type[bt.Strategy]:
    """The strategy class that the file ``path`` defines: the one called ``name``, or the only one.

    Raises ConfigError naming the file.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such strategy file")
    spec = importlib.util.spec_from_file_location(f"livetrader_strategy_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # backtrader looks a class's module up by its name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{file}: {type(error).__name__}: {error}") from error
    found = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, bt.Strategy)
        and value.__module__ == spec.name
    }
    if name is not None and name in found:
        return found[name]
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    names = ", ".join(found) or "none"
    wanted = f"no strategy {name}" if name else "more or less than one strategy"
    raise ConfigError(f"{file}: {wanted}; it defines: {names}")


def check_params(strategy: type[bt.Strategy], params: Mapping[str, Any], file: Any) -> None:
    """Raise ConfigError for a parameter that ``strategy`` does not have."""
    known = strategy.params._getkeys()
    for name in params:
        if name not in known:
            raise ConfigError(
                f"{file}: {strategy.__name__} has no parameter {name!r}; it has {', '.join(known)}"
            )


def run_strategy(
    path: str | Path,
    store: LiveTraderStore,
    symbols: Sequence[str],
    mode: str = "backtest",
    *,
    strategy: str | None = None,
    params: Mapping[str, Any] | None = None,
    timeframe: str | Sequence[str] = "1m",
    fromdate: Moment = None,
    todate: Moment = None,
    live_from: Moment = None,
    cash: float | Mapping[str, float] | None = None,
    on_moment: Callable[[int], None] | None = None,
    until_ctrl_c: bool = False,
) -> RunSummary:
    """Run the strategy of the file ``path`` on ``symbols`` until its data ends.

    ``until_ctrl_c``: or until Ctrl-C, which ends the run in order; a second one at once.

    The arguments after ``mode`` are those of :meth:`LiveTraderStore.setup`; ``params`` are the
    strategy's. ``on_moment`` is called with every moment (UTC ms) the strategy sees. The store is
    closed at the end, whatever happens. Raises ConfigError, UnknownSymbol, Unavailable, and what
    the strategy raises.
    """
    chosen = load_strategy(path, strategy)
    check_params(chosen, params or {}, path)
    cerebro = bt.Cerebro(stdstats=False)
    try:
        store.setup(
            cerebro,
            symbols,
            mode,
            timeframe=timeframe,
            fromdate=fromdate,
            todate=todate,
            live_from=live_from,
            cash=cash,
        )
        cerebro.addstrategy(chosen, **(params or {}))
        cerebro.addanalyzer(
            Recorder,
            _name="livetrader",
            live_from=moment_ms(live_from) or 0,
            on_moment=on_moment,
        )
        interrupted = threading.Event()
        with _ended_by_ctrl_c(cerebro, interrupted) if until_ctrl_c else nullcontext():
            (ran,) = cerebro.run()
        summary = _summary(mode, ran.analyzers.livetrader, store)
        return replace(summary, interrupted=interrupted.is_set())
    finally:
        store.close()


@contextmanager
def _ended_by_ctrl_c(cerebro: bt.Cerebro, interrupted: threading.Event) -> Iterator[None]:
    """Signals are heard in the main thread only; elsewhere nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def end(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        interrupted.set()
        # In a thread: what is waited for is locked by the one that was interrupted.
        threading.Thread(target=cerebro.runstop, daemon=True).start()

    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _summary(mode: str, recorder: Recorder, store: LiveTraderStore) -> RunSummary:
    base = store.rates.base
    stats = [
        SymbolStats(
            symbol=record.symbol,
            bars=record.bars,
            trades=record.trades,
            profit=record.profit,
            currency=base,
            drawdown=record.drawdown,
        )
        for record in recorder.records.values()
    ]
    times = list(recorder.times)
    return RunSummary(
        mode=mode,
        fills=recorder.fills,
        stats=stats,
        equity_times=times,
        equity=list(recorder.values),
        prices={r.symbol: (list(r.times), list(r.prices)) for r in recorder.records.values()},
        currency=base,
        start=times[0] if times else 0,
        end=times[-1] if times else 0,
    )
