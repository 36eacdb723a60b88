"""What the expert advisor is asked to publish, and asked again before it forgets."""

from __future__ import annotations

import logging

from livetrader_core.market.metatrader.market import Kind
from livetrader_core.market.mt4 import fields
from livetrader_core.market.mt4.line import Line
from livetrader_core.market.mt4.refusal import refusal_of

log = logging.getLogger(__name__)

#: The advisor keeps a symbol for two minutes (computer's time, seconds).
RENEWAL = 60.0
_AT_ONCE = 50
_TOPICS: dict[Kind, str] = {"rates": "bar", "prices": "tick"}


class Watches:
    """The broker's symbols whose bars (``rates``) and ticks (``prices``) are watched."""

    def __init__(self) -> None:
        self._readers: dict[tuple[Kind, str], int] = {}
        self._told: dict[str, float] = {}
        self._warned: set[str] = set()

    def codes(self) -> list[str]:
        """The symbols that somebody watches."""
        return list(dict.fromkeys(code for _, code in self._readers))

    def add(self, kind: Kind, code: str, line: Line | None) -> None:
        """One more watches ``code``."""
        count = self._readers.get((kind, code), 0)
        self._readers[kind, code] = count + 1
        if line is not None and not count:
            line.subscribe(_topic(kind, code))

    def remove(self, kind: Kind, code: str, line: Line | None) -> None:
        """One less watches ``code``. The advisor is not told: others may watch it too."""
        count = self._readers.pop((kind, code)) - 1
        if count:
            self._readers[kind, code] = count
        elif line is not None:
            line.unsubscribe(_topic(kind, code))

    def begin(self, line: Line) -> None:
        """On a new line nothing is published to us yet."""
        self._told.clear()
        self._warned.clear()
        for kind, code in self._readers:
            line.subscribe(_topic(kind, code))

    def end(self, line: Line) -> None:
        """The line is left to others."""
        for kind, code in self._readers:
            line.unsubscribe(_topic(kind, code))

    async def update(self, line: Line, now: float) -> None:
        """Name what was not named for a minute. ``now`` is the loop's time. Raises Unavailable."""
        watched = self.codes()
        self._told = {code: at for code, at in self._told.items() if code in watched}
        due = [code for code in watched if now - self._told.get(code, -RENEWAL) >= RENEWAL]
        for first in range(0, len(due), _AT_ONCE):
            part = due[first : first + _AT_ONCE]
            await self._name(line, part)
            self._told.update(dict.fromkeys(part, now))

    async def _name(self, line: Line, codes: list[str]) -> None:
        try:
            body = await line.request("watch", *codes)
        except Exception as error:
            refusal = refusal_of(error)
            if refusal is None or refusal.code != "limit":
                raise
            # Bars are still read from the history; only ticks lack.
            self._warn(line, codes, str(error))
            return
        unknown = [name for name in fields.items(body, "unknown") if isinstance(name, str)]
        if unknown:
            self._warn(line, unknown, "the terminal has no such symbol")

    def _warn(self, line: Line, codes: list[str], why: str) -> None:
        new = [code for code in codes if code not in self._warned]
        self._warned.update(new)
        if new:
            log.warning("%s: not watched: %s: %s", line.address, ", ".join(new), why)


def _topic(kind: Kind, code: str) -> str:
    return f"{_TOPICS[kind]}|{code}|"
