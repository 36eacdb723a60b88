"""``livetrader serve``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from livetrader_core.cli.context import Settings, endpoint_option, join, json_option, pass_settings
from livetrader_core.errors import ConfigError

if TYPE_CHECKING:
    from livetrader_core.session import MarketInfo


@click.command("serve")
@endpoint_option
@json_option
@pass_settings
def command(settings: Settings, endpoint: str | None, as_json: bool) -> None:
    """Serve the configured markets and trading until Ctrl-C.

    Without a configuration it serves made-up klines and trades with paper money. Once it is
    ready it says where, what, and whether orders move real money.
    """
    from livetrader_core.access import build_guard
    from livetrader_core.config import build_services
    from livetrader_core.local import describe_markets
    from livetrader_core.rpc import Server

    config = settings.config
    guard = build_guard(config)
    market, trade = build_services(config)

    class Announced(Server):
        async def start(self) -> None:
            await super().start()
            _announce(settings, bound, describe_markets(market, trade), as_json)

    services = (market,) if trade is None else (market, trade)
    server = Announced(*services, heartbeat=config.server.heartbeat, guard=guard)
    wanted = endpoint or config.server.endpoint
    _make_socket_folder(wanted)
    bound = server.bind(wanted)
    server.run()
    if not as_json:
        settings.say("stopped")


def _make_socket_folder(endpoint: str) -> None:
    scheme, _, path = endpoint.partition("://")
    if scheme != "ipc":
        return
    folder = Path(path).parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{endpoint}: {folder}: {error.strerror}") from None


def _announce(
    settings: Settings, endpoint: str, markets: Mapping[str, MarketInfo], as_json: bool
) -> None:
    trading = {code: info.trade for code, info in markets.items()}
    if as_json:
        ready = {"endpoint": endpoint, "pid": os.getpid(), "markets": trading}
        click.echo(json.dumps(ready))
        return
    settings.say("serving  ", (endpoint, "bold"), f"  (settings: {settings.config.source})")
    settings.say(f"markets  {join(sorted(markets))}")
    for kind, style in (("live", "bold red"), ("paper", "green")):
        codes = sorted(code for code, trade in trading.items() if trade == kind)
        if codes:
            settings.say("trading  ", (kind, style), f": {join(codes)}")
    if not any(trading.values()):
        settings.say("trading  none")
