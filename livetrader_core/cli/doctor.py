"""``livetrader doctor``."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.table import Table

from livetrader_core.cli.context import (
    Settings,
    json_option,
    parse_names,
    pass_settings,
    print_json,
)
from livetrader_core.errors import ConfigError, LiveTraderError

if TYPE_CHECKING:
    from livetrader_core.config import Config
    from livetrader_core.market.finding import Finding

_STYLES = {"ok": "green", "doubt": "yellow", "failed": "bold red", "skipped": "dim"}


@click.command("doctor")
@click.argument("names", metavar="[NAME…]", nargs=-1)
@click.option(
    "--symbols", callback=lambda *a: parse_names(a[2]) if a[2] else [], help="To ask for."
)
@click.option(
    "--patience",
    type=click.FloatRange(min=0, min_open=True),
    default=75.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a live bar or tick.",
)
@json_option
@pass_settings
def command(
    settings: Settings, names: tuple[str, ...], symbols: list[str], patience: float, as_json: bool
) -> None:
    """Check the configured venues: reachable, bars, delay, clock, labels, live data.

    NAME… are tables of livetrader.toml, such as `us` for [markets.us]; all by default. Ends with
    code 1 if a check failed.
    """
    from livetrader_core.market.finding import Verdict

    config = settings.config
    found: dict[str, list[Finding]] = {}
    for name in _chosen(config, names):
        with settings.notes.status(f"{name}: asking (at most {patience:g} s for live data)"):
            found[name] = asyncio.run(_examine(config, name, symbols, patience))
        if not as_json:
            settings.out.print(_table(name, config.markets[name].adapter, found[name]))
    if as_json:
        print_json({name: [asdict(one) for one in findings] for name, findings in found.items()})
    if any(one.verdict is Verdict.FAILED for findings in found.values() for one in findings):
        raise click.exceptions.Exit(1)


def _chosen(config: Config, names: tuple[str, ...]) -> list[str]:
    if not config.markets:
        raise ConfigError(f"{config.source}: markets: nothing to check; add a [markets.NAME] table")
    for name in names:
        if name not in config.markets:
            raise click.BadParameter(
                f"{name!r} is not configured; there are {', '.join(config.markets)}"
            )
    return list(names or config.markets)


async def _examine(config: Config, name: str, symbols: list[str], patience: float) -> list[Finding]:
    from livetrader_core.config import build_adapter
    from livetrader_core.market.diagnosis import examine
    from livetrader_core.market.finding import Finding, Verdict
    from livetrader_core.models import market_of

    try:
        market = build_adapter(config, name)
    except LiveTraderError as error:
        return [Finding("settings", Verdict.FAILED, str(error), "set it right, then ask again")]
    mine = [symbol for symbol in symbols if market_of(symbol) in market.markets]
    return await examine(market, mine[0] if mine else None, patience)


def _table(name: str, adapter: str, findings: list[Finding]) -> Table:
    table = Table(title=f"{name} ({adapter})", title_justify="left", title_style="bold")
    table.add_column("check")
    table.add_column("")
    table.add_column("found", overflow="fold")
    table.add_column("what to do", overflow="fold")
    for one in findings:
        verdict = one.verdict.value
        table.add_row(one.check, f"[{_STYLES[verdict]}]{verdict}[/]", one.found, one.advice)
    return table
