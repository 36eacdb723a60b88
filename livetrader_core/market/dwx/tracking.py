"""What the expert advisor is told to publish, and told again when it has forgotten."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from livetrader_core.errors import Unavailable, UnknownSymbol
from livetrader_core.market.dwx.line import Line
from livetrader_core.market.dwx.messages import (
    answers,
    error_symbols,
    track_prices,
    track_rates,
)
from livetrader_core.market.metatrader.market import Kind

log = logging.getLogger(__name__)

_COMMANDS: dict[Kind, tuple[str, Callable[[Sequence[str]], str]]] = {
    "prices": ("TRACK_PRICES", track_prices),
    "rates": ("TRACK_RATES", track_rates),
}


class Tracking:
    """The symbols whose ticks (``prices``) and bars (``rates``) are watched, and by how many."""

    def __init__(self, code: Callable[[str], str]) -> None:
        self._code = code
        self._readers: dict[Kind, dict[str, int]] = {"prices": {}, "rates": {}}
        self._sent: dict[Kind, list[str]] = {"prices": [], "rates": []}

    def watched(self, kind: Kind) -> list[str]:
        """The symbols that somebody watches."""
        return list(self._readers[kind])

    def add(self, kind: Kind, symbol: str, line: Line | None) -> None:
        """One more watches ``symbol``."""
        readers = self._readers[kind]
        readers[symbol] = readers.get(symbol, 0) + 1
        if line is not None:
            line.subscribe(self._code(symbol))

    def remove(self, kind: Kind, symbol: str, line: Line | None) -> None:
        """One less watches ``symbol``."""
        readers = self._readers[kind]
        readers[symbol] -= 1
        if not readers[symbol]:
            del readers[symbol]
        if line is not None:
            line.unsubscribe(self._code(symbol))

    def begin(self, line: Line) -> None:
        """On a new line nothing is known to be published, and nothing is subscribed to."""
        self._sent = {"prices": [], "rates": []}
        for readers in self._readers.values():
            for symbol, count in readers.items():
                for _ in range(count):
                    line.subscribe(self._code(symbol))

    async def update(self, line: Line) -> None:
        """Tell the advisor of changes. Each list replaces the one before. Raises Unavailable."""
        for kind, (action, command) in _COMMANDS.items():
            wanted = [self._code(symbol) for symbol in self._readers[kind]]
            if wanted == self._sent[kind]:
                continue
            reply = await line.request(command(wanted), answers(action))
            if reply is None:
                raise Unavailable(f"{line.address}: {action} was not answered")
            self._sent[kind] = wanted
            if missing := error_symbols(reply):
                log.warning("%s: the terminal does not know %s", line.address, ", ".join(missing))

    async def look_up(self, symbol: str, line: Line) -> None:
        """Have the terminal select ``symbol``, as it must before it loads its history.

        The list of prices holds it until the next :meth:`update`. Raises UnknownSymbol.
        """
        code = self._code(symbol)
        wanted = [*(self._code(other) for other in self._readers["prices"]), code]
        self._sent["prices"] = wanted
        reply = await line.request(track_prices(wanted), answers("TRACK_PRICES"))
        if reply is None:
            raise Unavailable(f"{line.address}: TRACK_PRICES was not answered; try again")
        if code in (error_symbols(reply) or ()):
            raise UnknownSymbol(
                f"{symbol}: the terminal has no symbol {code}; brokers write some with a suffix "
                "(see Market Watch), which the setting 'suffix' adds"
            )
