"""``livetrader journal``."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
from rich.progress import track

from livetrader_core.cli.context import (
    Settings,
    endpoint_option,
    make_table,
    pass_settings,
    show_moment,
    show_number,
)
from livetrader_core.errors import StorageError, Unavailable
from livetrader_core.models import Order, TradeEvent

if TYPE_CHECKING:
    from livetrader_core.rpc import Client
    from livetrader_core.trade.journal import JournalReader

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
    """


@command.command("show")
@click.argument("names", metavar="[ORDER_ID…]", nargs=-1)
@click.option("--limit", default=20, show_default=True, help="How many of the latest events.")
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
    with _events(settings, file, endpoint) as events:
        chosen = [e for e in events if not names or e.order.client_order_id in names]
    if not chosen:
        settings.say(("none", "dim"))
        return
    table = make_table(
        "Journal",
        *("event", "time (UTC)", "order", "symbol", "what", "status", "filled"),
        numbers=("event", "filled"),
    )
    for event in chosen if names else chosen[-limit:]:
        table.add_row(*_row(event))
    settings.out.print(table)


def _row(event: TradeEvent) -> tuple[str, ...]:
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
    from livetrader_core.trade.audit import audit_events, audit_file

    reader, client = _open(settings, file, endpoint)
    if reader is not None:
        with reader:
            audit = audit_file(reader)
        where = str(reader.path)
    else:
        assert client is not None
        with client:
            audit = audit_events(_pages(client))
        where = "the running server's journal (its events; stop it to have the file checked too)"
    for fault in audit.faults:
        settings.say(("fault  ", "red"), fault)
    settings.say(
        f"{where}: {audit.events:,} events, {len(audit.orders):,} orders, "
        f"{len(audit.fills):,} fills"
    )
    if audit.faults:
        settings.note(
            "keep the file as it is, restore a copy or begin a new one, and reconcile: "
            "docs/journal.md"
        )
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
    with _events(settings, file, endpoint) as events:
        records = _records(what, events)
        if output is None:
            _write(sys.stdout, kind, records)
            return
        shown = track(records, f"{output}", console=settings.notes, transient=True)
        with output.open("w", encoding="utf-8", newline="") as target:
            count = _write(target, kind, shown)
    settings.note(f"{output}: {count:,} {what}")


def _records(what: str, events: Iterable[TradeEvent]) -> Iterator[dict[str, Any]]:
    if what == "events":
        for event in events:
            order = event.order.to_dict()
            fill = event.fill.to_dict() if event.fill else {}
            yield {
                "seq": event.seq,
                "clock": event.clock,
                **order,
                **{f"fill_{name}": fill.get(name, "") for name in _FILL_FIELDS},
            }
    elif what == "fills":
        yield from (event.fill.to_dict() for event in events if event.fill)
    else:
        orders: dict[str, Order] = {}
        for event in events:
            orders[event.order.client_order_id] = event.order
        yield from (order.to_dict() for order in orders.values())


_FILL_FIELDS = ("trade_id", "quantity", "price", "commission", "datetime")


def _write(target: TextIO, kind: str, records: Iterable[dict[str, Any]]) -> int:
    count = 0
    writer: csv.DictWriter[str] | None = None
    for record in records:
        count += 1
        if kind == "jsonl":
            target.write(json.dumps(record, ensure_ascii=False) + "\n")
            continue
        if writer is None:
            writer = csv.DictWriter(target, list(record))
            writer.writeheader()
        writer.writerow(record)
    return count


# ---- where events come from


@contextmanager
def _events(
    settings: Settings, file: Path | None, endpoint: str | None
) -> Iterator[Iterable[TradeEvent]]:
    reader, client = _open(settings, file, endpoint)
    if reader is not None:
        with reader:
            yield _read(reader)
    elif client is not None:
        with client:
            yield _pages(client)


def _open(
    settings: Settings, file: Path | None, endpoint: str | None
) -> tuple[JournalReader | None, Client | None]:
    """The file, or, if a server has it open or was named, a client of that server."""
    from livetrader_core.trade.journal import JournalReader

    if endpoint is not None and file is not None:
        raise click.UsageError("--file and --endpoint are one or the other")
    if endpoint is not None:
        return None, _client(settings, endpoint)
    path = file or settings.config.journal.path
    try:
        return JournalReader(path), None
    except StorageError as error:
        if file is not None or "locked" not in str(error):
            raise
        try:
            return None, _client(settings, settings.server)
        except Unavailable:
            raise error from None


def _client(settings: Settings, endpoint: str) -> Client:
    from livetrader_core.cli.context import PATIENCE, PROBE_TIMEOUT
    from livetrader_core.rpc import Client

    client = Client(timeout=PROBE_TIMEOUT, keys=settings.keys)
    client.connect(endpoint)
    client.timeout = PATIENCE
    return client


def _read(reader: JournalReader) -> Iterator[TradeEvent]:
    for seq, body in reader.bodies("events", "seq"):
        try:
            yield TradeEvent.from_dict(json.loads(body))
        except (ValueError, TypeError, KeyError) as error:
            raise StorageError(
                f"journal {reader.path}: event {seq} cannot be read ({error}); "
                "`livetrader journal verify` says what is damaged"
            ) from error


def _pages(client: Client) -> Iterator[TradeEvent]:
    seq = 0
    while page := client.fetch_events(seq):
        yield from page
        seq = page[-1].seq
