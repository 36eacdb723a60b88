"""``livetrader keys``."""

from __future__ import annotations

from pathlib import Path

import click

from livetrader_core.cli.context import Settings, pass_settings


@click.group("keys")
def command() -> None:
    """Keys for a server that is reached from other computers.

    \b
    On the server:     livetrader keys new server
    On each client:    livetrader keys new laptop
    Each prints what to write into livetrader.toml, here and on the other side. The files that end
    in .key_secret stay where they are made.
    """


@command.command("new")
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write them; by default beside the user's own settings.",
)
@pass_settings
def new(settings: Settings, name: str, folder: Path | None) -> None:
    """Make a key pair: NAME.key, which others may know, and NAME.key_secret.

    A pair called "server" is a server's; any other name is a client's.
    """
    from livetrader_core.config import user_config_file
    from livetrader_core.rpc.keys import SECRET, KeyPair

    if not name.isidentifier():
        raise click.BadParameter(f"{name!r}: use letters, digits and _", param_hint="NAME")
    place = folder or user_config_file().parent
    pair = KeyPair.create(place, name)
    file = place / f"{name}{SECRET}"
    if name == "server":
        _print(settings, "here, in livetrader.toml:", "[server]", f'keys = "{file}"')
        _print(settings, "at each client:", "[client]", f'server_key = "{pair.public}"')
        return
    _print(settings, "here, in livetrader.toml:", "[client]", f'keys = "{file}"')
    lines = (f"[server.clients.{name}]", f'key = "{pair.public}"', 'role = "trade"')
    _print(settings, "at the server (role: market, trade or admin):", *lines)


@command.command("show")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@pass_settings
def show(settings: Settings, file: Path) -> None:
    """Print the public key in FILE."""
    from livetrader_core.rpc.keys import public_key

    settings.out.print(public_key(file), markup=False)


def _print(settings: Settings, where: str, *lines: str) -> None:
    settings.note(where)
    for line in lines:
        settings.out.print(f"  {line}", markup=False, soft_wrap=True)
