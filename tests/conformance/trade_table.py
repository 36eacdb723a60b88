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
from livetrader_core.trade.base import CHANGES, Abilities
from tests.conformance.entry import Entry

#: Simulated in this process, and ending with it or kept in a file; an exchange's futures, closed by
#: offsets; positions that are tickets.
PAPER, KEPT, FUTURES, HEDGING = "paper", "kept paper", "futures", "hedging"
TRADE_KINDS = frozenset({PAPER, KEPT, FUTURES, HEDGING})

_ALL = TRADE_KINDS
#: There is a line to the venue.
_LINE = frozenset({FUTURES, HEDGING})
#: The account outlives this program.
_LASTS = frozenset({KEPT, FUTURES, HEDGING})
#: An order may be filled bit by bit.
_PARTS = frozenset({PAPER, KEPT, FUTURES})

TRADE_CARDS: dict[str, Entry] = {
    "T01": Entry("connects, and tells an account that is flat", _ALL),
    "T02": Entry("a wrong password, account or host is told as such, in time", _LINE),
    "T03": Entry("a market order, both ways", _ALL),
    "T04": Entry("a limit order rests, and is filled at its price or better", _ALL),
    "T05": Entry("a stop order", _ALL),
    "T06": Entry("a stop-limit order", _ALL),
    "T07": Entry("a trailing stop follows the price, and never back", _ALL),
    "T08": Entry("one cancels the other", _ALL),
    "T09": Entry("a bracket: the gain is taken, the loss is gone", _ALL),
    "T10": Entry("a bracket: the loss is taken, the gain is gone", _ALL),
    "T11": Entry("a bracket whose first order is canceled is gone", _ALL),
    "T12": Entry("an order for the day ends with its session, and says so", _ALL),
    "T13": Entry("an order until a moment ends then, and says so", _ALL),
    "T14": Entry("every other time in force: as claimed, or refused", _ALL),
    "T15": Entry("filled in parts to the end", _PARTS),
    "T16": Entry("filled in part, then canceled", _PARTS),
    "T20": Entry("a price between two ticks is refused", _ALL),
    "T21": Entry("a quantity between two steps is refused", _ALL),
    "T22": Entry("not enough money: refused, with the reason", _ALL),
    "T23": Entry("an unknown symbol is refused", _ALL),
    "T24": Entry("a closed market: refused, with the reason", _LINE),
    "T25": Entry("what the venue refuses is REJECTED, and the next order goes through", _LINE),
    "T26": Entry("a cancel that comes before the answer", _ALL),
    "T27": Entry("a cancel that meets the fill: one of the two, and the books agree", _ALL),
    "T28": Entry("a cancel of what has ended is refused", _ALL),
    "T29": Entry("price and quantity modified as claimed, or refused and replaced", _ALL),
    "T30": Entry("one client_order_id is one order, however often it is sent", _ALL),
    "T40": Entry("a cut line with an open order: it works on", _LINE),
    "T41": Entry("filled during an outage: told afterwards, once", _LINE),
    "T42": Entry("an order that never arrived: UNKNOWN, then REJECTED", _LINE),
    "T43": Entry("an answer that never came: UNKNOWN, then what became of it", _LINE),
    "T44": Entry("no order leaves while the venue is away; the next one does", _LINE),
    "T45": Entry("a restart of everything: positions and orders found by their ids", _LASTS),
    "T46": Entry("filled while nothing ran: found at the start", _LINE),
    "T47": Entry("stopped while an answer was missing: found at the start", _LINE),
    "T48": Entry("a restart of the server ends what only it knew, and says so", frozenset({PAPER})),
    "T50": Entry("two symbols at once are never mixed", _ALL),
    "T51": Entry("a position is closed, and turned round by one order", _ALL),
    "T52": Entry("positions of today and of yesterday, closed by one order", frozenset({FUTURES})),
    "T53": Entry("a closing offset with nothing to close is refused", frozenset({FUTURES})),
    "T54": Entry("tickets are closed oldest first, one in part", frozenset({HEDGING})),
    "T55": Entry("cash to the cent over wins, losses and several symbols", _ALL),
    "T56": Entry("kill: all is canceled, positions are closed, nothing more leaves", _ALL),
    "T57": Entry("an order of somebody else is shown and left alone", _LINE),
    "T58": Entry("a position that somebody else opened is found, and told", frozenset({FUTURES})),
    "T59": Entry("a position that somebody else opened is left alone", frozenset({HEDGING})),
    "T60": Entry("no fill twice after any number of cuts", _LINE),
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
    for name in sorted(CHANGES):
        found[f"modify {name}"] = VENUE if name in abilities.modify else REFUSED
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
