"""``sim`` and ``doctor``: a simulated venue, its settings as printed, and what is found there."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from livetrader_core.cli import doctor
from livetrader_core.market.finding import Finding, Verdict
from tests.cli.conftest import Run

#: A Tuesday on which US stocks, forex and copper trade.
START = "2025-11-04T14:30"
COMMAND = (sys.executable, "-m", "livetrader_core.cli", "sim")


@contextmanager
def simulated(kind: str, *options: str) -> Iterator[dict[str, Any]]:
    """``livetrader sim KIND`` as a process; what it announces. It must end cleanly."""
    process = subprocess.Popen(
        [*COMMAND, kind, "--port", "0", "--json", "--start", START, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        announced: dict[str, Any] = json.loads(process.stdout.readline())
        yield announced
        process.send_signal(signal.SIGINT)
        _, noise = process.communicate(timeout=20)
        assert process.returncode == 0, noise
        assert "Traceback" not in noise
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def written(folder: Path, name: str, settings: dict[str, Any]) -> Path:
    file = folder / "livetrader.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    file.write_text("\n".join([f"[markets.{name}]", *lines]))
    return file


@pytest.mark.parametrize(
    ("kind", "options", "checks"),
    [
        ("tdx", (), {"reachable", "symbols", "bars", "subscription", "labels"}),
        ("mt4", (), {"reachable", "symbols", "bars", "subscription", "expert advisor"}),
        ("tq", ("--symbols", "SHFE.cu2605"), {"reachable", "symbols", "bars"}),
    ],
)
def test_doctor_of_a_simulated_venue(
    cli: Run,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    options: tuple[str, ...],
    checks: set[str],
) -> None:
    if kind == "tq":
        monkeypatch.setenv("LIVETRADER_MARKETS__TQ__PASSWORD", "anything")
    with simulated(kind, "--speed", "60", *options) as venue:
        file = written(workplace, kind, venue["settings"])
        result = cli("--config", str(file), "doctor", "--patience", "10", "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)[kind]
    told = {one["check"]: one["verdict"] for one in found}
    assert checks <= told.keys(), told
    assert "failed" not in told.values()
    assert told["bars"] == "ok"


def test_doctor_looks_at_the_account_and_tries_an_order(cli: Run, workplace: Path) -> None:
    with simulated("mt4", "--speed", "60") as venue:
        file = written(workplace, "forex", venue["settings"])
        lines = file.read_text().replace("[markets.forex]", "[trades.forex]").splitlines()
        known = ("[", "adapter", "host", "push", "pull", "sub_", "time_zone", "clock")
        trades = [line for line in lines if line.startswith(known)]
        file.write_text("\n".join([*file.read_text().splitlines(), *trades]))
        options = ("--patience", "10", "--json", "--try-order", "FOREX.EURUSD,0.01,0.5")
        result = cli("--config", str(file), "doctor", "dwx", *options)
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
    assert list(found) == ["forex", "trades.forex"]
    told = {one["check"]: one for one in found["trades.forex"]}
    assert told["positions"]["found"] == "flat; 0 orders work"
    assert told["order and cancel"]["verdict"] == "ok"
    wrong = cli("--config", str(file), "doctor", "--try-order", "EURUSD")
    assert wrong.exit_code == 2
    assert "SYMBOL,QUANTITY,PRICE" in wrong.output


def test_the_variables_that_a_simulated_venue_prints_are_settings() -> None:
    command = [*COMMAND, "tq", "--port", "0", "--start", START, "--symbols", "SHFE.cu2605"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = []
        for line in process.stdout:
            told += [line.strip()] if line.startswith("LIVETRADER_") else []
            if len(told) == 3:
                process.send_signal(signal.SIGINT)
    names = ("MARKETS__TQ__PASSWORD", "TRADES__TQ__PASSWORD", "TRADES__TQ__ACCOUNT_PASSWORD")
    assert told == [f"LIVETRADER_{name}=anything" for name in names]


def test_what_is_found_is_shown_as_it_is() -> None:
    finding = Finding("reachable", Verdict.FAILED, "needs pytdx: pip install 'livetrader[tdx]'")
    console = Console(width=100, file=io.StringIO())
    console.print(doctor._table("us (tdx)", [finding]))
    assert "livetrader[tdx]" in console.file.getvalue()  # type: ignore[attr-defined]


def test_doctor_says_what_to_do_about_a_venue_that_is_away(cli: Run, workplace: Path) -> None:
    settings = {"adapter": "tdx", "host": "127.0.0.1:1", "connect_timeout": 0.5}
    result = cli("--config", str(written(workplace, "us", settings)), "doctor")
    assert result.exit_code == 1
    assert "us (tdx)" in result.stdout
    assert "failed" in result.stdout
    assert "what to do" in result.stdout
    assert "127.0.0.1:1" in result.stdout


def test_doctor_names_wrong_settings(cli: Run, workplace: Path) -> None:
    file = written(workplace, "us", {"adapter": "tdx", "host": "1.2.3.4", "us_labels": "moon"})
    result = cli("--config", str(file), "doctor", "us")
    assert result.exit_code == 1
    assert "us_labels" in result.stdout
    assert cli("--config", str(file), "doctor", "eu").exit_code == 2


def test_faults_are_shown_and_unknown_ones_refused() -> None:
    with simulated("tdx", "--fault", "cut", "--every", "0.1") as venue:
        assert venue["settings"]["clock"].startswith("2025-11-04T14:30")
    refused = subprocess.run(
        [*COMMAND, "mt4", "--port", "0", "--start", START, "--fault", "moon"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "moon" in refused.stderr
    assert "restart" in refused.stderr
