"""The trading cards: each an asynchronous function of a rig whose venue runs.

The service runs and the session is open already, unless the card is about connecting. After each
card the books of the session must be the venue's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from tests.conformance.trade_hand import agrees
from tests.conformance.trade_rig import TradeRig

Body = Callable[[TradeRig], Awaitable[None]]

_MODULES = ("life", "orders", "links", "refusals", "changes", "line", "books")


@dataclass(frozen=True)
class Card:
    """One card: its number in the table, what it does, and the course of prices that it needs."""

    number: str
    body: Body
    course: Sequence[int]
    parts: bool
    begun: bool
    checked: bool

    async def play(self, rig: type[TradeRig], wire: bool) -> None:
        """Play it with a new ``rig``. Raises AssertionError."""
        played = rig(self.course, self.parts, wire)
        await played.open_venue()
        try:
            if self.begun:
                await played.begin()
            await self.body(played)
            if self.checked:
                await agrees(played)
        finally:
            await played.close()


CARDS: dict[str, Card] = {}


def card(
    number: str,
    course: Sequence[int] = (),
    parts: bool = False,
    begun: bool = True,
    checked: bool = True,
) -> Callable[[Body], Body]:
    """The decorated function is card ``number``.

    ``course`` and ``parts`` are those of :class:`TradeRig`; ``begun``: once the service runs;
    ``checked``: the books must agree afterwards.
    """

    def register(body: Body) -> Body:
        assert number not in CARDS, f"two cards have the number {number}"
        CARDS[number] = Card(number, body, course, parts, begun, checked)
        return body

    return register


def load() -> dict[str, Card]:
    """All cards by number."""
    for name in _MODULES:
        import_module(f"tests.conformance.trade_cards.{name}")
    return CARDS
