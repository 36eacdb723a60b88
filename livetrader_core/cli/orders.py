"""``livetrader orders``."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.table import Table
from rich.text import Text

from livetrader_core.cli.context import (
    Settings,
    endpoint_option,
    json_option,
    make_table,
    parse_moment,
    pass_settings,
    print_json,
    show_average,
    show_moment,
    show_number,
)
from livetrader_core.models import Fill, Order, OrderStatus, TimeInForce

_STYLES = {
    OrderStatus.FILLED: "green",
    OrderStatus.PARTIALLY_FILLED: "green",
    OrderStatus.REJECTED: "red",
    OrderStatus.UNKNOWN: "bold yellow",
    OrderStatus.CANCELED: "dim",
    OrderStatus.EXPIRED: "dim",
}


@click.command("orders")
@click.option("--all", "everything", is_flag=True, help="Also those that have ended.")
@click.option("--fills", is_flag=True, help="Executions instead of orders.")
@click.option("--venue", is_flag=True, help="Orders at the venues that were not placed here.")
@click.option("--symbol", help="Only of this symbol.")
@click.option(
    "--since",
    callback=lambda _ctx, _param, text: parse_moment(text) if text else 0,
    metavar="TIME",
    help="Only from then on, UTC unless it names an offset: 2026-03-02, 2026-03-02T14:30.",
)
@endpoint_option
@json_option
@pass_settings
def command(
    settings: Settings,
    everything: bool,
    fills: bool,
    venue: bool,
    symbol: str | None,
    since: int,
    endpoint: str | None,
    as_json: bool,
) -> None:
    """The orders of the server; by default those that still work.

    \b
    livetrader orders
    livetrader orders --all --symbol US.BABA --since 2026-03-02
    livetrader orders --fills --json
    """
    if fills + venue + everything > 1:
        raise click.UsageError("--all, --fills and --venue are one or the other")
    with settings.connected(endpoint) as client:
        if fills:
            made = [f for f in client.fetch_fills(since) if symbol in (None, f.symbol)]
            _print(settings, made, fills_table(made), as_json)
            return
        if venue:
            orders = client.venue_orders()
        else:
            orders = client.fetch_orders() if everything else client.fetch_open_orders()
    chosen = [o for o in orders if symbol in (None, o.symbol) and o.created_at >= since]
    title = "Orders at the venues that are not ours" if venue else "Orders"
    _print(settings, chosen, orders_table(chosen, title), as_json)


def _print(
    settings: Settings, records: Sequence[Order | Fill], table: Table, as_json: bool
) -> None:
    if as_json:
        print_json([record.to_dict() for record in records])
    elif records:
        settings.out.print(table)
    else:
        settings.say(("none", "dim"))


def orders_table(orders: Sequence[Order], title: str = "Orders") -> Table:
    """Orders for people, one in a row."""
    table = make_table(
        title,
        *(
            "id",
            "symbol",
            "order",
            "quantity",
            "filled",
            "price",
            "until (UTC)",
            "status",
            "since (UTC)",
        ),
        numbers=("quantity", "filled", "price"),
    )
    for order in orders:
        filled = show_number(order.filled)
        if order.filled:
            filled += f" at {show_average(order.average_price)}"
        table.add_row(
            order.client_order_id,
            order.symbol,
            f"{order.side.value} {order.type.value.replace('_', '-')}",
            show_number(order.quantity),
            filled,
            _price(order),
            _until(order),
            _status(order),
            show_moment(order.created_at) if order.created_at else "-",
        )
    return table


def fills_table(fills: Sequence[Fill]) -> Table:
    """Executions for people, one in a row."""
    table = make_table(
        "Fills",
        *("time (UTC)", "symbol", "side", "quantity", "price", "commission", "order", "trade"),
        numbers=("quantity", "price", "commission"),
    )
    for fill in fills:
        table.add_row(
            show_moment(fill.datetime),
            fill.symbol,
            fill.side.value,
            show_number(fill.quantity),
            show_number(fill.price),
            show_number(fill.commission),
            fill.client_order_id,
            fill.trade_id,
        )
    return table


def _price(order: Order) -> str:
    parts = []
    if order.stop_price:
        parts.append(f"stop {show_number(order.stop_price)}")
    if order.trail_amount:
        parts.append(f"trails by {show_number(order.trail_amount)}")
    if order.trail_percent:
        parts.append(f"trails by {show_number(order.trail_percent * 100)} %")
    if order.price:
        parts.append(show_number(order.price))
    return ", ".join(parts) or "market"


def _until(order: Order) -> str:
    if order.time_in_force is TimeInForce.GTD and order.expires_at:
        return show_moment(order.expires_at)
    return order.time_in_force.value


def _status(order: Order) -> Text:
    style = _STYLES.get(order.status, "default")
    text = Text.assemble((order.status.value.replace("_", " "), style))
    if order.held:
        text.append(", held by the server")
    return text.append(f": {order.reason}") if order.reason else text
