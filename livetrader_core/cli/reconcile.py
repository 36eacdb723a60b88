"""``livetrader reconcile``."""

from __future__ import annotations

import click

from livetrader_core.cli.context import (
    Settings,
    confirm,
    endpoint_option,
    json_option,
    make_table,
    pass_settings,
    print_json,
    yes_option,
)
from livetrader_core.cli.orders import orders_table


@click.command("reconcile")
@click.option("--accept", is_flag=True, help="What the venues hold is right from now on.")
@yes_option
@endpoint_option
@json_option
@pass_settings
def command(
    settings: Settings, accept: bool, yes: bool, endpoint: str | None, as_json: bool
) -> None:
    """Compare the journal's books with the venues', now.

    Fills that were missed are brought in. What still differs is listed, and while it stems from
    the start of the server it keeps new orders from leaving: look at both sides, then --accept.
    Ends with code 1 while the books disagree.

    \b
    livetrader reconcile
    livetrader reconcile --accept
    """
    with settings.connected(endpoint, timeout=60.0) as client:
        report = client.reconcile()
        if accept and report.differences:
            for told in report.differences:
                settings.note(told)
            confirm("Take what the venues hold for right?", yes)
            report = client.reconcile(accept=True)
    if as_json:
        print_json(report.to_dict())
    else:
        if report.differences:
            table = make_table("Differences", "what does not agree")
            for told in report.differences:
                table.add_row(told)
            settings.out.print(table)
        if report.foreign:
            settings.out.print(orders_table(report.foreign, "Orders that were not placed here"))
        if report.blocked:
            settings.say(("new orders are refused until this is resolved", "bold red"))
        if report.differences:
            advice = (
                "look at both sides; `livetrader reconcile --accept` takes the venues' for right"
            )
            settings.note(advice)
        else:
            settings.say(("the books agree", "green"))
    if report.differences:
        raise click.exceptions.Exit(1)
