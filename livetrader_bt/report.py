"""Reports on runs: tables for a terminal, two runs' fills side by side, a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from livetrader_bt.results import (
    COMPARED,
    FillComparison,
    FillPair,
    RunFill,
    RunSummary,
    SymbolStats,
)

#: Longest table of fills before equal ones in its middle are folded.
MAX_ROWS = 40

_Row = tuple[int, FillPair]

# --------------------------------------------------------------------------- comparing


def compare_fills(first: Sequence[RunFill], second: Sequence[RunFill]) -> FillComparison:
    """Lay two runs' fills side by side, order by order.

    A fill that only one run has stands alone, so that one missing fill doesn't make all later
    ones differ. Nothing is rounded: equal means equal to the last bit.
    """
    keys, others = _keys(first), _keys(second)
    if keys == others:
        return FillComparison(tuple(map(FillPair, first, second)))
    pairs: list[FillPair] = []
    matcher = SequenceMatcher(None, keys, others, autojunk=False)
    for _, i, i_end, j, j_end in matcher.get_opcodes():
        pairs += [FillPair(a, b) for a, b in zip_longest(first[i:i_end], second[j:j_end])]
    return FillComparison(tuple(pairs))


def _keys(fills: Sequence[RunFill]) -> list[tuple[Any, ...]]:
    return [tuple(getattr(fill, name) for name in COMPARED) for fill in fills]


# --------------------------------------------------------------------------- tables


def print_summary(run: RunSummary, console: Console | None = None) -> None:
    """Print what one run did: a table by symbol and one line for the account."""
    console = console or Console()
    table = Table(title=f"{run.mode}, {_period(run)}", title_justify="left", title_style="bold")
    table.add_column("symbol")
    for name in ("bars", "fills", "trades", "profit", "drawdown"):
        table.add_column(name, justify="right")
    fills = _fills_by_symbol(run)
    for stats in run.stats:
        table.add_row(
            stats.symbol,
            f"{stats.bars:,}",
            str(fills.get(stats.symbol, 0)),
            str(stats.trades),
            _money(stats.profit),
            f"{stats.drawdown:,.2f}",
        )
    table.add_section()
    table.add_row(
        f"account ({run.currency})",
        "",
        str(len(run.fills)),
        str(sum(stats.trades for stats in run.stats)),
        _money(run.profit),
        f"{run.drawdown:,.2f}",
        style="bold",
    )
    console.print(table)


def print_report(
    first: RunSummary, second: RunSummary, console: Console | None = None, rows: int = MAX_ROWS
) -> FillComparison:
    """Print two runs beside each other: symbols, fills, verdict. Returns the comparison.

    Of more than ``rows`` fills, equal ones in the middle are folded; every difference is shown.
    """
    console = console or Console()
    comparison = compare_fills(first.fills, second.fills)
    console.print()
    console.print(_symbols_table(first, second))
    console.print()
    console.print(_fills_table(first, second, comparison, rows))
    console.print(_verdict(first, second, comparison))
    return comparison


def _symbols_table(first: RunSummary, second: RunSummary) -> Table:
    table = Table(
        title=f"By symbol, in {first.currency}, {_period(first)}",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("symbol")
    table.add_column("run", style="dim")
    for name in ("bars", "fills", "trades", "profit", "drawdown"):
        table.add_column(name, justify="right")
    runs = (first, second)
    counts = [_fills_by_symbol(run) for run in runs]
    stats = [{line.symbol: line for line in run.stats} for run in runs]
    for symbol in dict.fromkeys([*stats[0], *stats[1]]):
        for index, (run, fills, by_symbol) in enumerate(zip(runs, counts, stats, strict=True)):
            label = symbol if index == 0 else ""
            table.add_row(
                *_symbol_row(label, run.mode, by_symbol.get(symbol), fills.get(symbol, 0))
            )
        table.add_section()
    for index, run in enumerate(runs):
        table.add_row(
            "account" if index == 0 else "",
            run.mode,
            "",
            str(len(run.fills)),
            str(sum(line.trades for line in run.stats)),
            _money(run.profit),
            f"{run.drawdown:,.2f}",
            style="bold",
        )
    return table


def _symbol_row(label: str, mode: str, stats: SymbolStats | None, fills: int) -> list[str | Text]:
    if stats is None:
        return [label, mode, "-", "-", "-", "-", "-"]
    return [
        label,
        mode,
        f"{stats.bars:,}",
        str(fills),
        str(stats.trades),
        _money(stats.profit),
        f"{stats.drawdown:,.2f}",
    ]


def _fills_table(
    first: RunSummary, second: RunSummary, comparison: FillComparison, rows: int
) -> Table:
    # Narrow enough for a terminal of 80 columns.
    table = Table(
        title="Fills side by side (bar: the close of the bar, UTC)",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("#", justify="right", style="dim", no_wrap=True, min_width=3)
    for heading in ("symbol", "bar", first.mode, second.mode):
        table.add_column(heading, no_wrap=True)
    table.add_column("", justify="center")
    for entry in _folded(comparison.pairs, rows):
        if isinstance(entry, int):
            table.add_row("…", f"{entry} equal fills", "", "", "", _mark(True), style="dim")
        else:
            number, pair = entry
            table.add_row(str(number), *_pair_cells(pair))
    return table


def _folded(pairs: Sequence[FillPair], rows: int) -> Iterator[_Row | int]:
    """Numbered pairs, with runs of equal ones in the middle as their count."""
    if len(pairs) <= rows:
        yield from enumerate(pairs, start=1)
        return
    edge = rows // 2
    folded = 0
    for number, pair in enumerate(pairs, start=1):
        if edge < number <= len(pairs) - edge and pair.equal:
            folded += 1
            continue
        if folded:
            yield folded
            folded = 0
        yield number, pair
    if folded:
        yield folded


def _pair_cells(pair: FillPair) -> list[str | Text]:
    either = pair.first or pair.second
    bar = either.bar if either else 0
    cells: list[str | Text] = [either.symbol if either else "", _moment(bar)[5:]]
    for fill in (pair.first, pair.second):
        if fill is None:
            cells.append(Text("no such fill", style="red"))
            continue
        trade = Text(f"{fill.side:4}", style="green" if fill.side == "buy" else "magenta")
        trade.append(f" {fill.quantity:,g} @ {fill.price:,.10g}", style="default")
        if fill.bar != bar:
            trade.append(f" at {_moment(fill.bar)[5:]}", style="red")
        cells.append(trade)
    return [*cells, _mark(pair.equal)]


def _mark(equal: bool) -> Text:
    return Text("=", style="green") if equal else Text("≠", style="bold red")


def _verdict(first: RunSummary, second: RunSummary, comparison: FillComparison) -> Text:
    names = ", ".join(COMPARED)
    count = len(comparison.pairs)
    if comparison.identical and count:
        text = f"IDENTICAL: {count} fills of {first.mode} and {second.mode} agree, order by order"
        return Text(f"{text} ({names})", style="bold green")
    if not count:
        return Text("NOTHING TO COMPARE: neither run has a fill", style="bold yellow")
    number, pair = next(
        (number, pair) for number, pair in enumerate(comparison.pairs, start=1) if not pair.equal
    )
    return Text(
        f"DIFFERENT: {comparison.different} of {count} fills differ; the first is #{number}: "
        + _difference(pair, first.mode, second.mode),
        style="bold red",
    )


def _difference(pair: FillPair, first: str, second: str) -> str:
    if pair.first is None:
        return f"{first} does not have it"
    if pair.second is None:
        return f"{second} does not have it"
    return ", ".join(
        f"{name} {_value(name, pair.first)} and {_value(name, pair.second)}"
        for name in pair.differences
    )


def _value(name: str, fill: RunFill) -> str:
    value = getattr(fill, name)
    return _moment(value) if name == "bar" else str(value)


def _fills_by_symbol(run: RunSummary) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for fill in run.fills:
        counts[fill.symbol] = counts.get(fill.symbol, 0) + 1
    return counts


def _money(amount: float) -> Text:
    return Text(f"{amount:+,.2f}", style="red" if amount < 0 else "green" if amount else "")


def _moment(ts: int) -> str:
    return datetime.fromtimestamp(ts / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M")


def _period(run: RunSummary) -> str:
    return f"{_moment(run.start)} to {_moment(run.end)} UTC" if run.end else "no bars"


# --------------------------------------------------------------------------- the picture

_INK, _GRID, _PRICE = "#2b2b33", "#e4e4ea", "#5b6b8c"
_BUY, _SELL, _FIRST, _SECOND = "#118a52", "#c92a3b", "#f2a03d", "#1f4e9c"


def write_picture(path: str | Path, *runs: RunSummary) -> None:
    """Draw each symbol's price with the fills, and the equity of ``runs`` (at most two), as a PNG.

    Prices and fills are those of the first run; fills of the second are drawn as rings around
    them, so that a fill that only one run has is seen. Times are UTC. Raises DataError if ``path``
    cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from livetrader_core.errors import DataError

    symbols = list(runs[0].prices)
    heights = [*[2.6] * len(symbols), 2.2]
    figure = Figure(figsize=(13, sum(heights) + 0.9), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    modes = " and ".join(run.mode for run in runs)
    figure.suptitle(
        f"{modes}, {_period(runs[0])}", x=0.01, ha="left", fontsize=13, weight="bold", color=_INK
    )
    for index, (axis, symbol) in enumerate(zip(axes, symbols, strict=False)):
        _draw_symbol(axis, symbol, runs, legend=index == 0)
    _draw_equity(axes[-1], runs)
    _date_axis(axes[-1])
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise DataError(f"{path}: the picture cannot be written: {error.strerror}") from error


def _draw_symbol(axis: Any, symbol: str, runs: Sequence[RunSummary], legend: bool) -> None:
    _style(axis)
    times, closes = runs[0].prices[symbol]
    axis.plot(*_with_gaps(times, closes), color=_PRICE, linewidth=0.9, zorder=2)
    _draw_fills(axis, runs[0], symbol, ring=False)
    for run in runs[1:]:
        _draw_fills(axis, run, symbol, ring=True)
    axis.set_title(symbol, loc="left", fontsize=10.5, weight="bold", color=_INK)
    stats = [line for run in runs for line in run.stats if line.symbol == symbol]
    if stats:
        axis.set_title(
            f"{stats[0].trades} trades, profit {stats[0].profit:+,.2f} {stats[0].currency}",
            loc="right",
            fontsize=9.5,
            color=_INK,
        )
    if legend:
        _fill_legend(axis, runs)


def _draw_fills(axis: Any, run: RunSummary, symbol: str, ring: bool) -> None:
    for side, marker, colour in (("buy", "^", _BUY), ("sell", "v", _SELL)):
        fills = [fill for fill in run.fills if fill.symbol == symbol and fill.side == side]
        axis.scatter(
            _dates([fill.bar for fill in fills]),
            [fill.price for fill in fills],
            marker="o" if ring else marker,
            s=75 if ring else 30,
            facecolors="none" if ring else colour,
            edgecolors=colour if ring else "white",
            linewidths=0.8 if ring else 0.6,
            alpha=0.7 if ring else 1.0,
            zorder=3 if ring else 4,
        )


def _fill_legend(axis: Any, runs: Sequence[RunSummary]) -> None:
    from matplotlib.lines import Line2D

    def entry(label: str, marker: str, face: str, edge: str, size: float) -> Any:
        return Line2D(
            [],
            [],
            linestyle="none",
            marker=marker,
            markersize=size,
            markerfacecolor=face,
            markeredgecolor=edge,
            label=label,
        )

    first = runs[0].mode
    handles = [
        entry(f"buy, {first}", "^", _BUY, _BUY, 6),
        entry(f"sell, {first}", "v", _SELL, _SELL, 6),
    ]
    handles += [entry(f"fill, {run.mode}", "o", "none", _INK, 9) for run in runs[1:]]
    axis.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=len(handles),
        fontsize=8.5,
        frameon=False,
        borderaxespad=0.2,
        handletextpad=0.3,
    )


def _draw_equity(axis: Any, runs: Sequence[RunSummary]) -> None:
    _style(axis)
    looks = ({"color": _FIRST, "linewidth": 3.2}, {"color": _SECOND, "linewidth": 1.1})
    for run, look in zip(runs, looks, strict=False):
        curve = _with_gaps(run.equity_times, run.equity)
        axis.plot(*curve, label=run.mode, zorder=2, **look)
    axis.set_title(
        f"equity ({runs[0].currency})", loc="left", fontsize=10.5, weight="bold", color=_INK
    )
    axis.legend(loc="upper left", fontsize=8.5, frameon=False)


def _style(axis: Any) -> None:
    axis.grid(True, color=_GRID, linewidth=0.8, zorder=0)
    axis.set_axisbelow(True)
    axis.tick_params(colors=_INK, labelsize=8.5, length=0)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axis.margins(x=0.01, y=0.12)
    for side, spine in axis.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_GRID)


def _date_axis(axis: Any) -> None:
    from matplotlib import dates

    # matplotlib.dates carries no types.
    untyped: Any = dates
    locator = untyped.AutoDateLocator(minticks=5, maxticks=12, tz=timezone.utc)
    formatter = untyped.ConciseDateFormatter(locator, tz=timezone.utc, show_offset=False)
    formatter.formats = ["%Y", "%b %Y", "%b %d", "%H:%M", "%H:%M", "%S.%f"]
    formatter.zero_formats = ["", "%Y", "%b %d", "%b %d", "%H:%M", "%H:%M"]
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(formatter)
    axis.set_xlabel("time (UTC)", fontsize=8.5, color=_INK, loc="right")


def _dates(times: Sequence[int]) -> Any:
    return np.asarray(times, np.int64).astype("datetime64[ms]")


def _with_gaps(times: Sequence[int], values: Sequence[float]) -> tuple[Any, Any]:
    """The curve, broken where the market was closed instead of drawn across."""
    stamps, closes = np.asarray(times, np.int64), np.asarray(values, np.float64)
    steps = np.diff(stamps)
    usual = np.median(steps) if len(steps) else 0
    holes = np.flatnonzero(steps > 30 * usual) + 1
    stamps = np.insert(stamps, holes, stamps[holes - 1] + 1)
    return stamps.astype("datetime64[ms]"), np.insert(closes, holes, np.nan)
