"""Reports: comparing two runs' fills, tables, the picture."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from rich.console import Console

from livetrader_bt.report import (
    _with_gaps,
    compare_fills,
    print_report,
    print_summary,
    write_picture,
)
from livetrader_bt.results import COMPARED, RunFill, RunSummary, SymbolStats
from livetrader_core.errors import DataError

MINUTE = 60_000
#: 2020-11-03 00:00 UTC.
START = 1_604_361_600_000


def fill(minute: int, **changes: object) -> RunFill:
    usual = RunFill("US.BABA", "buy", 100.0, 280.5 + minute, START + minute * MINUTE, 0.5)
    return replace(usual, **changes)  # type: ignore[arg-type]


def run(mode: str, fills: list[RunFill], **changes: object) -> RunSummary:
    times = [START + minute * MINUTE for minute in range(600)]
    values = [100_000 + 50 * float(np.sin(minute / 30)) for minute in range(600)]
    usual = RunSummary(
        mode=mode,
        fills=fills,
        stats=[
            SymbolStats("US.BABA", 600, 3, 1234.5, "USD", 77.25),
            SymbolStats("FOREX.EURUSD", 590, 0, -8.0, "USD", 9.0),
        ],
        equity_times=times,
        equity=values,
        prices={
            "US.BABA": (times, values),
            "FOREX.EURUSD": (times[:5] + times[500:], values[:105]),
        },
        currency="USD",
        start=times[0],
        end=times[-1],
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


def printed(first: RunSummary, second: RunSummary, rows: int = 40) -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    print_report(first, second, console, rows)
    return console.export_text()


FILLS = [fill(minute) for minute in range(10)]


# --------------------------------------------------------------------------- comparing


def test_equal_runs_are_identical() -> None:
    compared = compare_fills(FILLS, list(FILLS))
    assert compared.identical
    assert compared.different == 0
    assert [(pair.first, pair.second) for pair in compared.pairs] == [(f, f) for f in FILLS]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("symbol", "US.QQQ"),
        ("side", "sell"),
        ("quantity", 100.00000001),
        ("price", np.nextafter(284.5, 300)),
        ("bar", START + 4 * MINUTE + 1),
    ],
)
def test_any_difference_counts_and_is_named(name: str, value: object) -> None:
    other = [*FILLS[:4], replace(FILLS[4], **{name: value}), *FILLS[5:]]  # type: ignore[arg-type]
    compared = compare_fills(FILLS, other)
    assert not compared.identical
    assert compared.different == 1
    assert compared.pairs[4].differences == (name,)
    assert [pair.equal for pair in compared.pairs].count(False) == 1


def test_every_compared_name_has_its_test() -> None:
    assert COMPARED == ("symbol", "side", "quantity", "price", "bar")


def test_the_commission_is_not_compared() -> None:
    assert compare_fills(FILLS, [replace(f, commission=9.0) for f in FILLS]).identical


def test_a_missing_fill_stands_alone() -> None:
    compared = compare_fills(FILLS, FILLS[:3] + FILLS[4:])
    assert compared.different == 1
    assert (compared.pairs[3].first, compared.pairs[3].second) == (FILLS[3], None)
    assert compared.pairs[3].differences == COMPARED
    back = compare_fills(FILLS[:3] + FILLS[4:], FILLS)
    assert (back.pairs[3].first, back.pairs[3].second) == (None, FILLS[3])


def test_another_order_of_the_same_fills_is_a_difference() -> None:
    swapped = [FILLS[1], FILLS[0], *FILLS[2:]]
    assert not compare_fills(FILLS, swapped).identical


def test_nothing_and_something() -> None:
    assert compare_fills([], []).identical
    assert compare_fills([], FILLS).different == len(FILLS)


# --------------------------------------------------------------------------- results


def test_profit_and_drawdown_of_a_run() -> None:
    summary = run("backtest", [], equity=[100.0, 130.0, 90.0, 120.0, 95.0])
    assert summary.profit == -5.0
    assert summary.drawdown == 40.0
    empty = run("backtest", [], equity=[], equity_times=[])
    assert (empty.profit, empty.drawdown) == (0.0, 0.0)


def test_a_summary_for_programs() -> None:
    told = json.loads(json.dumps(run("paper", FILLS).to_dict()))
    assert told["mode"] == "paper"
    assert told["fills"][3]["price"] == FILLS[3].price
    assert told["symbols"][0]["profit"] == 1234.5
    assert len(told["equity"]["times"]) == len(told["equity"]["values"]) == 600


# --------------------------------------------------------------------------- tables


def test_the_report_of_equal_runs() -> None:
    text = printed(run("backtest", FILLS), run("paper", list(FILLS)))
    assert "2020-11-03 00:00 to 2020-11-03 09:59 UTC" in text
    assert text.count("+1,234.50") == 2
    assert text.count("buy  100 @ 284.5 ") == 2
    assert "11-03 00:04" in text
    assert "IDENTICAL: 10 fills of backtest and paper agree, order by order" in text
    assert "≠" not in text


def test_the_report_of_different_runs_names_the_first_difference() -> None:
    other = [*FILLS[:4], replace(FILLS[4], price=1.5), *FILLS[5:9]]
    text = printed(run("backtest", FILLS), run("paper", other))
    assert "DIFFERENT: 2 of 10 fills differ; the first is #5: price 284.5 and 1.5" in text
    assert "no such fill" in text
    assert text.count("≠") == 2


def test_a_fill_on_another_bar_says_which() -> None:
    other = [replace(FILLS[0], bar=FILLS[0].bar + MINUTE), *FILLS[1:]]
    text = printed(run("backtest", FILLS), run("paper", other))
    assert text.count("at 11-03 ") == 1
    assert text.count("≠") == 1


def test_the_fills_fit_in_eighty_columns() -> None:
    many = [replace(fill(minute), symbol="FOREX.EURUSD") for minute in range(100)]
    console = Console(width=80, file=io.StringIO(), record=True)
    print_report(run("backtest", many), run("paper", many), console=console)
    assert "…" not in console.export_text().replace("  …  ", "")


def test_a_run_without_fills_is_no_proof() -> None:
    assert "NOTHING TO COMPARE" in printed(run("backtest", []), run("paper", []))


def test_long_reports_fold_what_is_equal_and_nothing_else() -> None:
    first = [fill(minute) for minute in range(100)]
    second = [*first[:50], replace(first[50], side="sell"), *first[51:]]
    text = printed(run("backtest", first), run("paper", second), rows=10)
    assert text.count(" equal fills") == 2
    assert "45 equal fills" in text
    assert "44 equal fills" in text
    assert text.count("≠") == 1
    assert "buy  100 @ 330.5" in text
    assert "sell 100 @ 330.5" in text


def test_the_summary_of_one_run() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    print_summary(run("backtest", FILLS), console)
    text = console.export_text()
    assert "US.BABA" in text
    assert "77.25" in text
    assert "account (USD)" in text


# --------------------------------------------------------------------------- the picture


def test_the_picture_is_drawn_without_a_screen(tmp_path: Path) -> None:
    backend = matplotlib.get_backend()
    path = tmp_path / "run.png"
    write_picture(path, run("backtest", FILLS), run("paper", list(FILLS)))
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20], "big") > 1200
    assert matplotlib.get_backend() == backend


def test_a_picture_of_runs_that_did_nothing(tmp_path: Path) -> None:
    empty = RunSummary("backtest", [], [])
    write_picture(tmp_path / "empty.png", empty, empty)
    assert (tmp_path / "empty.png").exists()


def test_the_curve_is_broken_where_the_market_was_closed() -> None:
    times = [START + minute * MINUTE for minute in (0, 1, 2, 500, 501)]
    _, values = _with_gaps(times, [1.0, 2.0, 3.0, 4.0, 5.0])
    assert np.array_equal(values, [1.0, 2.0, 3.0, np.nan, 4.0, 5.0], equal_nan=True)


def test_a_picture_that_cannot_be_written_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone/run\.png: the picture cannot be written: No such"):
        write_picture(tmp_path / "gone" / "run.png", run("backtest", FILLS))
