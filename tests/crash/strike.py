"""A process that kills itself when a line is about to run."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any

from tests.rpc.wiring import ROOT

_HOME = ROOT / "livetrader_core"


def codes(functions: Iterable[Callable[..., Any]]) -> dict[CodeType, str]:
    """The code of each function, and the file it is in."""
    found = [function.__code__ for function in functions]
    return {code: _short(code.co_filename) for code in found}


def _short(path: str) -> str:
    return os.path.relpath(path, _HOME if path.startswith(str(_HOME)) else ROOT)


def lines_of(functions: Iterable[Callable[..., Any]]) -> list[str]:
    """Every line of ``functions``, as ``FILE:NUMBER``."""
    found = {
        (name, line)
        for code, name in codes(functions).items()
        for _, _, line in code.co_lines()
        if line is not None and line > code.co_firstlineno
    }
    return [f"{name}:{line}" for name, line in sorted(found)]


def kill_at(functions: Iterable[Callable[..., Any]], where: str, nth: int) -> None:
    """SIGKILL this process when line ``where`` of ``functions`` is about to run the ``nth`` time.

    This thread is watched, and those that start from now on.
    """
    watched, hits = codes(functions), 0

    def on_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal hits
        if event == "line" and f"{watched[frame.f_code]}:{frame.f_lineno}" == where:
            hits += 1
            if hits == nth:
                os.kill(os.getpid(), signal.SIGKILL)
        return on_line

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        return on_line if frame.f_code in watched else None

    threading.settrace(on_call)
    sys.settrace(on_call)
