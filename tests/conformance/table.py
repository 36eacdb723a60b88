"""The cards, and for which kind of venue each is mandatory: no adapter decides that itself.

``python -m tests.conformance.table`` writes the table of docs/venues.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.conformance.entry import Entry, cards_table
from tests.conformance.rig import Rig
from tests.conformance.trade_rig import TradeRig
from tests.conformance.trade_table import TRADE_CARDS, support_table

#: A venue one asks for klines; one that trades too; a recording, which has no line to be cut.
QUOTES, BROKER, REPLAY = "quotes", "broker", "replay"
KINDS = frozenset({QUOTES, BROKER, REPLAY})

_ALL = KINDS
_LINE = frozenset({QUOTES, BROKER})


MARKET_CARDS: dict[str, Entry] = {
    "M01": Entry("connects, and answers at once", _ALL),
    "M02": Entry("a venue that is down is told as such, in time", _LINE),
    "M03": Entry("symbols and their contracts", _ALL),
    "M04": Entry("an unknown symbol is refused", _ALL),
    "M05": Entry("an unknown timeframe is refused", _ALL),
    "M10": Entry("history by count", _ALL),
    "M11": Entry("history by time: from inclusive, to exclusive", _ALL),
    "M12": Entry("the newest of a range", _ALL),
    "M13": Entry("a time without klines is empty", _ALL),
    "M14": Entry("history before the first kline and beyond the last", _ALL),
    "M15": Entry("all history, over a change of daylight saving, without hole", _ALL),
    "M16": Entry("history never shows a kline before it closes", _ALL),
    "M17": Entry("the forming kline, on request and marked as such", _LINE),
    "M18": Entry("longer timeframes", _ALL),
    "M19": Entry("daily klines by the trading day", _ALL),
    "M20": Entry("each closed kline once, in order, when it closes", _ALL),
    "M21": Entry("two symbols are never mixed", _ALL),
    "M22": Entry("a stream of a longer timeframe", _ALL),
    "M23": Entry("the clock says a moment once all of it was given", _ALL),
    "M24": Entry("a leap of the clock leaves nothing out", _ALL),
    "M25": Entry("from the end of one trading day into the next", _ALL),
    "M26": Entry("history and stream join without hole", _ALL),
    "M27": Entry("two readers of one symbol", _ALL),
    "M28": Entry("a reader that goes away, and comes back", _ALL),
    "M29": Entry("a reader that fails over a kline holds up nobody", _ALL),
    "M30": Entry("a cut line: no kline missing, none twice", _LINE),
    "M31": Entry("a venue that restarts: the same", _LINE),
    "M32": Entry("a venue that stalls: the same", _LINE),
    "M33": Entry("a slow venue: the same", _LINE),
    "M34": Entry("empty answers: the same", _LINE),
    "M35": Entry("a venue that repeats itself: the same", _LINE),
    "M36": Entry("the state of the line is told, once per change", _LINE),
    "M37": Entry("a request while the venue is away: an answer or Unavailable", _LINE),
    "M40": Entry("disconnect leaves no task, thread or socket", _ALL),
    "M41": Entry("disconnect twice, and before connect", _ALL),
    "M42": Entry("connect again after disconnect", _ALL),
    "M43": Entry("disconnect ends what is in flight", _LINE),
}


def mandatory(kind: str) -> list[str]:
    """The numbers of the cards that every venue of ``kind`` has to pass."""
    return [number for number, entry in MARKET_CARDS.items() if kind in entry.kinds]


# --------------------------------------------------------------------------- docs/venues.md

DOCS = Path(__file__).resolve().parents[2] / "docs" / "venues.md"
END = "<!-- end of cards -->"


def begin(what: str = "cards") -> str:
    """The mark before the table ``what``: cards, trade cards or support."""
    return f"<!-- {what}: written by `python -m tests.conformance.table` -->"


def as_markdown(rigs: Iterable[type[Rig]]) -> str:
    """The table of market cards with a column for each adapter."""
    return cards_table(MARKET_CARDS, rigs)


def as_markdown_trade(rigs: Iterable[type[TradeRig]]) -> str:
    """The table of trading cards with a column for each adapter."""
    return cards_table(TRADE_CARDS, rigs)


def table_in(text: str, what: str = "cards") -> str:
    """The table that the text of docs/venues.md holds."""
    return text.partition(begin(what))[2].partition(END)[0].strip()


def with_table(text: str, table: str, what: str = "cards") -> str:
    """``text`` with ``table`` in its place."""
    before, _, rest = text.partition(begin(what))
    return f"{before}{begin(what)}\n\n{table}\n\n{END}{rest.partition(END)[2]}"


def tables() -> dict[str, str]:
    """All tables of docs/venues.md, by what they show."""
    from tests.conformance.rigs import rigs, trade_rigs

    return {
        "cards": as_markdown(rigs()),
        "support": support_table(trade_rigs()),
        "trade cards": as_markdown_trade(trade_rigs()),
    }


def main() -> None:
    """Write the tables into docs/venues.md."""
    text = DOCS.read_text(encoding="utf-8")
    for what, table in tables().items():
        text = with_table(text, table, what)
    DOCS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
