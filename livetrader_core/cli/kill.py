"""``livetrader kill``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from livetrader_core.cli.context import (
    Settings,
    confirm,
    endpoint_option,
    json_option,
    pass_settings,
    print_json,
    show_moment,
    yes_option,
)
from livetrader_core.errors import LiveTraderError
from livetrader_core.models import KillState

if TYPE_CHECKING:
    from livetrader_core.rpc import Client

#: Seconds between two looks at what is still open.
_PAUSE = 0.1


@click.command("kill")
@click.option("--flatten", is_flag=True, help="Then close every position by a market order.")
@click.option("--reason", default="", metavar="TEXT", help="Kept, and told with each refusal.")
@click.option("--status", "ask", is_flag=True, help="Only say whether it is on.")
@click.option("--lift", is_flag=True, help="Take orders again.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until nothing works and, with --flatten, nothing is held.",
)
@yes_option
@endpoint_option
@json_option
@pass_settings
def command(
    settings: Settings,
    flatten: bool,
    reason: str,
    ask: bool,
    lift: bool,
    wait: float,
    yes: bool,
    endpoint: str | None,
    as_json: bool,
) -> None:
    """Stop all trading: cancel every order, and refuse new ones until the switch is lifted.

    The switch survives restarts of the server and of every strategy. Ends with code 1 if an order
    still works, or, with --flatten, a position is still held.

    \b
    livetrader kill --reason "wrong parameters"
    livetrader kill --flatten --yes
    livetrader kill --status
    livetrader kill --lift
    """
    if ask + lift + (flatten or bool(reason)) > 1:
        raise click.UsageError("--status and --lift stand alone")
    with settings.connected(endpoint, timeout=60.0) as client:
        if ask:
            _print(settings, client.kill_state(), as_json)
            return
        if lift:
            confirm("Take orders again?", yes)
            _print(settings, client.lift(), as_json)
            return
        what = "cancel every order and close every position" if flatten else "cancel every order"
        confirm(f"Stop trading, {what}?", yes)
        done = True
        try:
            state = client.kill(flatten, reason)
        except LiveTraderError as error:
            # It is thrown before anything is canceled: what failed may have come after.
            done = False
            settings.note(f"not all was done: {error}")
            state = client.kill_state()
        _print(settings, state, as_json)
        left = _wait(client, flatten, wait)
    for told in left:
        settings.note(told)
    if left:
        settings.note("`livetrader status` shows what becomes of it")
    if left or not done:
        raise click.exceptions.Exit(1)


def _wait(client: Client, flatten: bool, patience: float) -> list[str]:
    """Wait until nothing is left to do; what is, if that takes longer than ``patience`` s."""
    deadline = time.monotonic() + patience
    while (left := _left(client, flatten)) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    return left


def _left(client: Client, flatten: bool) -> list[str]:
    left = []
    try:
        for order in client.fetch_open_orders():
            left.append(f"still open: order {order.client_order_id} ({order.status.value})")
        for position in client.fetch_positions() if flatten else []:
            left.append(f"still held: {position.quantity:g} {position.symbol}")
    except LiveTraderError as error:
        left.append(f"not known what is left: {error}")
    return left


def _print(settings: Settings, state: KillState, as_json: bool) -> None:
    if as_json:
        print_json(state.to_dict())
    elif state.on:
        settings.say(
            ("the kill switch is on", "bold red"), f" since {show_moment(state.since)} UTC"
        )
        if state.reason:
            settings.say(f"reason: {state.reason}")
        settings.say(("`livetrader kill --lift` takes orders again", "dim"))
    else:
        settings.say(("the kill switch is off; orders are taken", "green"))
