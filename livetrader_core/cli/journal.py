"""``livetrader journal``."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, TextIO

import click

from livetrader_core.cli.context import (
    Settings,
    endpoint_option,
    make_table,
    pass_settings,
    show_moment,
    show_number,
)
from livetrader_core.cli.journal_source import open_source
from livetrader_core.errors import StorageError
from livetrader_core.models import Fill, Order, TradeEvent

_file = click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The journal, instead of the configured one.",
)


@click.group("journal")
def command() -> None:
    """What was ordered and what became of it: every event, from the journal.

    The file of a stopped server is read, never changed; that of a running one has the server itself
    read it.

    \b
    livetrader journal show b-17
    livetrader journal verify
    livetrader journal export fills --output fills.csv
    """


@command.command("show")
@click.argument("names", metavar="[ORDER_ID…]", nargs=-1)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="How many of the latest events, if no order is named.",
)
@_file
@endpoint_option
@pass_settings
def show(
    settings: Settings, names: tuple[str, ...], limit: int, file: Path | None, endpoint: str | None
) -> None:
    """Print the events of the named orders, or the latest of all.

    \b
    livetrader journal show
    livetrader journal show b-17 b-18
    livetrader journal show --file copy.sqlite --limit 100
    """
    with open_source(settings, file, endpoint) as journal:
        if names:
            events = settings.watched(journal.events_of(names), journal.where, None)
        else:
            events = journal.latest(limit)
        chosen = list(events)
    if not chosen:
        settings.say(("none", "dim"))
        return
    table = make_table(
        "Journal",
        *("event", "time (UTC)", "order", "symbol", "what", "status", "filled"),
        numbers=("event", "filled"),
    )
    for event in chosen:
        table.add_row(*_cells(event))
    settings.out.print(table)


def _cells(event: TradeEvent) -> tuple[str, ...]:
    order, fill = event.order, event.fill
    what = f"{order.side.value} {show_number(order.quantity)} {order.type.value}"
    if fill is not None:
        what = f"filled {show_number(fill.quantity)} at {show_number(fill.price)}"
    status = order.status.value.replace("_", " ")
    return (
        f"{event.seq:,}",
        show_moment(event.clock),
        order.client_order_id,
        order.symbol,
        what,
        f"{status}: {order.reason}" if order.reason else status,
        show_number(order.filled),
    )


@command.command("verify")
@_file
@endpoint_option
@pass_settings
def verify(settings: Settings, file: Path | None, endpoint: str | None) -> None:
    """Check that the journal holds together; ends with code 1 if it does not.

    \b
    livetrader journal verify
    livetrader journal verify --file copy.sqlite
    """
    with open_source(settings, file, endpoint) as journal:
        audit, where = journal.audit(settings), journal.where
    for fault in audit.faults:
        settings.say(("fault    ", "red"), fault)
    for missing in audit.missing:
        settings.say(("missing  ", "yellow"), missing)
    settings.say(
        f"{where}: {audit.events:,} events, {len(audit.orders):,} orders, "
        f"{len(audit.fills):,} fills"
    )
    if audit.faults:
        settings.note(
            "keep the file as it is, restore a copy or begin a new one, and reconcile: "
            "docs/journal.md"
        )
    if audit.missing:
        settings.note(
            "the server asks the venues for missing fills when it starts and at `livetrader "
            "reconcile`; if they stay away: docs/journal.md"
        )
    if audit.faults or audit.missing:
        raise click.exceptions.Exit(1)
    settings.say(("it holds together", "green"))


@command.command("export")
@click.argument("what", type=click.Choice(["events", "orders", "fills"]))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "jsonl"]),
    default="csv",
    show_default=True,
    help="Rows, or one JSON text in each line.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write; by default standard output.",
)
@_file
@endpoint_option
@pass_settings
def export(
    settings: Settings,
    what: str,
    kind: str,
    output: Path | None,
    file: Path | None,
    endpoint: str | None,
) -> None:
    """Write all events, orders (as they stand now) or fills, oldest first.

    \b
    livetrader journal export fills --output fills.csv
    livetrader journal export events --format jsonl | gzip > events.jsonl.gz
    """
    with open_source(settings, file, endpoint) as journal:
        records: Iterable[Any] = getattr(journal, what)()
        if output is not None or not settings.out.is_terminal:
            records = settings.watched(records, what, journal.count(what))
        if output is None:
            _write(sys.stdout, kind, what, records)
            return
        with _replacing(output) as target:
            count = _write(target, kind, what, records)
    settings.note(f"{output}: {count:,} {what}")


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A file that takes the place of ``path`` when all was written to it. Raises StorageError."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as target:
            yield target
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageError(f"{path}: cannot be written: {error.strerror}") from error
        raise


_ORDER = [field.name for field in fields(Order)]
_FILL = [field.name for field in fields(Fill)]
_COLUMNS = {
    "orders": _ORDER,
    "fills": _FILL,
    "events": ["seq", "clock", *_ORDER, *(f"fill_{name}" for name in _FILL)],
}


def _write(
    target: TextIO, kind: str, what: str, records: Iterable[Order | Fill | TradeEvent]
) -> int:
    count = 0
    rows = csv.DictWriter(target, _COLUMNS[what])
    if kind == "csv":
        rows.writeheader()
    for record in records:
        count += 1
        if kind == "csv":
            rows.writerow(_row(record))
        else:
            target.write(json.dumps(record.to_dict(), ensure_ascii=False) + "\n")
    return count


def _row(record: Order | Fill | TradeEvent) -> dict[str, Any]:
    if not isinstance(record, TradeEvent):
        return record.to_dict()
    fill = record.fill.to_dict() if record.fill else {}
    of_fill = {f"fill_{name}": value for name, value in fill.items()}
    return {"seq": record.seq, "clock": record.clock, **record.order.to_dict(), **of_fill}
