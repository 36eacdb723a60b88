"""Pressure that flows back: a replay waits for whoever follows it.

Each follower says up to which moment it is done. A follower that falls silent for longer than its
lease is taken for gone, so that a killed process does not hold a replay for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from livetrader_core.errors import InvalidRequest, TooBusy

#: How many may follow at once, and how long their names may be: both come from outside.
MAX_FOLLOWERS = 256
MAX_NAME = 64


@dataclass
class _Follower:
    window: int
    acked: int = -1
    seen: float = field(default_factory=time.monotonic)


class Pacer:
    """Holds a stream back until every follower is done with the moment.

    ``lease`` is how many seconds a follower may be silent; ``required`` how many followers must be
    there before anything moves.
    """

    def __init__(self, lease: float = 10.0, required: int = 0) -> None:
        self.lease = lease
        self.required = required
        self._followers: dict[str, _Follower] = {}
        self._moments: deque[int] = deque(maxlen=4096)
        self._changed = asyncio.Event()

    def clear(self) -> None:
        """Forget everybody and everything; it may be used in another event loop afterwards."""
        self._followers.clear()
        self._moments.clear()
        self._changed = asyncio.Event()

    def join(self, name: str, window: int = 0) -> None:
        """``name`` follows from now on; it may lag behind by ``window`` moments.

        Raises InvalidRequest, TooBusy.
        """
        if len(name) > MAX_NAME:
            raise InvalidRequest(f"a follower's name has at most {MAX_NAME} characters")
        if name not in self._followers and len(self._followers) >= MAX_FOLLOWERS:
            raise TooBusy(f"{MAX_FOLLOWERS} follow this replay already; end some of them")
        self._followers[name] = _Follower(window)
        self._changed.set()

    def ack(self, name: str, ts: int) -> None:
        """``name`` is done with everything up to ``ts`` (UTC ms)."""
        follower = self._followers.get(name)
        if follower is None:
            return
        follower.seen = time.monotonic()
        follower.acked = max(follower.acked, ts)
        self._changed.set()

    def touch(self, name: str) -> None:
        """``name`` is alive."""
        if name in self._followers:
            self._followers[name].seen = time.monotonic()

    def leave(self, name: str) -> None:
        """``name`` follows no more."""
        if self._followers.pop(name, None) is not None:
            self._changed.set()

    @property
    def followers(self) -> tuple[str, ...]:
        """Who follows."""
        return tuple(self._followers)

    async def wait(self, ts: int) -> None:
        """Return when every follower is done with ``ts``, or near enough for its window."""
        self._moments.append(ts)
        while not self._satisfied():
            self._changed.clear()
            # Not wait_for: before Python 3.12 it swallows a cancellation that meets an answer.
            reminder = asyncio.get_running_loop().call_later(self.lease / 4, self._changed.set)
            try:
                await self._changed.wait()
            finally:
                reminder.cancel()
            self._drop_silent()

    def _satisfied(self) -> bool:
        if len(self._followers) < self.required:
            return False
        return all(f.acked >= self._due(f.window) for f in self._followers.values())

    def _due(self, window: int) -> int:
        if window >= len(self._moments):
            return -1
        return self._moments[-1 - window]

    def _drop_silent(self) -> None:
        oldest = time.monotonic() - self.lease
        for name in [n for n, f in self._followers.items() if f.seen < oldest]:
            self.leave(name)
