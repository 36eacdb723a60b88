"""``livetrader balance``."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.table import Table

from livetrader_core.cli.context import (
    Settings,
    endpoint_option,
    json_option,
    make_table,
    pass_settings,
    print_json,
    show_money,
)
from livetrader_core.cli.venues import ask_venues, tell_unknown
from livetrader_core.models import Balance


@click.command("balance")
@endpoint_option
@json_option
@pass_settings
def command(settings: Settings, endpoint: str | None, as_json: bool) -> None:
    """The accounts, one for each venue and currency, as the venues say.

    \b
    livetrader balance
    livetrader balance --json
    """
    with settings.connected(endpoint) as client:
        balances, unknown = ask_venues(client, client.fetch_balance)
    if as_json:
        print_json([balance.to_dict() for balance in balances])
    elif balances:
        settings.out.print(balances_table(balances))
    else:
        settings.say(("none", "dim"))
    tell_unknown(settings, unknown)


def balances_table(balances: Sequence[Balance]) -> Table:
    """Accounts for people, one in a row."""
    amounts = ("cash", "margin", "available", "equity")
    table = make_table("Balance", "account", "currency", *amounts, numbers=amounts)
    for balance in balances:
        values = (getattr(balance, name) for name in amounts)
        table.add_row(balance.account, balance.currency, *(show_money(value) for value in values))
    return table
