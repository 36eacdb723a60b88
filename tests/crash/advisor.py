"""A terminal with our own expert advisor, compiled: it needs g++."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from livetrader_core.clock import Clock
from tests.crash.terminal import TerminalVenue, waves
from tests.ea.terminal import EaTerminal


class Mt4Venue(TerminalVenue):
    """A terminal with our own expert advisor, whose files are in ``folder``."""

    def __init__(self, clock: Clock, folder: str) -> None:
        files = Path(folder) / "advisor"
        files.mkdir()
        self.terminal = EaTerminal(waves("mt4"), clock, files, MaximumOrders=5000)
        super().__init__(self.terminal, self.terminal.trading)

    def address(self) -> dict[str, Any]:
        """How it is reached."""
        ports = self.terminal.inputs
        return {
            "requests": f"tcp://127.0.0.1:{ports['RequestPort']}",
            "publications": f"tcp://127.0.0.1:{ports['PublicationPort']}",
        }
