"""OCO groups and brackets, by backtrader's BackBroker's rules.

Of a group, one order that is filled, if only in part, or that ends in any way cancels the rest;
after that the group is over, and who names it begins another. The children of a bracket sleep until
their parent is filled and wake with the round after that; the first of them that ends, or a parent
that ends without being filled, cancels the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from livetrader_core.models import Order

#: Links that are kept at least.
_FORGET_FROM = 1000


@dataclass
class Links:
    """Orders by client_order_id."""

    #: The first order of each order's group, and who is in the group.
    leaders: dict[str, str] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    #: The parent of each child, and who is in its bracket.
    parents: dict[str, str] = field(default_factory=dict)
    brackets: dict[str, list[str]] = field(default_factory=dict)
    #: Children that wake with the next round.
    waking: list[str] = field(default_factory=list)

    def add(self, order: Order, parent_filled: bool) -> None:
        """Take a new order; ``parent_filled``: its parent was filled before it came."""
        name = order.client_order_id
        if order.oco:
            leader = self.leaders.get(order.oco, order.oco)
            self.leaders[name] = leader
            self.groups.setdefault(leader, []).append(name)
        else:
            self.leaders[name] = name
            self.groups[name] = [name]
        if order.parent:
            self.parents[name] = order.parent
            self.brackets.setdefault(order.parent, []).append(name)
            if parent_filled:
                self.waking.append(name)
        else:
            self.brackets[name] = [name]

    def drop(self, name: str) -> None:
        """Undo :meth:`add`."""
        for members in (
            self.groups.get(self.leaders.pop(name), []),
            self.brackets.get(self.parents.pop(name, name), []),
            self.waking,
        ):
            if name in members:
                members.remove(name)

    def wake(self) -> list[str]:
        """The children whose parents were filled before this round."""
        waking, self.waking = self.waking, []
        return waking

    def leave_group(self, name: str) -> list[str]:
        """An order was filled or has ended: its group is over. Returns who was in it."""
        return self.groups.pop(self.leaders.get(name, name), [])

    def end_in_bracket(self, name: str, is_over: bool) -> list[str]:
        """An order has ended; ``is_over``: otherwise than by being filled.

        Returns who ends with it, in the order of arrival; may name orders that have ended.
        """
        parent = self.parents.get(name, name)
        members = self.brackets.get(parent)
        if members is None:
            return []
        if is_over or name in self.parents:
            del self.brackets[parent]
            return members
        children = [other for other in members if other != name]
        self.brackets[parent] = children
        self.waking += children
        return []

    def forget_all_but(self, working: Collection[str]) -> None:
        """Forget what no order of ``working`` has to do with, once that is the most of it."""
        if len(self.leaders) <= _FORGET_FROM + 2 * len(working):
            return
        self.groups = {
            leader: names for leader, names in self.groups.items() if _any(names, working)
        }
        self.leaders = {
            name: leader
            for name, leader in self.leaders.items()
            if name in working or leader in self.groups
        }
        self.brackets = {
            parent: names
            for parent, names in self.brackets.items()
            if parent in working or _any(names, working)
        }
        self.parents = {name: parent for name, parent in self.parents.items() if name in working}
        self.waking = [name for name in self.waking if name in working]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "leaders": self.leaders,
            "groups": self.groups,
            "parents": self.parents,
            "brackets": self.brackets,
            "waking": self.waking,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Links:
        """The links behind :meth:`to_dict`."""
        return cls(**data)


def _any(names: Iterable[str], working: Collection[str]) -> bool:
    return any(name in working for name in names)
