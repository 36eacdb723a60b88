"""The cards themselves: each an asynchronous function of an opened rig.

The adapter of the rig is connected already, unless the card is about connecting.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module

from tests.conformance.hand import connect
from tests.conformance.rig import Rig

Body = Callable[[Rig], Awaitable[None]]

_MODULES = ("life", "history", "stream", "line")


@dataclass(frozen=True)
class Card:
    """One card: its number in the table, and what it does."""

    number: str
    body: Body
    connected: bool

    async def play(self, rig: Rig) -> None:
        """Play it with ``rig``, which is opened before and closed after. Raises AssertionError."""
        await rig.open()
        try:
            if self.connected:
                await connect(rig)
            await self.body(rig)
        finally:
            await rig.close()


CARDS: dict[str, Card] = {}


def card(number: str, connected: bool = True) -> Callable[[Body], Body]:
    """The decorated function is card ``number``; ``connected``: once its adapter is."""

    def register(body: Body) -> Body:
        assert number not in CARDS, f"two cards have the number {number}"
        CARDS[number] = Card(number, body, connected)
        return body

    return register


def load() -> dict[str, Card]:
    """All cards by number."""
    for name in _MODULES:
        import_module(f"tests.conformance.cards.{name}")
    return CARDS
