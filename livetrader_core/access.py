"""Keys as they are configured: who is let in to a server, and what a client shows to it."""

from __future__ import annotations

from livetrader_core.config import Config
from livetrader_core.errors import ConfigError
from livetrader_core.rpc.guard import Allowed, Guard, parse_role
from livetrader_core.rpc.keys import KeyPair, Keys, is_key


def build_guard(config: Config) -> Guard | None:
    """The guard of ``[server]``; None if it has no keys. Raises ConfigError."""
    server = config.server
    if server.keys is None:
        if server.clients:
            raise ConfigError(
                f"{config.where('server.clients')}: clients need a server with keys; make them "
                "with `livetrader keys new server`, and set server.keys"
            )
        return None
    clients: dict[str, Allowed] = {}
    for name, client in server.clients.items():
        where = config.where(f"server.clients.{name}.key")
        if not is_key(client.key):
            raise ConfigError(f"{where}: expected a public key of 40 characters")
        if client.key in clients:
            raise ConfigError(f"{where}: {clients[client.key].name} has this key already")
        clients[client.key] = Allowed(name, parse_role(client.role))
    return Guard(KeyPair.read(server.keys), clients)


def build_keys(config: Config) -> Keys | None:
    """What ``[client]`` shows to a server; None if it has no keys. Raises ConfigError."""
    client = config.client
    if client.keys is None and not client.server_key:
        return None
    for name, value in (("keys", client.keys), ("server_key", client.server_key)):
        if not value:
            raise ConfigError(
                f"{config.where(f'client.{name}')}: missing; a server beyond this computer is "
                "reached with our own keys and the server's public key"
            )
    assert client.keys is not None
    try:
        return Keys(client.keys, client.server_key)
    except ConfigError as error:
        raise ConfigError(f"{config.where('client')}: {error}") from None
