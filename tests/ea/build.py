"""Compiles the expert advisor with g++, once for each state of its source."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.ea.translate import read, to_cpp

ADVISOR = Path(__file__).parents[2] / "extra" / "mql4" / "LiveTrader.mq4"
_RUNTIME = Path(__file__).parent / "runtime"
#: MetaEditor takes these for errors or tells of them; what is only C++'s own fuss is left out.
_FLAGS = [
    "-std=c++17",
    "-O1",
    "-g0",
    "-fPIC",
    "-shared",
    "-fno-gnu-unique",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unused-function",
    "-Wno-unused-variable",
    "-Wno-unused-const-variable",
    "-Wno-sign-compare",
    "-Wno-unused-parameter",
]


class CompileError(Exception):
    """What g++ said of the source."""


def compiler() -> str | None:
    """Where g++ is; None if there is none."""
    return shutil.which("g++")


def library(advisor: Path = ADVISOR) -> Path:
    """The compiled advisor, from the cache if its source is as it was. Raises CompileError."""
    text = to_cpp(read(advisor))
    runtime = [path.read_text() for path in sorted(_RUNTIME.glob("*.hpp"))]
    mark = hashlib.sha256("\0".join([text, *runtime, *_FLAGS]).encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir()) / f"livetrader-ea-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder / f"{mark}.so"
    if not found.exists():
        _compile(text, found)
    return found


def _compile(text: str, target: Path) -> None:
    # Several test processes may do this at once: each makes its own, the last one stays.
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        source, made = Path(name) / "advisor.cpp", Path(name) / "advisor.so"
        source.write_text(text)
        command = ["g++", *_FLAGS, f"-I{_RUNTIME}", "-o", str(made), str(source), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CompileError(done.stderr[:8000])
        made.replace(target)
