"""The second part of `livetrader demo`: one strategy trades three venues at once, live.

Three simulated venues run in processes of their own, their clocks alike and faster than real time:
TDX (quotes of US stocks; orders are on paper), a MetaTrader 4 terminal with the DWX advisor, and
tqsdk's servers. A server connects to them by the venues' own protocols, and a strategy to the
server. At the end each venue's own books are held against what the strategy believes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import backtrader as bt
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from livetrader_bt.process import end_process, serving
from livetrader_bt.run import load_strategy
from livetrader_bt.store import LiveTraderStore
from livetrader_bt.times import moment_ms, to_num
from livetrader_core.clock import SpedClock
from livetrader_core.errors import Unavailable
from livetrader_core.models import market_of
from livetrader_core.rpc import Client
from livetrader_core.timeframe import MINUTE_MS

#: What each kind of simulated venue has.
VENUES: Mapping[str, str] = {
    "tdx": "US.BABA",
    "mt4": "FOREX.EURUSD",
    "tq": "SHFE.cu2605",
}
_NAMES = {"tdx": "paper, on TDX's quotes", "mt4": "MetaTrader 4", "tq": "tqsdk"}
#: New York, London and the night session in Shanghai are open at once from 14:30 to 17:00 UTC.
_START = "2025-11-04T14:10"
#: Minutes of market time that are traded, and how many pass in a real one.
MINUTES, SPEED = 40, 240.0
#: A strategy that trades often enough to be watched for half a minute.
STRATEGY = "donchian_breakout.py"
PARAMS = {"entry": 8, "exit": 4, "atr": 8, "stop_atr": 1.5, "step_atr": 0.25, "fraction": 0.2}
RATES = {"CNY": 0.14}
#: Minutes of history before the first live bar.
_WARM_UP = 180
#: Money is compared to the cent.
_CENT = 0.005
_SECRETS = ("MARKETS__FUTURES__", "TRADES__FUTURES__", "TRADES__FUTURES__ACCOUNT_")


@dataclass(frozen=True)
class Side:
    """What one side of the comparison says of one market.

    ``fills`` are (symbol, signed quantity, price), each as often as it happened.
    """

    fills: Counter[tuple[str, float, float]] = field(default_factory=Counter)
    working: int = 0
    positions: Mapping[str, float] = field(default_factory=dict)

    @property
    def bought(self) -> float:
        """All that was bought, in the venue's unit."""
        return sum(size * times for (_, size, _), times in self.fills.items() if size > 0)

    @property
    def sold(self) -> float:
        """All that was sold."""
        return -sum(size * times for (_, size, _), times in self.fills.items() if size < 0)


@dataclass(frozen=True)
class LiveResult:
    """Markets by name as (venue, strategy), cash by currency as (venues, strategy)."""

    markets: Mapping[str, tuple[Side, Side]]
    cash: Mapping[str, tuple[float, float]]

    @property
    def equal(self) -> bool:
        """Whether both sides say the same everywhere, money to the cent."""
        return all(a == b for a, b in self.markets.values()) and all(
            abs(a - b) < _CENT for a, b in self.cash.values()
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for programs."""

        def told(side: Side) -> dict[str, Any]:
            return {
                "fills": side.fills.total(),
                "bought": side.bought,
                "sold": side.sold,
                "working": side.working,
                "positions": dict(side.positions),
            }

        return {
            "equal": self.equal,
            "markets": {
                name: {"venue": told(venue), "strategy": told(strategy)}
                for name, (venue, strategy) in self.markets.items()
            },
            "cash": {
                currency: {"venues": venue, "strategy": strategy}
                for currency, (venue, strategy) in self.cash.items()
            },
        }


def trade_live(
    output: Path, strategy: Path, seed: int, console: Console, minutes: int = MINUTES
) -> LiveResult:
    """Let ``strategy`` trade the three venues for ``minutes`` of market time, and compare.

    What the server and the venues write is in ``output``. Raises Unavailable, ConfigError.
    """
    output.mkdir(parents=True, exist_ok=True)
    _clean(output)
    clock = SpedClock(moment_ms(_START) or 0, SPEED)
    with contextlib.ExitStack() as stack:
        venues = {kind: stack.enter_context(_venue(kind, output, clock, seed)) for kind in VENUES}
        env = {f"LIVETRADER_{name}PASSWORD": "anything" for name in _SECRETS}
        settings = _settings(output, {kind: venue.told for kind, venue in venues.items()})
        with serving(output, settings, env) as endpoint:
            console.print(
                f"live       {minutes} minutes of market time, {SPEED:g} times as fast, on "
                f"[bold]{endpoint}[/]"
            )
            broker = _run(console, endpoint, strategy, clock, minutes)
            paper = _paper_books(endpoint)
        books = {kind: venue.end() for kind, venue in venues.items()}
    books["tdx"] = paper
    return compare(books, broker)


def _clean(output: Path) -> None:
    for old in (*output.glob("*.sqlite*"), *output.glob("*-books.json")):
        old.unlink()


# --------------------------------------------------------------------------- the venues


@dataclass
class _Venue:
    """A simulated venue in a process of its own; ``told`` is how to reach it."""

    process: subprocess.Popen[str]
    books: Path
    told: dict[str, Any]

    def end(self) -> dict[str, Any] | None:
        """End it; returns its books, None if it keeps none. Raises Unavailable."""
        end_process(self.process)
        try:
            books: dict[str, Any] | None = json.loads(self.books.read_text())
        except (OSError, ValueError) as error:
            raise Unavailable(f"a simulated venue left no books: {error}") from error
        return books


@contextlib.contextmanager
def _venue(kind: str, output: Path, clock: SpedClock, seed: int) -> Iterator[_Venue]:
    books = output / f"{kind}-books.json"
    words = ["sim", kind, "--symbols", VENUES[kind], "--seed", str(seed), "--port", "0"]
    words += ["--clock", str(clock), "--books", str(books), "--json"]
    log_path = output / f"{kind}.log"
    with log_path.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "livetrader_core.cli", *words],
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
            text=True,
            # Ctrl-C reaches this process only, which then ends the others in good order.
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        with process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                if not line:
                    raise Unavailable(f"sim {kind} did not start: {log_path.read_text().strip()}")
                yield _Venue(process, books, json.loads(line))
            finally:
                end_process(process)


def _settings(output: Path, told: Mapping[str, dict[str, Any]]) -> str:
    """The server's livetrader.toml, without its endpoint."""
    trading = {
        "us": {"adapter": "paper", "cash": {"USD": 100_000.0}, "markets": ["US"]},
        "forex": {
            **told["mt4"]["trading"],
            "state": str((output / "mt4.sqlite").resolve()),
            "poll_every": 0.1,
        },
        "futures": told["tq"]["trading"],
    }
    quoting = {
        "us": told["tdx"]["settings"],
        "forex": told["mt4"]["settings"],
        "futures": told["tq"]["settings"],
    }
    lines = [
        "# The server of the live part of `livetrader demo`, as it was started.",
        "[journal]",
        f"path = {json.dumps(str((output / 'journal.sqlite').resolve()))}",
    ]
    for section, tables in (("markets", quoting), ("trades", trading)):
        for name, table in tables.items():
            lines += ["", f"[{section}.{name}]"]
            lines += [f"{key} = {_toml(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


# --------------------------------------------------------------------------- the strategy


def _run(console: Console, endpoint: str, strategy: Path, clock: SpedClock, minutes: int) -> Any:
    """Run ``strategy`` until its time is over; returns its broker."""
    chosen = load_strategy(strategy)
    begin = clock.now()
    store = LiveTraderStore(endpoint, rates=RATES, timeout=20.0)
    cerebro = bt.Cerebro(stdstats=False)
    try:
        for symbol in VENUES.values():
            cerebro.adddata(
                store.getdata(
                    dataname=symbol,
                    timeframe=bt.TimeFrame.Minutes,
                    fromdate=bt.num2date(to_num(begin - _WARM_UP * MINUTE_MS)),
                )
            )
        broker = store.getbroker(stop_orders="cancel")
        cerebro.setbroker(broker)
        cerebro.addstrategy(chosen, **PARAMS)
        with _progress(console, minutes) as progress:
            cerebro.addanalyzer(_Ending, clock=clock, minutes=minutes, progress=progress)
            cerebro.run()
        return broker
    finally:
        store.close()


class _Ending(bt.Analyzer):
    """Ends the run when its time is over, and shows how far it is."""

    params = (("clock", None), ("minutes", 0), ("progress", None))

    def start(self) -> None:
        """The run begins."""
        self._first = 0

    def next(self) -> None:
        """A moment has passed."""
        now = self.p.clock.now()
        if not self._first:
            self._first = now
        passed = (now - self._first) // MINUTE_MS
        self.p.progress(min(passed, self.p.minutes))
        if passed >= self.p.minutes:
            self.strategy.env.runstop()

    prenext = next


@contextlib.contextmanager
def _progress(console: Console, minutes: int) -> Iterator[Any]:
    progress = Progress(
        TextColumn("live      "),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} minutes of market time"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with progress:
        task = progress.add_task("live", total=minutes)
        yield lambda passed: progress.update(task, completed=passed)


# --------------------------------------------------------------------------- comparing


def _paper_books(endpoint: str) -> dict[str, Any]:
    """What the paper venue of US stocks has, as its server tells."""
    with Client(timeout=20.0) as client:
        client.connect(endpoint)
        fills = [fill for fill in client.fetch_fills() if market_of(fill.symbol) == "US"]
        return {
            "currency": "USD",
            "cash": next(b.cash for b in client.fetch_balance() if b.account == "paper"),
            "working": [o for o in client.fetch_open_orders() if market_of(o.symbol) == "US"],
            "fills": [
                {
                    "symbol": fill.symbol,
                    "quantity": fill.side.sign * fill.quantity,
                    "price": fill.price,
                }
                for fill in fills
            ],
            "positions": {
                position.symbol: position.quantity
                for position in client.fetch_positions()
                if market_of(position.symbol) == "US"
            },
        }


def compare(books: Mapping[str, dict[str, Any] | None], broker: Any) -> LiveResult:
    """Hold what each venue has in its books against what ``broker`` believes."""
    markets: dict[str, tuple[Side, Side]] = {}
    cash: dict[str, tuple[float, float]] = {}
    for kind, said in books.items():
        if said is None:
            raise Unavailable(f"the simulated venue {kind} has no account: nobody logged in")
        markets[VENUES[kind]] = (_venue_side(said), _strategy_side(broker, VENUES[kind]))
        currency = said["currency"]
        before, _ = cash.get(currency, (0.0, 0.0))
        own = broker.account.cash.get(currency, 0.0)
        cash[currency] = (before + said["cash"], own)
    return LiveResult(markets, cash)


def _venue_side(said: Mapping[str, Any]) -> Side:
    return Side(
        Counter(_row(f["symbol"], f["quantity"], f["price"]) for f in said["fills"]),
        len(said["working"]),
        {symbol: round(size, 8) for symbol, size in said["positions"].items()},
    )


def _strategy_side(broker: Any, symbol: str) -> Side:
    orders = [order for order in broker.orders if order.data.symbol == symbol]
    bits = [bit for order in orders for bit in order.executed.exbits]
    # From its own fills: what it believes of positions was compared with the venues already.
    size = round(sum(bit.size for bit in bits), 8)
    return Side(
        Counter(_row(symbol, bit.size, bit.price) for bit in bits),
        sum(order.alive() for order in orders),
        {symbol: size} if size else {},
    )


def _row(symbol: str, size: float, price: float) -> tuple[str, float, float]:
    return symbol, round(size, 8), round(price, 8)


def print_live(result: LiveResult, console: Console) -> None:
    """Print the venues' books beside what the strategy believes."""
    table = Table(
        title="The venues' books, and what the strategy believes",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("market")
    table.add_column("says", style="dim")
    for name in ("fills", "bought", "sold", "working orders", "position"):
        table.add_column(name, justify="right")
    table.add_column("")
    names = {symbol: kind for kind, symbol in VENUES.items()}
    for symbol, (venue, strategy) in result.markets.items():
        _add_row(table, symbol, _NAMES[names[symbol]], venue, "")
        _add_row(table, "", "the strategy", strategy, _verdict(venue == strategy))
        table.add_section()
    console.print(table)
    for currency, (theirs, ours) in result.cash.items():
        console.print(
            f"cash       {currency}: {theirs:,.2f} at the venues, {ours:,.2f} in the strategy  "
            f"{_verdict(abs(theirs - ours) < _CENT)}"
        )


def _add_row(table: Table, market: str, who: str, side: Side, verdict: str) -> None:
    held = ", ".join(f"{size:+g}" for size in side.positions.values()) or "flat"
    table.add_row(
        market,
        who,
        str(side.fills.total()),
        f"{side.bought:g}",
        f"{side.sold:g}",
        str(side.working),
        held,
        verdict,
    )


def _verdict(equal: bool) -> str:
    return "[green]equal[/]" if equal else "[bold red]differs[/]"
