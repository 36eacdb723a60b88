"""``livetrader cancel``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from livetrader_core.cli.context import (
    Settings,
    confirm,
    endpoint_option,
    pass_settings,
    yes_option,
)
from livetrader_core.errors import LiveTraderError, OutcomeUnknown, Unavailable
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

    \b
    livetrader cancel b-17 b-18
    livetrader cancel --all --symbol US.BABA --yes
    """
    if bool(names) == everything:
        raise click.UsageError("name the orders, or say --all")
    if symbol is not None and not everything:
        raise click.UsageError("--symbol goes with --all")
    with settings.connected(endpoint) as client:
        chosen = list(dict.fromkeys(names))
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
    asked: dict[str, str] = {}
    failed = 0
    for name in names:
        try:
            client.cancel_order(name)
            asked[name] = ""
        except (OutcomeUnknown, Unavailable) as error:
            asked[name] = f" ({error})"  # it may have been heard all the same
        except LiveTraderError as error:
            failed += 1
            settings.say((f"{name}: ", "bold"), (f"not canceled: {error}", "red"))
    deadline = time.monotonic() + wait
    for name, doubt in asked.items():
        order = _ended(client, name, deadline)
        if order is not None and order.status is OrderStatus.CANCELED:
            filled = f", {order.filled:g} of it filled before" if order.filled else ""
            settings.say((f"{name}: ", "bold"), f"canceled{filled}")
            continue
        failed += 1
        settings.say((f"{name}: ", "bold"), (f"{_told(order)}{doubt}", "red"))
    return failed


def _told(order: Order | None) -> str:
    if order is None:
        return "not known whether it was canceled: the server could not be asked"
    state = order.status.value.replace("_", " ")
    if order.status.is_final:
        return f"not canceled, it is {state}"
    return f"not canceled yet, it is {state}; `livetrader orders` shows what becomes of it"


def _ended(client: Client, name: str, deadline: float) -> Order | None:
    """The order when it has ended, else as it was last seen; None if it was not."""
    seen: Order | None = None
    while True:
        with suppress(Unavailable):  # the server may be back before the deadline
            seen = client.fetch_order(name)
        if (seen is not None and seen.status.is_final) or time.monotonic() > deadline:
            return seen
        time.sleep(_PAUSE)
