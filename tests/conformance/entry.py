"""A line of the tables of cards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Entry:
    """What a card asks of an adapter, and the kinds of venue of which it asks that."""

    title: str
    kinds: frozenset[str]


class Column(Protocol):
    """What a table says of a rig."""

    name: str
    kind: str


def cards_table(cards: Mapping[str, Entry], rigs: Iterable[Column]) -> str:
    """The table of ``cards`` with a column for each adapter."""
    columns = sorted(rigs, key=lambda rig: rig.name)
    head = ["card", "what it asks", *(rig.name for rig in columns)]
    rows = [head, ["---"] * len(head), ["", "kind of venue", *(rig.kind for rig in columns)]]
    for number, entry in cards.items():
        marks = ["✓" if rig.kind in entry.kinds else "–" for rig in columns]
        rows.append([number, entry.title, *marks])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
