"""How far this computer's clock runs ahead of the terminal's quotes."""

from __future__ import annotations

import logging
from collections import deque

log = logging.getLogger(__name__)

_SEEN = 10
_ENOUGH = 3
#: More than this is not waited for: bars of the next minute are due then.
_MOST_MS = 50_000
_WORTH_A_WARNING_MS = 10_000


class FeedLag:
    """The least delay of recent first ticks of a minute; 0 until a few were seen.

    A bar whose time is over by this computer's clock, and which has no later one behind it, may
    still form at the broker if that clock is fast.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._delays: deque[int] = deque(maxlen=_SEEN)
        self._warned = False

    def saw(self, opened: int, now: int) -> None:
        """The first tick of the bar that opened at ``opened`` came at ``now`` (UTC ms)."""
        self._delays.append(now - opened)
        if self.ms >= _WORTH_A_WARNING_MS and not self._warned:
            self._warned = True
            log.warning(
                "%s: quotes come %d s late by this computer's clock: set it by NTP, or look at the "
                "terminal's connection",
                self._where,
                self.ms // 1000,
            )

    @property
    def ms(self) -> int:
        """The lag in milliseconds, never below 0."""
        if len(self._delays) < _ENOUGH:
            return 0
        return max(0, min(*self._delays, _MOST_MS))
