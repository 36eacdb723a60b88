"""Where an expert advisor listens, and what it asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from livetrader_core.errors import ConfigError, EndpointError
from livetrader_core.rpc.endpoints import Endpoint
from livetrader_core.rpc.keys import KeyPair, Keys, public_key

ENDPOINT = "tcp://127.0.0.1:28282"
_LONGEST_TOKEN = 256


@dataclass(frozen=True)
class Address:
    """An advisor's endpoint of requests, and what is needed to talk to it.

    ``publications`` is None if they come from the port that the advisor names.
    """

    requests: Endpoint
    publications: Endpoint | None = None
    token: str = field(default="", repr=False)
    keys: Keys | None = None

    def __str__(self) -> str:
        return str(self.requests)

    @classmethod
    def of(
        cls,
        endpoint: str = ENDPOINT,
        publications: str | None = None,
        token: str = "",
        keys: str | Path | KeyPair | None = None,
        server_key: str | Path | None = None,
    ) -> Address:
        """The address in the settings of these names. Raises ConfigError naming the one at fault.

        ``keys`` is our key pair or its ``.key_secret`` file, ``server_key`` the advisor's public
        key or a file with it: both or none.
        """
        second = None if publications is None else _tcp("publications", publications)
        if not isinstance(token, str) or not token.isascii() or len(token) > _LONGEST_TOKEN:
            raise ConfigError(f"token: must be at most {_LONGEST_TOKEN} characters of ASCII")
        return cls(_tcp("endpoint", endpoint), second, token, _keys(keys, server_key))


def _tcp(name: str, text: str) -> Endpoint:
    try:
        endpoint = Endpoint.parse(text)
    except EndpointError as error:
        raise ConfigError(f"{name}: {error}") from None
    if endpoint.scheme != "tcp":
        raise ConfigError(f"{name}: must be tcp://host:port, not {text!r}")
    return endpoint


def _keys(pair: str | Path | KeyPair | None, server: str | Path | None) -> Keys | None:
    if not pair and not server:
        return None
    if not pair:
        raise ConfigError("keys: server_key is set, so that a .key_secret file of ours is needed")
    if not server:
        raise ConfigError("server_key: keys is set, so that the advisor's public key is needed")
    try:
        own = pair if isinstance(pair, KeyPair) else KeyPair.read(pair)
    except ConfigError as error:
        raise ConfigError(f"keys: {error}") from None
    try:
        return Keys(own, public_key(server))
    except ConfigError as error:
        raise ConfigError(f"server_key: {error}") from None
