"""``livetrader status``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from livetrader_core.cli.context import (
    PROBE_TIMEOUT,
    Settings,
    endpoint_option,
    join,
    json_option,
    pass_settings,
    print_json,
    show_moment,
)

if TYPE_CHECKING:
    from livetrader_core.rpc.keys import Keys
    from livetrader_core.session import MarketInfo, SessionInfo


@click.command("status")
@endpoint_option
@json_option
@pass_settings
def command(settings: Settings, endpoint: str | None, as_json: bool) -> None:
    """What the server is doing: clients, markets, clocks, streams."""
    where = endpoint or settings.server
    info, status = asyncio.run(_ask(where, settings.keys))
    if as_json:
        markets = {code: asdict(market) for code, market in info.markets.items()}
        print_json({"endpoint": where, **status, "markets": markets})
        return
    settings.out.print(_server_table(where, status))
    settings.out.print(_markets_table(info.markets, status))
    settings.out.print(_streams_table(status))


async def _ask(endpoint: str, keys: Keys | None) -> tuple[SessionInfo, dict[str, Any]]:
    from livetrader_core.rpc import RemoteSession

    session = RemoteSession(endpoint, timeout=PROBE_TIMEOUT, keys=keys)
    await session.open(lambda event: None)
    try:
        return session.info, await session.status()
    finally:
        await session.close()


def _server_table(endpoint: str, status: Mapping[str, Any]) -> Table:
    table = Table(title="Server", title_justify="left", title_style="bold", show_header=False)
    table.add_column(style="dim")
    table.add_column()
    table.add_row("endpoints", join([str(e) for e in status.get("endpoints", [endpoint])]))
    table.add_row("version", f"{status.get('version')} (protocol {status.get('protocol')})")
    table.add_row("running for", _duration(float(status.get("uptime", 0))))
    for name in ("clients", "requests", "errors", "bad_frames", "published", "trade_seq"):
        if name in status:
            table.add_row(name.replace("_", " "), f"{status[name]:,}")
    return table


def _markets_table(markets: Mapping[str, MarketInfo], status: Mapping[str, Any]) -> Table:
    table = Table(title="Markets", title_justify="left", title_style="bold")
    for name in ("market", "trading", "pace", "clock (UTC)"):
        table.add_column(name)
    clocks = status.get("clocks", {})
    for code, market in sorted(markets.items()):
        trade = market.trade or "none"
        style = {"live": "bold red", "paper": "green"}.get(trade, "dim")
        pace = "as fast as read" if market.paced else "its own"
        if market.delay_ms:
            pace += f", {market.delay_ms / 60_000:g} min late"
        clock = show_moment(clocks[code]) if clocks.get(code) else "not begun"
        table.add_row(code, f"[{style}]{trade}[/]", pace, clock)
    return table


def _streams_table(status: Mapping[str, Any]) -> Table:
    table = Table(title="Streams", title_justify="left", title_style="bold")
    table.add_column("stream")
    table.add_column("klines published", justify="right")
    for name, count in sorted(status.get("streams", {}).items()):
        table.add_row(name, f"{count:,}")
    if not table.row_count:
        table.add_row("[dim]none is watched[/]", "")
    return table


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)[:24] or "0 s"
