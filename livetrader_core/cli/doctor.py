"""``livetrader doctor``."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
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
    from livetrader_core.trade.diagnosis import Probe

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
@click.option(
    "--try-order",
    "probe",
    callback=lambda *a: _parse_probe(a[2]),
    metavar="SYMBOL,QUANTITY,PRICE",
    help="Also place this limit order to buy and cancel it; give a price far below the market.",
)
@json_option
@pass_settings
def command(
    settings: Settings,
    names: tuple[str, ...],
    symbols: list[str],
    patience: float,
    probe: Probe | None,
    as_json: bool,
) -> None:
    """Check the configured venues: reachable, bars, delay, clock, live data, account.

    NAME… are tables of livetrader.toml, such as `us` for [markets.us] and [trades.us], or adapters,
    such as `mt4`; all by default. Ends with code 1 if a check failed.

    No order is placed but that of --try-order. Stop a server that trades over `dwx` first: that
    expert advisor serves one client at a time.
    """
    from livetrader_core.market.finding import Verdict

    config = settings.config
    found: dict[str, list[Finding]] = {}
    for section, name in _chosen(config, names):
        adapter = getattr(config, section)[name].adapter
        with settings.notes.status(f"{name}: asking (at most {patience:g} s for live data)"):
            if section == "markets":
                findings = asyncio.run(_examine(config, name, symbols, patience))
            else:
                findings = asyncio.run(_examine_account(config, name, probe, patience))
        # Scripts know the markets by their names alone.
        found[name if section == "markets" else f"trades.{name}"] = findings
        if not as_json:
            title = f"{name} ({adapter})" if section == "markets" else f"trades {name} ({adapter})"
            settings.out.print(_table(title, findings))
    if as_json:
        print_json({name: [asdict(one) for one in findings] for name, findings in found.items()})
    if any(one.verdict is Verdict.FAILED for findings in found.values() for one in findings):
        raise click.exceptions.Exit(1)


def _parse_probe(text: str | None) -> Probe | None:
    from livetrader_core.trade.diagnosis import Probe

    if text is None:
        return None
    try:
        return Probe.parse(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} must be SYMBOL,QUANTITY,PRICE, such as FOREX.EURUSD,0.01,0.9"
        ) from None


def _chosen(config: Config, names: tuple[str, ...]) -> list[tuple[str, str]]:
    """The tables to check: sections and names. Those of paper money have no venue."""
    tables = [("markets", name) for name in config.markets]
    tables += [("trades", name) for name, one in config.trades.items() if one.adapter != "paper"]
    if not tables:
        raise ConfigError(f"{config.source}: markets: nothing to check; add a [markets.NAME] table")
    for name in names:
        if not any(name in _called(config, *table) for table in tables):
            known = dict.fromkeys(name for _, name in tables)
            raise click.BadParameter(f"{name!r} is not configured; there are {', '.join(known)}")
    return [t for t in tables if not names or _called(config, *t).intersection(names)]


def _called(config: Config, section: str, name: str) -> set[str]:
    return {name, getattr(config, section)[name].adapter}


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


async def _examine_account(
    config: Config, name: str, probe: Probe | None, patience: float
) -> list[Finding]:
    from livetrader_core.config import build_account
    from livetrader_core.market.finding import Finding, Verdict
    from livetrader_core.models import market_of
    from livetrader_core.trade.diagnosis import examine_account

    # A server may be using the configured file of the account's orders.
    with tempfile.TemporaryDirectory() as folder:
        try:
            trade = build_account(config, name, Path(folder) / "state.sqlite")
        except LiveTraderError as error:
            return [Finding("settings", Verdict.FAILED, str(error), "set it right, then ask again")]
        mine = probe is not None and market_of(probe.symbol) in trade.markets
        return await examine_account(trade, probe if mine else None, patience)


def _table(title: str, findings: list[Finding]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("check")
    table.add_column("")
    table.add_column("found", overflow="fold")
    table.add_column("what to do", overflow="fold")
    for one in findings:
        verdict = one.verdict.value
        found, advice = escape(one.found), escape(one.advice)
        table.add_row(one.check, f"[{_STYLES[verdict]}]{verdict}[/]", found, advice)
    return table
