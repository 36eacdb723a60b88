"""``livetrader demo``."""

from __future__ import annotations

from pathlib import Path

import click

from livetrader_core.cli.context import Settings, json_option, pass_settings, print_json


@click.command("demo")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of recorded klines, instead of generated ones.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Where the picture, the server's settings, log and journal go.",
)
@click.option("--seed", default=7, show_default=True, help="Of the generated klines.")
@click.option(
    "--strategy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A strategy file, instead of the moving-average cross.",
)
@click.option(
    "--replay",
    is_flag=True,
    help="Read the klines straight from the recording, not through the venues' protocols.",
)
@click.option("--no-live", is_flag=True, help="Leave out the part that trades the venues live.")
@json_option
@pass_settings
def command(
    settings: Settings,
    data: Path | None,
    output: Path,
    seed: int,
    strategy: Path | None,
    replay: bool,
    no_live: bool,
    as_json: bool,
) -> None:
    """One strategy on three markets: a backtest, then the same file live on paper.

    A server of its own reads simulated venues in their own protocols: TDX, MetaTrader 4, tqsdk.
    Both runs must fill alike, order by order. Then a second strategy trades simulated venues live,
    and what they have in their books must be what it believes. Ends with code 1 if anything
    differs.
    """
    from livetrader_bt.demo import run_demo

    console = settings.notes if as_json else settings.out
    result = run_demo(data, output, seed, strategy, console, not replay, not no_live)
    if as_json:
        print_json(
            {
                "identical": result.comparison.identical,
                "different": result.comparison.different,
                "picture": str(result.picture),
                "live": None if result.live is None else result.live.to_dict(),
                "runs": [result.backtest.to_dict(), result.paper.to_dict()],
            }
        )
    if not result.equal:
        raise click.exceptions.Exit(1)
