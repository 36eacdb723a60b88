"""What commands share: settings, consoles, how values are given and shown."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from livetrader_core.errors import Unavailable
from livetrader_core.timeframe import DURATIONS_MS

if TYPE_CHECKING:
    from livetrader_core.config import Config
    from livetrader_core.rpc import Client
    from livetrader_core.rpc.keys import Keys

Item = TypeVar("Item")

#: How long a command waits for a server that may not be there, and for an answer of one, seconds.
PROBE_TIMEOUT, PATIENCE = 2.0, 30.0


def make_console(stderr: bool = False) -> Console:
    """A console; wide enough for our tables where the output is a file or a pipe."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 120
    return console


@dataclass
class Settings:
    """The configuration, read when a command first needs it, and where to print.

    ``out`` is for results, ``notes`` (standard error) for everything else.
    """

    path: Path | None = None
    out: Console = field(default_factory=lambda: make_console())
    notes: Console = field(default_factory=lambda: make_console(stderr=True))
    _config: Config | None = None

    @property
    def config(self) -> Config:
        """The configuration. Raises ConfigError."""
        if self._config is None:
            from livetrader_core.config import load_config

            self._config = load_config(self.path)
        return self._config

    def say(self, *parts: str | tuple[str, str]) -> None:
        """Print a line of results; a part may be (text, style)."""
        self.out.print(Text.assemble(*parts), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a line that is no result."""
        self.notes.print(Text(text, "dim"), soft_wrap=True)

    @property
    def server(self) -> str:
        """The endpoint of the configured server. Raises ConfigError."""
        return self.config.client.endpoint or self.config.server.endpoint

    @property
    def keys(self) -> Keys | None:
        """What we show to a server beyond this computer. Raises ConfigError."""
        from livetrader_core.access import build_keys

        return build_keys(self.config)

    def endpoint(self, given: str | None) -> str | None:
        """The server to use: the given one, which must answer, or the configured one if it does.

        Raises NotConnected, RequestTimeout, EndpointError, VersionMismatch.
        """
        if given is not None:
            self._greet(given)
            return given
        endpoint = self.server
        scheme, _, path = endpoint.partition("://")
        if scheme == "inproc" or (scheme == "ipc" and not Path(path).exists()):
            return None
        try:
            self._greet(endpoint)
        except Unavailable:
            return None
        return endpoint

    def watched(self, items: Iterable[Item], what: str, count: int | None) -> Iterable[Item]:
        """``items``, with progress on standard error if that is a terminal."""
        from rich.progress import track

        hidden = not self.notes.is_terminal
        return track(items, what, total=count, console=self.notes, transient=True, disable=hidden)

    @contextmanager
    def connected(self, given: str | None, timeout: float = PATIENCE) -> Iterator[Client]:
        """A client of the given or the configured server; each request has ``timeout`` seconds.

        Raises NotConnected, RequestTimeout, EndpointError, VersionMismatch.
        """
        from livetrader_core.rpc import Client

        with Client(timeout=PROBE_TIMEOUT, keys=self.keys) as client:
            client.connect(given or self.server)
            client.timeout = timeout
            yield client

    def _greet(self, endpoint: str) -> None:
        with self.connected(endpoint):
            return


pass_settings = click.make_pass_decorator(Settings)

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
endpoint_option = click.option("--endpoint", help="The server, instead of the configured one.")
timeframe_option = click.option(
    "--timeframe",
    type=click.Choice(list(DURATIONS_MS)),
    default="1m",
    show_default=True,
    help="Length of a kline.",
)


def print_json(value: Any) -> None:
    """Print ``value`` as JSON on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def parse_moment(text: str) -> int:
    """An ISO 8601 moment, UTC where it names no offset, in UTC milliseconds."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a time; write 2020-11-03 or 2020-11-03T14:30"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return round(moment.timestamp() * 1000)


def parse_names(text: str) -> list[str]:
    """Words parted by commas or spaces, each once, in order."""
    words = list(dict.fromkeys(text.replace(",", " ").split()))
    if not words:
        raise click.BadParameter("it names nothing")
    return words


def show_moment(ts: int) -> str:
    """A moment for people: UTC, without seconds if there are none."""
    moment = datetime.fromtimestamp(ts / 1000, timezone.utc)
    return moment.strftime("%Y-%m-%d %H:%M:%S" if ts % 60_000 else "%Y-%m-%d %H:%M")


def show_number(value: float) -> str:
    """A price or quantity for people: all the digits that it has, and no more."""
    return f"{value:,.10f}".rstrip("0").rstrip(".")


def show_average(value: float) -> str:
    """An average price for people: not more digits than a price may have."""
    return show_number(round(value, 6))


def show_money(value: float) -> str:
    """An amount of money for people, to the cent."""
    return f"{value:,.2f}"


class PlainTable(Table):
    """A table whose cells are shown as they are: ids and reasons may have brackets in them."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """As rich's, but text is no markup."""
        plain = (Text(cell) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*plain, **options)


def make_table(title: str, *columns: str, numbers: Sequence[str] = ()) -> PlainTable:
    """A table in the style of all commands; those of ``columns`` in ``numbers`` stand right."""
    table = PlainTable(title=title, title_justify="left", title_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    return table


def confirm(question: str, yes: bool) -> None:
    """Go on if the user says so, or said so beforehand. Raises click.Abort, click.UsageError."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody is there to answer; say --yes")
    click.confirm(question, abort=True, err=True)


def join(words: Sequence[str]) -> str:
    """Words in a line; a dash if there are none."""
    return ", ".join(words) or "-"
