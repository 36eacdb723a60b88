"""Whose time it is: the computer's, or that of a simulated venue that runs faster or by steps."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from abc import ABC, abstractmethod
from datetime import datetime, timezone

from livetrader_core.errors import ConfigError

#: Longest single sleep in seconds: a clock that was set is noticed after at most this.
_LONGEST_NAP = 0.5
_TEXT = re.compile(r"(?P<start>.+)@(?P<anchor>\d+)x(?P<speed>[0-9.]+)")


class Clock(ABC):
    """A venue's time in UTC milliseconds. May be read from any thread."""

    @abstractmethod
    def now(self) -> int:
        """The time in UTC milliseconds."""

    @abstractmethod
    async def sleep_until(self, moment: int) -> None:
        """Return once :meth:`now` has reached ``moment`` (UTC ms)."""


class SystemClock(Clock):
    """The computer's own time."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep_until(self, moment: int) -> None:
        while (left := moment - self.now()) > 0:  # noqa: ASYNC110 - the time itself is awaited
            await asyncio.sleep(min(left / 1000, _LONGEST_NAP))


class SpedClock(Clock):
    """Time that began at ``start`` (UTC ms) when the computer's was ``anchor``, ``speed`` fold.

    Two processes with the same three numbers agree on the time. ``str(clock)`` is the form that
    settings take, such as ``2020-11-02T14:30:00+00:00@1760000000000x60``.
    """

    def __init__(self, start: int, speed: float = 1.0, anchor: int | None = None) -> None:
        if not speed > 0:
            raise ConfigError(f"speed: must be above 0, not {speed!r}")
        self.start = start
        self.speed = speed
        self.anchor = time.time_ns() // 1_000_000 if anchor is None else anchor

    def now(self) -> int:
        passed = time.time_ns() / 1_000_000 - self.anchor
        return self.start + int(passed * self.speed)

    async def sleep_until(self, moment: int) -> None:
        while (left := moment - self.now()) > 0:  # noqa: ASYNC110 - the time itself is awaited
            await asyncio.sleep(min(left / 1000 / self.speed, _LONGEST_NAP))

    def __str__(self) -> str:
        start = datetime.fromtimestamp(self.start / 1000, timezone.utc).isoformat()
        return f"{start}@{self.anchor}x{self.speed:g}"


class SteppedClock(Clock):
    """Time that stands until :meth:`advance` moves it; sleepers of every event loop wake."""

    def __init__(self, start: int) -> None:
        self._now = start
        self._lock = threading.Lock()
        self._sleepers: dict[asyncio.Future[None], int] = {}

    def now(self) -> int:
        return self._now

    def advance(self, moment: int) -> None:
        """Set the time to ``moment`` (UTC ms), which may also lie in the past (a clock jump)."""
        with self._lock:
            self._now = moment
            due = [sleeper for sleeper, until in self._sleepers.items() if until <= moment]
        for sleeper in due:
            loop = sleeper.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_wake, sleeper)

    async def sleep_until(self, moment: int) -> None:
        while True:
            sleeper = asyncio.get_running_loop().create_future()
            with self._lock:
                if self._now >= moment:
                    return
                self._sleepers[sleeper] = moment
            try:
                await sleeper
            finally:
                with self._lock:
                    del self._sleepers[sleeper]


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def parse_clock(clock: Clock | str | None) -> Clock:
    """The clock behind a setting: None is the computer's own. Raises ConfigError."""
    if clock is None:
        return SystemClock()
    if isinstance(clock, Clock):
        return clock
    match = _TEXT.fullmatch(clock.strip())
    try:
        if match is not None:
            start = datetime.fromisoformat(match["start"].replace("Z", "+00:00"))
            if start.tzinfo is not None:
                moment = round(start.timestamp() * 1000)
                return SpedClock(moment, float(match["speed"]), int(match["anchor"]))
    except ValueError:
        pass
    raise ConfigError(
        f"clock: expected START@UNIX_MSxSPEED as `livetrader sim` prints it, not {clock!r}"
    )
