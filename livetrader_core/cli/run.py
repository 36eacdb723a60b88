"""``livetrader run``."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from livetrader_core.cli.context import (
    Settings,
    endpoint_option,
    json_option,
    parse_moment,
    parse_names,
    pass_settings,
    print_json,
    timeframe_option,
)
from livetrader_core.errors import NotConnected

if TYPE_CHECKING:
    from livetrader_bt.store import LiveTraderStore

MODES = ("backtest", "paper", "live")


def parse_cash(text: str) -> float | dict[str, float]:
    """An amount in the base currency, or amounts by currency: ``USD=200000,CNY=1000000``."""
    try:
        if "=" not in text:
            return float(text)
        parts = (part.partition("=") for part in text.split(","))
        return {currency.strip(): float(amount) for currency, _, amount in parts}
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither 100000 nor USD=100000,CNY=500000") from None


@click.command("run")
@click.argument("strategy_file", metavar="STRATEGY.py", type=click.Path(path_type=Path))
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="backtest",
    show_default=True,
    help="History only; live klines and simulated fills; live klines and the venue's own fills.",
)
@click.option(
    "--symbols",
    type=parse_names,
    metavar="SYMBOL,…",
    required=True,
    help="Such as US.BABA,FOREX.EURUSD.",
)
@timeframe_option
@click.option(
    "--from", "fromdate", type=parse_moment, metavar="TIME", help="First bar, by its close (UTC)."
)
@click.option(
    "--to", "todate", type=parse_moment, metavar="TIME", help="Last bar, by its close (UTC)."
)
@click.option(
    "--live-from",
    type=parse_moment,
    metavar="TIME",
    help="Bars up to then only warm up; a replay goes live there (UTC).",
)
@click.option(
    "--cash",
    type=parse_cash,
    metavar="AMOUNT",
    help="What a backtest starts with: 100000, or USD=200000,CNY=1000000.",
)
@endpoint_option
@click.option(
    "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter of the strategy."
)
@click.option("--strategy", "strategy", metavar="CLASS", help="Which, if the file has several.")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw prices, fills and equity into this PNG file.",
)
@json_option
@pass_settings
def command(
    settings: Settings,
    strategy_file: Path,
    mode: str,
    symbols: list[str],
    timeframe: str,
    fromdate: int | None,
    todate: int | None,
    live_from: int | None,
    cash: float | dict[str, float] | None,
    endpoint: str | None,
    params: tuple[str, ...],
    strategy: str | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Run a strategy as a backtest, on paper or live.

    The file is plain backtrader. Klines and orders go through the server, the configured one or
    that of --endpoint; if none runs, a backtest or paper run serves itself from the settings.
    Ctrl-C ends a run in order: its result is shown, orders and positions stay.
    """
    from livetrader_bt.report import print_summary, write_picture
    from livetrader_bt.run import load_strategy, run_strategy

    chosen = load_strategy(strategy_file, strategy)
    values = parse_params(params, dict(chosen.params._getitems()))
    if fromdate is not None and todate is not None and fromdate >= todate:
        raise click.BadParameter("must be later than --from", param_hint="--to")
    where = settings.endpoint(endpoint)
    summary = run_strategy(
        strategy_file,
        _store(settings, where, mode),
        symbols,
        mode,
        strategy=strategy,
        params=values,
        timeframe=timeframe,
        fromdate=fromdate,
        todate=todate,
        live_from=live_from,
        cash=cash,
        until_ctrl_c=True,
    )
    if mode == "backtest" and not any(stats.bars for stats in summary.stats):
        settings.note("no bars: is there history of that time? see --from, --to")
    if as_json:
        print_json(summary.to_dict())
    else:
        print_summary(summary, settings.out)
    if picture is not None:
        write_picture(picture, summary)
        settings.note(f"picture  {picture}")
    if summary.interrupted and where is not None:
        settings.note("what still works or is held: livetrader orders, livetrader positions")


def _store(settings: Settings, where: str | None, mode: str) -> LiveTraderStore:
    from livetrader_bt.store import LiveTraderStore
    from livetrader_core.config import build_services

    config = settings.config
    rates: dict[str, float | str] = {**config.rates.values, **config.rates.symbols}
    if where is not None:
        return LiveTraderStore(where, base=config.rates.base, rates=rates, keys=settings.keys)
    if mode == "live":
        raise NotConnected(
            f"{settings.server}: no server there; live orders need one that outlives the "
            "strategy: start `livetrader serve`"
        )
    settings.note(f"no server at {settings.server}: serving myself, settings: {config.source}")
    market, trade = build_services(config)
    services = market if trade is None else (market, trade)
    return LiveTraderStore(service=services, base=config.rates.base, rates=rates)


def parse_params(given: tuple[str, ...], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """NAME=VALUE words as values of the kind the defaults have. Raises click.BadParameter."""
    values: dict[str, Any] = {}
    for word in given:
        name, equals, text = word.partition("=")
        if not (equals and name):
            raise click.BadParameter(f"{word!r} is not NAME=VALUE", param_hint="--param")
        if name not in defaults:
            known = ", ".join(defaults) or "none"
            raise click.BadParameter(
                f"the strategy has no parameter {name!r}; it has: {known}", param_hint="--param"
            )
        try:
            values[name] = typed(text, defaults[name])
        except ValueError as error:
            raise click.BadParameter(f"{name}: {error}", param_hint="--param") from None
    return values


def typed(text: str, default: Any) -> Any:
    """``text`` as a value of the kind of ``default``. Raises ValueError saying what is expected."""
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        return _boolean(text)
    value = _literal(text)
    if isinstance(default, int | float):
        # An int default (a stake of 1) may well be meant as a number: 0.5 lots.
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"expected a number, not {text!r}")
        return float(value) if isinstance(default, float) else value
    if isinstance(default, list | tuple) and not isinstance(value, list | tuple):
        raise ValueError(f"expected a list such as {list(default)!r}, not {text!r}")
    return value


def _boolean(text: str) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False}
    try:
        return words[text.lower()]
    except KeyError:
        raise ValueError(f"expected true or false, not {text!r}") from None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)
