"""The kill switch: it survives a restart, because it lies in the journal."""

from __future__ import annotations

import time

from livetrader_core.models import KillState
from livetrader_core.trade.journal import Journal

_NOTE = "kill"


class KillSwitch:
    """Off until it is thrown; then on, whatever is restarted, until it is lifted."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.state = KillState()

    def load(self) -> None:
        """Read the journal. Raises StorageError."""
        noted = self._journal.noted(_NOTE)
        self.state = KillState.from_dict(noted) if noted else KillState()

    def throw(self, reason: str) -> None:
        """Refuse new orders from now on. Raises StorageError; it is on all the same."""
        self._set(KillState(True, time.time_ns() // 1_000_000, reason))

    def lift(self) -> None:
        """Take new orders again. Raises StorageError."""
        self._set(KillState())

    def _set(self, state: KillState) -> None:
        if state.on:
            self.state = state  # first of all, whatever the disk does
        self._journal.note(_NOTE, state.to_dict())
        self.state = state

    @property
    def refusal(self) -> str:
        """Why an order is refused; empty if it is not."""
        if not self.state.on:
            return ""
        why = f" ({self.state.reason})" if self.state.reason else ""
        return f"the kill switch is on{why}; lift it with `livetrader kill --lift`"
