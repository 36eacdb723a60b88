"""The trading cards, and for which kind of venue each is mandatory: no adapter decides that itself.

What goes beyond them is what an adapter claims in its ``abilities``: a card about something that a
venue may lack asks it to work where it is claimed, and to be refused plainly where it is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from livetrader_core.errors import OrderRejected
from livetrader_core.models import Order, OrderType, Side, TimeInForce
from livetrader_core.trade import plan
from livetrader_core.trade.base import Abilities
from tests.conformance.entry import Entry

#: Simulated in this process; an exchange's futures, closed by offsets; positions that are tickets.
PAPER, FUTURES, HEDGING = "paper", "futures", "hedging"
TRADE_KINDS = frozenset({PAPER, FUTURES, HEDGING})

_ALL = TRADE_KINDS
#: There is a line to the venue, and the account outlives it.
_LINE = frozenset({FUTURES, HEDGING})
#: An order may be filled bit by bit.
_PARTS = frozenset({PAPER, FUTURES})

TRADE_CARDS: dict[str, Entry] = {
    "T01": Entry("connects, and tells an account that is flat", _ALL),
    "T02": Entry("a wrong password, account or host is told as such, in time", _LINE),
    "T03": Entry("a market order, both ways", _ALL),
    "T04": Entry("a limit order rests, and is filled at its price or better", _ALL),
    "T05": Entry("a stop order", _ALL),
    "T06": Entry("a stop-limit order", _ALL),
    "T07": Entry("a trailing stop follows the price, and never back", _ALL),
    "T12": Entry("an order for the day ends with its session, and says so", _ALL),
    "T13": Entry("an order until a moment ends then, and says so", _ALL),
    "T14": Entry("every other time in force: as claimed, or refused", _ALL),
    "T15": Entry("filled in parts to the end", _PARTS),
    "T16": Entry("filled in part, then canceled", _PARTS),
    "T61": Entry("stopping leaves no task, thread or socket", _ALL),
}


def trade_mandatory(kind: str) -> list[str]:
    """The numbers of the trading cards that every venue of ``kind`` has to pass."""
    return [number for number, entry in TRADE_CARDS.items() if kind in entry.kinds]


# --------------------------------------------------------------------------- docs/venues.md

VENUE, SERVER, DAY_ONLY, REFUSED = "venue", "server", "as day", "refused"


def support(adapter: Any) -> dict[str, str]:
    """Who does what an order can ask for, by the abilities that an adapter's class claims."""
    abilities: Abilities = adapter.abilities
    found = {}
    for kind in OrderType:
        found[kind.value] = _who(adapter, _order(kind), kind in abilities.types)
    for time in TimeInForce:
        claimed = time in abilities.times_in_force
        who = _who(adapter, _order(OrderType.LIMIT).but(time_in_force=time), claimed)
        lasting = TimeInForce.GTC in abilities.times_in_force
        if who is SERVER and time is TimeInForce.GTC and not lasting:
            who = DAY_ONLY
        found[time.value] = who
    found["oco, brackets"] = VENUE if abilities.linked else SERVER
    found["modify"] = VENUE if abilities.modify else REFUSED
    found["modify what the server holds"] = SERVER
    return found


def _order(kind: OrderType) -> Order:
    return Order("a", "X.A", Side.BUY, kind, 1.0)


def _who(adapter: Any, order: Order, claimed: bool) -> str:
    if claimed:
        return VENUE
    try:
        plan.check_possible(order, adapter)
    except OrderRejected:
        return REFUSED
    return SERVER


def support_table(rigs: Iterable[Any]) -> str:
    """What orders can ask for, with a column for each adapter."""
    columns = sorted(rigs, key=lambda rig: rig.name)
    told = [support(rig.trade) for rig in columns]
    head = ["", *(rig.name for rig in columns)]
    rows = [head, ["---"] * len(head)]
    rows += [[name, *(one[name] for one in told)] for name in told[0]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
