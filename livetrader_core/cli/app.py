"""The root command: options that all commands share, errors, exit codes.

Exit codes: 0 done, 1 an error or a comparison that failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM.
"""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from livetrader_core.cli.context import Settings
from livetrader_core.errors import LiveTraderError

#: Command: the module of this package that has it, under the same name.
_COMMANDS = {
    "serve": "serve",
    "run": "run",
    "history": "history",
    "status": "status",
    "orders": "orders",
    "positions": "positions",
    "balance": "balance",
    "cancel": "cancel",
    "kill": "kill",
    "reconcile": "reconcile",
    "journal": "journal",
    "doctor": "doctor",
    "keys": "keys",
    "sim": "sim",
    "demo": "demo",
}
_INTERRUPTED, _TERMINATED = 130, 143

EPILOG = """
\b
Try it without an account or a configuration:
  livetrader demo
\b
Serve what livetrader.toml says, and run a strategy on it:
  livetrader serve
  livetrader run sma_cross.py --mode backtest --symbols US.BABA,FOREX.EURUSD
  livetrader run sma_cross.py --mode paper --symbols US.BABA,FOREX.EURUSD
"""


class Failure(click.ClickException):
    """An error that is told in one line and ends the program with code 1."""

    def show(self, file: Any = None) -> None:
        """Tell it on standard error."""
        click.echo(f"livetrader: {self.format_message()}", err=True)


class Commands(click.Group):
    """Loads a command's module when it is asked for, and turns our errors into one clear line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order they are met."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called ``cmd_name``."""
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = import_module(f"livetrader_core.cli.{module}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except LiveTraderError as error:
            if ctx.params.get("verbose"):
                traceback.print_exc()
            raise Failure(str(error)) from None
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            raise click.exceptions.Exit(_INTERRUPTED) from None


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="livetrader", message="%(package)s %(version)s")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="LIVETRADER_CONFIG",
    help="The settings; otherwise ./livetrader.toml, the user's own, or built-in defaults.",
)
@click.option("-v", "--verbose", count=True, help="Tell more; with errors, where they came from.")
@click.pass_context
def livetrader(ctx: click.Context, config: Path | None, verbose: int) -> None:
    """Market data and trading on US stocks, forex and Chinese futures.

    One strategy file runs as a backtest, on paper, or live, on all of them at once.
    """
    levels = (logging.WARNING, logging.INFO, logging.DEBUG)
    level = levels[min(verbose, 2)]
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for handler in logging.getLogger().handlers:
        handler.setLevel(level)  # tqsdk sets its own logger to DEBUG
    ctx.obj = Settings(config)


def main() -> None:
    """Run the command line."""
    # An orderly end: whatever cleans up at Ctrl-C does so here too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    livetrader(prog_name="livetrader")
