"""`livetrader demo`: one strategy on three markets, as a backtest and then live on paper.

A server process of its own has the three venues' adapters, each connected to its simulated venue
by the venue's own protocol, and serves them over ipc. The strategy first runs as a backtest; then
the same file runs live against paper trading, over the same days, as fast as it reads. Both refuse
orders on the warm-up day, start flat, and must fill alike, order by order.
"""

from __future__ import annotations

import contextlib
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from livetrader_bt.live_demo import STRATEGY as LIVE_STRATEGY
from livetrader_bt.live_demo import LiveResult, print_live, trade_live
from livetrader_bt.process import serving
from livetrader_bt.report import compare_fills, print_report, write_picture
from livetrader_bt.results import FillComparison, RunSummary
from livetrader_bt.run import run_strategy
from livetrader_bt.store import LiveTraderStore
from livetrader_bt.times import moment_ms
from livetrader_core.errors import ConfigError

SYMBOLS = ("US.BABA", "FOREX.EURUSD", "SHFE.cu2002")
#: The recorded copper future is of 2019; moved by whole weeks it shares the others' days.
SHIFT_WEEKS = 52
CASH = {"USD": 200_000.0, "CNY": 1_000_000.0}
RATES = {"CNY": 0.15}
STRATEGY = "sma_cross.py"


@dataclass(frozen=True)
class Window:
    """A day to warm up, then four trading days; bars closing up to ``live_from`` only warm up."""

    warm_up_from: str
    live_from: str
    until: str


RECORDED = Window("2020-11-02T00:00", "2020-11-03T00:00", "2020-11-07T00:00")
GENERATED = Window("2025-11-03T00:00", "2025-11-04T00:00", "2025-11-08T00:00")


@dataclass(frozen=True)
class DemoResult:
    """What the demo found: both runs, their comparison, where the picture is, and what the live
    part found if it was played.
    """

    backtest: RunSummary
    paper: RunSummary
    comparison: FillComparison
    picture: Path
    live: LiveResult | None = None

    @property
    def equal(self) -> bool:
        """Whether nothing differs anywhere."""
        return self.comparison.identical and (self.live is None or self.live.equal)


def run_demo(
    data: Path | None = None,
    output: Path = Path("demo-output"),
    seed: int = 7,
    strategy: Path | None = None,
    console: Console | None = None,
    venues: bool = True,
    live: bool = True,
) -> DemoResult:
    """Run the demo and print its report.

    ``data`` is a folder of recorded klines; without it they are generated from ``seed``. The
    picture, the server's configuration and log, and the order journal are written to ``output``.
    Without ``venues`` the server reads the klines itself, with no venue's protocol between, and
    without ``live`` the part that trades the venues is left out.

    Raises ConfigError, Unavailable.
    """
    console = console or Console()
    if data is not None and not data.is_dir():
        raise ConfigError(f"{data}: there is no such folder of recorded klines")
    file = strategy or find_strategy(STRATEGY)
    window = RECORDED if data else GENERATED
    output.mkdir(parents=True, exist_ok=True)
    _introduce(console, data, seed, file, window, venues)
    with serving(output, _configuration(output, data, seed, window, venues)) as endpoint:
        console.print(f"server     a process of its own, on [bold]{endpoint}[/]")
        backtest = _run(console, file, endpoint, window, "backtest")
        paper = _run(console, file, endpoint, window, "paper")
    comparison = compare_fills(backtest.fills, paper.fills)
    print_report(backtest, paper, console=console)
    picture = output / "demo.png"
    write_picture(picture, backtest, paper)
    console.print(f"picture    [bold]{picture}[/]")
    traded = None
    if live and venues:
        console.print()
        console.print("[bold]and live[/]: one strategy trades three simulated venues at once")
        traded = trade_live(output / "live", find_strategy(LIVE_STRATEGY), seed, console)
        print_live(traded, console)
    return DemoResult(backtest, paper, comparison, picture, traded)


def find_strategy(name: str) -> Path:
    """One of the strategies that come with livetrader. Raises ConfigError."""
    beside = Path(__file__).resolve().parents[1] / "strategies"
    installed = Path(sysconfig.get_path("data")) / "share" / "livetrader" / "strategies"
    for folder in (beside, installed):
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(f"the strategy {name} is neither in {beside} nor in {installed}")


def _introduce(
    console: Console,
    data: Path | None,
    seed: int,
    strategy: Path,
    window: Window,
    venues: bool,
) -> None:
    source = f"recorded, from {data}" if data else f"generated (seed {seed})"
    console.print("[bold]livetrader demo[/]: one strategy, three markets, two modes")
    console.print(f"strategy   {strategy.name}, unchanged in both modes")
    console.print(f"klines     one minute, {source}: {', '.join(SYMBOLS)}")
    if venues:
        console.print(
            "venues     simulated, each in its own protocol to its own adapter: TDX (US stocks),\n"
            "           MetaTrader 4 with the DWX advisor (forex), tqsdk (futures)"
        )
    console.print(f"warm-up    from {window.warm_up_from} UTC: orders are refused in both runs")
    console.print(f"live       from {window.live_from} to {window.until} UTC, both start flat")
    if data:
        console.print(
            "[yellow]shifted[/]    SHFE.cu2002 was recorded a year before; its times are moved\n"
            f"           by {SHIFT_WEEKS} weeks so that the three markets share their days"
        )


# --------------------------------------------------------------------------- the server


def _configuration(output: Path, data: Path | None, seed: int, window: Window, venues: bool) -> str:
    journal = output / "journal.sqlite"
    for old in output.glob("journal.sqlite*"):
        old.unlink()
    lines = [
        "# The server of `livetrader demo`, as it was started.",
        "[journal]",
        f"path = {str(journal.resolve())!r}",
        "",
        "[markets.demo]",
        f"source = {str(data.resolve())!r}" if data else 'source = "generated"',
        f"seed = {seed}",
        f"symbols = [{', '.join(repr(symbol) for symbol in SYMBOLS)}]",
    ]
    if venues:
        lines += ['adapter = "rehearsal"', f"end = {window.until!r}"]
    else:
        lines += ['adapter = "replay"', 'speed = "max"']
    if data:
        lines.append(f"shift_weeks = {{ SHFE = {SHIFT_WEEKS} }}")
    lines += [
        "",
        "[trades.paper]",
        'adapter = "paper"',
        f"cash = {{ {', '.join(f'{k} = {v}' for k, v in CASH.items())} }}",
    ]
    return "\n".join(lines) + "\n"


# --------------------------------------------------------------------------- the two runs


def _run(console: Console, strategy: Path, endpoint: str, window: Window, mode: str) -> RunSummary:
    store = LiveTraderStore(endpoint, rates=RATES)
    with _progress(console, window, mode) as on_moment:
        started = time.monotonic()
        summary = run_strategy(
            strategy,
            store,
            SYMBOLS,
            mode,
            fromdate=window.warm_up_from,
            todate=window.until,
            live_from=window.live_from,
            cash=CASH if mode == "backtest" else None,
            on_moment=on_moment,
        )
        seconds = time.monotonic() - started
    console.print(f"{mode:10} {len(summary.fills)} fills in {seconds:.1f} s")
    return summary


@contextlib.contextmanager
def _progress(console: Console, window: Window, mode: str) -> Iterator[Callable[[int], None]]:
    start, end = moment_ms(window.warm_up_from) or 0, moment_ms(window.until) or 0
    hours = 3_600_000
    progress = Progress(
        TextColumn(f"{mode:10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("hours of market time"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with progress:
        task = progress.add_task(mode, total=(end - start) // hours)

        def on_moment(ts: int) -> None:
            progress.update(task, completed=(ts - start) // hours)

        yield on_moment
