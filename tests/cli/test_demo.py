"""``demo``: what it hands on, what it prints, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import livetrader_bt.demo
from livetrader_bt.demo import DemoResult
from livetrader_bt.live_demo import LiveResult
from livetrader_bt.report import compare_fills
from livetrader_bt.results import RunFill, RunSummary
from tests.cli.conftest import Run

FILL = RunFill("US.BABA", "buy", 1.0, 2.0, 3)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the demo was asked for; its two runs fill alike, unless ``paper`` is set here."""
    asked: dict[str, Any] = {"paper": [FILL]}

    def run_demo(
        data: Path | None,
        output: Path,
        seed: int,
        strategy: Path | None,
        console: Console | None = None,
        venues: bool = True,
        live: bool = True,
    ) -> DemoResult:
        asked.update(data=data, output=output, seed=seed, strategy=strategy)
        asked.update(venues=venues, live=live)
        assert console is not None
        console.print("the report")
        backtest = RunSummary("backtest", [FILL], [])
        paper = RunSummary("paper", asked["paper"], [])
        compared = compare_fills(backtest.fills, paper.fills)
        return DemoResult(backtest, paper, compared, output / "demo.png", asked.get("traded"))

    monkeypatch.setattr(livetrader_bt.demo, "run_demo", run_demo)
    return asked


def test_the_demo_by_default(cli: Run, asked: dict[str, Any]) -> None:
    result = cli("demo")
    assert result.exit_code == 0, result.output
    assert "the report" in result.stdout
    assert (asked["data"], asked["output"]) == (None, Path("demo-output"))
    assert asked["venues"]
    assert asked["live"]


def test_what_is_asked_for_is_handed_on(
    cli: Run, asked: dict[str, Any], recordings: Path, workplace: Path
) -> None:
    (workplace / "mine.py").write_text("")
    options = (
        "--data",
        str(recordings),
        "--output",
        "out",
        "--seed",
        "3",
        "--strategy",
        "mine.py",
        "--replay",
        "--no-live",
    )
    assert cli("demo", *options).exit_code == 0
    assert asked["data"] == recordings
    assert asked["output"] == Path("out")
    assert asked["seed"] == 3
    assert asked["strategy"] == Path("mine.py")
    assert not asked["venues"]
    assert not asked["live"]


def test_runs_that_differ_end_with_1(cli: Run, asked: dict[str, Any]) -> None:
    asked["paper"] = []
    assert cli("demo").exit_code == 1


def test_books_that_differ_end_with_1(cli: Run, asked: dict[str, Any]) -> None:
    asked["traded"] = LiveResult({}, {"USD": (1.0, 1.0)})
    assert cli("demo").exit_code == 0
    asked["traded"] = LiveResult({}, {"USD": (1.0, 1.01)})
    result = cli("demo", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["live"]["equal"] is False


def test_json_is_all_that_is_on_standard_output(cli: Run, asked: dict[str, Any]) -> None:
    result = cli("demo", "--json")
    told = json.loads(result.stdout)
    assert told["identical"] is True
    assert [run["mode"] for run in told["runs"]] == ["backtest", "paper"]
    assert "the report" in result.stderr


def test_a_folder_that_is_not_there_is_wrong_usage(cli: Run, asked: dict[str, Any]) -> None:
    result = cli("demo", "--data", "nowhere")
    assert result.exit_code == 2
    assert "nowhere" in result.stderr
    assert "seed" not in asked
