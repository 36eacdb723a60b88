"""Ctrl-C and SIGTERM end a command in good order, with the customary code."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.cli.conftest import process, served

STRATEGY = """
import backtrader as bt


class Endless(bt.Strategy):
    def next(self):
        print("bar", flush=True)
"""

RUN = ("run", "endless.py", "--symbols", "US.BABA", "--mode", "paper", "--from", "2025-11-03",
       "--live-from", "2025-11-04T15:00")  # fmt: skip


@pytest.fixture
def real_time(workplace: Path) -> Path:
    """The working folder, with a replay at real speed: it never comes to an end."""
    file = workplace / "livetrader.toml"
    file.write_text(file.read_text().replace("[trades", "speed = 1\n[trades"))
    (workplace / "endless.py").write_text(STRATEGY)
    return workplace


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [(signal.SIGINT, 0, "livetrader orders, livetrader positions\n"), (signal.SIGTERM, 143, "")],
)
@pytest.mark.parametrize("with_server", [True, False])
def test_a_run_that_is_ended(
    real_time: Path, number: signal.Signals, code: int, told: str, with_server: bool
) -> None:
    if with_server:
        with served(real_time):
            errors = end_run(real_time, number, code)
        assert errors.endswith(told)
        assert len(errors.splitlines()) == bool(told)
    else:
        errors = end_run(real_time, number, code)
        assert errors.startswith("no server at ")
        assert len(errors.splitlines()) == 1
    left = {path.name for path in real_time.iterdir()} - {"__pycache__"}
    assert left == {"livetrader.toml", "endless.py", "journal.sqlite"}


def end_run(folder: Path, number: signal.Signals, code: int) -> str:
    with process(*RUN, cwd=folder) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "bar\n", run.communicate(timeout=20)[1]
        run.send_signal(number)
        shown, errors = run.communicate(timeout=20)
    assert run.returncode == code, errors
    # Ctrl-C ends the run, and what it came to is shown.
    assert ("US.BABA" in shown) == (number == signal.SIGINT)
    return errors
