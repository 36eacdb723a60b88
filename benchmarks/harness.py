"""Rows of results, child processes, and interleaved rounds."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Goal:
    """``ours`` over ``reference`` must be at most ``most``, or at least ``least``."""

    ours: str
    reference: str
    most: float | None = None
    least: float | None = None

    def ratio(self, values: Mapping[str, float]) -> float:
        """What was measured."""
        return values[self.ours] / values[self.reference]

    def text(self) -> str:
        """The goal in words."""
        bound = f"≤ {self.most:g} ×" if self.most is not None else f"≥ {self.least:g} ×"
        return f"{bound} {self.reference}"

    def reached(self, values: Mapping[str, float]) -> bool:
        """Whether the bound holds."""
        ratio = self.ratio(values)
        return ratio <= self.most if self.most is not None else ratio >= (self.least or 0.0)


@dataclass(frozen=True)
class Limit:
    """``ours`` must be at most ``most`` in the row's unit."""

    ours: str
    most: float
    unit: str

    def text(self) -> str:
        """The goal in words."""
        return f"{self.ours} ≤ {self.most:g} {self.unit}"

    def reached(self, values: Mapping[str, float]) -> bool:
        """Whether the bound holds."""
        return values[self.ours] <= self.most


@dataclass
class Row:
    """One line of the table: medians by contender, and what is to be reached."""

    name: str
    unit: str
    values: dict[str, float]
    goals: list[Goal | Limit] = field(default_factory=list)
    note: str = ""


def interleaved(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of ``rounds`` measurements of each, taken in turns so that noise is shared."""
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            samples[name].append(measure())
    return {name: statistics.median(values) for name, values in samples.items()}


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of ``values`` lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@contextmanager
def peer(*arguments: str) -> Iterator[None]:
    """A far side in a process of its own; the block begins when it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.peers", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if line.strip() != "ready":
            raise RuntimeError(f"benchmarks.peers {' '.join(arguments)} did not start: {line!r}")
        yield
    finally:
        process.terminate()
        process.communicate(timeout=20)


def ask(*arguments: str) -> Any:
    """What a measuring process prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=1800,
    )
    return json.loads(done.stdout.splitlines()[-1])


def process_of(role: str, endpoint: str) -> int:
    """The process that plays ``role`` at ``endpoint``."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if role.encode() in words and endpoint.encode() in words:
                return int(entry.name)
    raise RuntimeError(f"no {role} of {endpoint}")


def cpu(process: int) -> float:
    """Seconds of processor time so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
