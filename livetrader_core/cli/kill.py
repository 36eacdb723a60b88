"""``livetrader kill``."""

from __future__ import annotations

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
from livetrader_core.models import KillState


@click.command("kill")
@click.option("--flatten", is_flag=True, help="Then close every position by a market order.")
@click.option("--reason", default="", metavar="TEXT", help="Kept, and told with each refusal.")
@click.option("--status", "ask", is_flag=True, help="Only say whether it is on.")
@click.option("--lift", is_flag=True, help="Take orders again.")
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
    yes: bool,
    endpoint: str | None,
    as_json: bool,
) -> None:
    """Stop all trading: cancel every order, and refuse new ones until the switch is lifted.

    The switch survives restarts of the server and of every strategy.

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
        state = client.kill(flatten, reason)
        left = client.fetch_open_orders()
        held = client.fetch_positions() if flatten else []
    _print(settings, state, as_json)
    for order in left:
        settings.note(f"still open: order {order.client_order_id} ({order.status.value})")
    for position in held:
        settings.note(f"still held: {position.quantity:g} {position.symbol}")
    if left or held:
        settings.note("`livetrader status` shows what becomes of them")
        raise click.exceptions.Exit(1)


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
