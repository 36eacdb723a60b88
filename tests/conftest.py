"""What every test has: a state folder of its own; and the figures that long tests found, told last.

A test says what it counted with ``record_property(name, value)``: numbers of one name are summed,
lists of numbers are joined and told by their median, 99th percentile and maximum.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("state")
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(folder))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    found: dict[str, list[Any]] = defaultdict(list)
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            found[name].append(value)
    if found:
        terminalreporter.section("figures")
    for name, values in sorted(found.items()):
        terminalreporter.write_line(f"{name}: {_told(values)}")


def _told(values: list[Any]) -> str:
    if not isinstance(values[0], list):
        return f"{sum(values):,}"
    joined = sorted(number for part in values for number in part)
    if not joined:
        return "none"
    late = joined[min(len(joined) - 1, int(len(joined) * 0.99))]
    return (
        f"{len(joined)}, median {statistics.median(joined):.3g}, "
        f"99 % {late:.3g}, most {joined[-1]:.3g}"
    )
