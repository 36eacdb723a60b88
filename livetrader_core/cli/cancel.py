"""``livetrader cancel``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from livetrader_core.cli.context import (
    Settings,
    confirm,
    endpoint_option,
    pass_settings,
    yes_option,
)
from livetrader_core.errors import LiveTraderError
from livetrader_core.models import Order, OrderStatus

if TYPE_CHECKING:
    from livetrader_core.rpc import Client

#: Seconds between two looks at what became of an order.
_PAUSE = 0.1


@click.command("cancel")
@click.argument("names", metavar="[ORDER_ID…]", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every order that still works.")
@click.option("--symbol", help="With --all: only of this symbol.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the venues' word.",
)
@yes_option
@endpoint_option
@pass_settings
def command(
    settings: Settings,
    names: tuple[str, ...],
    everything: bool,
    symbol: str | None,
    wait: float,
    yes: bool,
    endpoint: str | None,
) -> None:
    """Cancel orders, and say what became of each.

    ORDER_ID is the first column of `livetrader orders`. Ends with code 1 if one was not canceled.
    New orders are still taken: `livetrader kill` stops that too.
    """
    if bool(names) == everything:
        raise click.UsageError("name the orders, or say --all")
    if symbol is not None and not everything:
        raise click.UsageError("--symbol goes with --all")
    with settings.connected(endpoint) as client:
        chosen = list(names)
        if everything:
            orders = client.fetch_open_orders()
            chosen = [o.client_order_id for o in orders if symbol in (None, o.symbol)]
            if chosen:
                confirm(f"Cancel {len(chosen)} orders?", yes)
        if not chosen:
            settings.say(("nothing to cancel", "dim"))
            return
        failed = _cancel(settings, client, chosen, wait)
    if failed:
        raise click.exceptions.Exit(1)


def _cancel(settings: Settings, client: Client, names: Sequence[str], wait: float) -> int:
    """Cancel all first, then wait; returns how many were not canceled."""
    asked, failed = [], 0
    for name in names:
        try:
            client.cancel_order(name)
            asked.append(name)
        except LiveTraderError as error:
            failed += 1
            settings.say((f"{name}: ", "bold"), (f"not canceled: {error}", "red"))
    deadline = time.monotonic() + wait
    for name in asked:
        order = _ended(client, name, deadline)
        if order is not None and order.status is OrderStatus.CANCELED:
            filled = f", {order.filled:g} of it filled before" if order.filled else ""
            settings.say((f"{name}: ", "bold"), f"canceled{filled}")
            continue
        failed += 1
        state = "gone" if order is None else order.status.value.replace("_", " ")
        settings.say((f"{name}: ", "bold"), (f"not canceled, it is {state}", "red"))
    return failed


def _ended(client: Client, name: str, deadline: float) -> Order | None:
    while True:
        order = client.fetch_order(name)
        if order is None or order.status.is_final or time.monotonic() > deadline:
            return order
        time.sleep(_PAUSE)
