"""``livetrader positions``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from livetrader_core.cli.context import (
    Settings,
    endpoint_option,
    json_option,
    make_table,
    pass_settings,
    print_json,
    show_average,
    show_money,
    show_number,
)
from livetrader_core.cli.venues import ask_venues, tell_unknown
from livetrader_core.errors import LiveTraderError
from livetrader_core.models import Contract, Position

if TYPE_CHECKING:
    from livetrader_core.rpc import Client


@click.command("positions")
@endpoint_option
@json_option
@pass_settings
def command(settings: Settings, endpoint: str | None, as_json: bool) -> None:
    """What is held, net by symbol, as the venues say.

    The profit is at the last kline that the server has published, before commissions.

    \b
    livetrader positions
    livetrader positions --json --endpoint tcp://127.0.0.1:7000
    """
    with settings.connected(endpoint) as client:
        positions, unknown = ask_venues(client, client.fetch_positions)
        contracts = find_contracts(client, positions)
        prices = last_prices(client.status())
    if as_json:
        print_json([position.to_dict() for position in positions])
    elif positions:
        settings.out.print(positions_table(positions, contracts, prices))
    else:
        settings.say(("none", "dim"))
    tell_unknown(settings, unknown)


def find_contracts(client: Client, positions: Sequence[Position]) -> dict[str, Contract]:
    """The contracts of ``positions``, as far as the server knows them."""
    found = {}
    for symbol in {position.symbol for position in positions}:
        with suppress(LiveTraderError):  # then its profit is not known
            found[symbol] = client.get_contract(symbol)
    return found


def last_prices(status: Mapping[str, Any]) -> dict[str, float]:
    """The close of the latest kline of each symbol, from a server's status."""
    latest: dict[str, tuple[int, float]] = {}
    for stream, (opened, close) in status.get("latest", {}).items():
        symbol = stream.partition(" ")[0]
        latest[symbol] = max(latest.get(symbol, (0, 0.0)), (opened, close))
    return {symbol: close for symbol, (_, close) in latest.items()}


def open_profit(position: Position, contract: Contract | None, price: float | None) -> float | None:
    """What closing at ``price`` would bring, in the contract's currency; None: not known."""
    if contract is None or price is None:
        return None
    return (price - position.average_price) * position.quantity * contract.multiplier


def positions_table(
    positions: Sequence[Position],
    contracts: Mapping[str, Contract],
    prices: Mapping[str, float],
) -> Table:
    """Positions for people, one in a row."""
    table = make_table(
        "Positions",
        *("symbol", "quantity", "entry", "last", "profit"),
        numbers=("quantity", "entry", "last", "profit"),
    )
    for position in sorted(positions, key=lambda position: position.symbol):
        contract, price = contracts.get(position.symbol), prices.get(position.symbol)
        profit = open_profit(position, contract, price)
        table.add_row(
            position.symbol,
            show_number(position.quantity),
            show_average(position.average_price),
            "-" if price is None else show_number(price),
            "-" if profit is None or contract is None else _profit(profit, contract.currency),
        )
    return table


def _profit(amount: float, currency: str) -> Text:
    style = "red" if amount < 0 else "green"
    return Text.assemble((show_money(amount), style), f" {currency}")
