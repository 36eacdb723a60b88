"""``python -m benchmarks``: measure every row side by side and print the table."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from collections.abc import Callable
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import delivery, loading, orders, restart, ticks, universe, wire
from benchmarks.harness import Goal, Row

ROWS: dict[str, Callable[[bool], list[Row]]] = {
    "requests": wire.requests,
    "publications": wire.publications,
    "history": wire.history,
    "loading": loading.loading,
    "one-feed": delivery.one_feed,
    "many-feeds": delivery.many_feeds,
    "backlog": delivery.backlog,
    "order-latency": orders.latency,
    "order-rate": orders.throughput,
    "restart": restart.restart,
    "ticks": ticks.ticks,
    "universe": universe.universe,
}
REPORT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
COMMAND = "make bench"


def figure(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def results(row: Row) -> str:
    """What was measured, contender by contender."""
    return ", ".join(f"{name} {figure(value)}" for name, value in row.values.items())


def verdicts(row: Row) -> list[str]:
    """Each goal, and whether it is reached."""
    told = []
    for goal in row.goals:
        mark = "reached" if goal.reached(row.values) else "NOT REACHED"
        ratio = f"{goal.ratio(row.values):.2g} ×, " if isinstance(goal, Goal) else ""
        told.append(f"{ratio}goal {goal.text()}: {mark}")
    return told


def show(rows: list[Row], console: Console) -> None:
    """The table, for a person."""
    table = Table("what", "unit", "measured", "goals", title="benchmarks, medians")
    for row in rows:
        table.add_row(row.name, row.unit, results(row), "\n".join(verdicts(row)))
    console.print(table)


def machine() -> str:
    """What it was measured on."""
    packages = ("backtrader", "pyzmq", "msgpack", "numpy", "uvloop", "zerorpc", "pandas")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return (
        f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}; {versions}"
    )


def report(rows: list[Row]) -> str:
    """The page for docs/."""
    lines = [
        "# Benchmarks",
        "",
        f"Written by `{COMMAND}` on {date.today().isoformat()}: {machine()}.",
        "",
        "Every row measures livetrader beside what a user would otherwise have, in one run, in",
        "turns. Figures are medians over the rounds. The machine is shared and noisy: the ratios",
        "mean more than the figures. `python -m benchmarks ROW … --quick` runs single rows;",
        f"the rows are {', '.join(f'`{name}`' for name in ROWS)}.",
        "",
        "| what | unit | measured | against the goal |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        note = f" ({row.note})" if row.note else ""
        told = "; ".join(verdicts(row)) or "–"
        lines.append(f"| {row.name}{note} | {row.unit} | {results(row)} | {told} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write. 0 whatever the figures are: they are claims, not tests."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of: {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="few repetitions, to see that it runs")
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.name}")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}")
    console = Console()
    rows: list[Row] = []
    for name in options.rows or ROWS:
        with console.status(f"measuring {name} …"):
            rows += ROWS[name](options.quick)
    show(rows, console)
    if options.write:
        REPORT.write_text(report(rows))
        console.print(f"written to {REPORT.relative_to(Path.cwd())}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
