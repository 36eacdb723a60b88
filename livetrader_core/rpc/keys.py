"""CURVE keys: files that hold them, and what a client shows and expects at a connection.

A key pair lies in two files in the format of pyzmq's certificates: NAME.key with the public half,
NAME.key_secret with both. Keys are 32 bytes, written in Z85 (ZeroMQ RFC 32) as 40 characters.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
import zmq.auth
from zmq.utils import z85

from livetrader_core.errors import ConfigError
from livetrader_core.rpc.endpoints import private_files

PUBLIC, SECRET = ".key", ".key_secret"


@dataclass(frozen=True)
class KeyPair:
    """A public key, which others may know, and the secret one that proves it."""

    public: str
    secret: str = field(repr=False)

    @classmethod
    def new(cls) -> KeyPair:
        """A pair that nobody else has."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())

    @classmethod
    def read(cls, file: str | Path) -> KeyPair:
        """The pair in a ``.key_secret`` file.

        Raises ConfigError, also if others than its owner may read the file.
        """
        path = Path(file).expanduser()
        public, secret = _load(path)
        if secret is None:
            raise ConfigError(f"{path}: holds no secret key; name the {SECRET} file beside it")
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"{path}: others may read this secret key; run: chmod 600 {path}")
        return cls(public, secret)

    @classmethod
    def create(cls, folder: str | Path, name: str) -> KeyPair:
        """A new pair in two files of ``folder``. Raises ConfigError; replaces no file."""
        place = Path(folder).expanduser()
        for path in (place / f"{name}{PUBLIC}", place / f"{name}{SECRET}"):
            if path.exists():
                raise ConfigError(f"{path}: exists already, and was left as it is")
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            with private_files():
                zmq.auth.create_certificates(place, name)
        except OSError as error:
            raise ConfigError(f"{place}: keys cannot be written there: {error}") from None
        return cls.read(place / f"{name}{SECRET}")

    def protect(self, socket: zmq.Socket[Any], domain: str) -> None:
        """Make what ``socket`` is bound to from now on ask for keys, and ``domain`` judge them."""
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_PUBLICKEY, self.public.encode())
        socket.set(zmq.CURVE_SECRETKEY, self.secret.encode())
        socket.set(zmq.ZAP_DOMAIN, domain.encode())
        # Without a judge in this process ZeroMQ would let in everybody.
        socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)


@dataclass(frozen=True)
class Keys:
    """What a client of a server with keys needs: its own ``pair``, and the ``server``'s public key.

    ``pair`` is a KeyPair or the path of a ``.key_secret`` file, ``server`` a public key or the path
    of a ``.key`` file. A server that does not hold the secret to ``server`` gets nothing.
    """

    pair: KeyPair
    server: str

    def __init__(self, pair: KeyPair | str | Path, server: str | Path) -> None:
        own = pair if isinstance(pair, KeyPair) else KeyPair.read(pair)
        object.__setattr__(self, "pair", own)
        object.__setattr__(self, "server", public_key(server))

    def show(self, socket: zmq.Socket[Any]) -> None:
        """Make ``socket`` show these keys wherever it connects from now on."""
        socket.set(zmq.CURVE_SERVERKEY, self.server.encode())
        socket.set(zmq.CURVE_PUBLICKEY, self.pair.public.encode())
        socket.set(zmq.CURVE_SECRETKEY, self.pair.secret.encode())


def public_key(given: str | Path) -> str:
    """A public key, or the one in a ``.key`` file. Raises ConfigError."""
    text = str(given)
    if is_key(text):
        return text
    path = Path(given).expanduser()
    if not path.exists():
        raise ConfigError(f"{text!r} is neither a public key (40 characters) nor a file with one")
    return _load(path)[0]


def is_key(text: str) -> bool:
    """Whether ``text`` is 32 bytes in Z85."""
    try:
        return len(text) == 40 and len(z85.decode(text.encode())) == 32
    except (ValueError, KeyError, UnicodeEncodeError, OverflowError):
        return False


def _load(path: Path) -> tuple[str, str | None]:
    try:
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        told = f"no key can be read from it: {error}" if path.exists() else "there is no such file"
        raise ConfigError(f"{path}: {told}") from None
    for key in (public, *([secret] if secret else [])):
        if not is_key(key.decode(errors="replace")):
            raise ConfigError(f"{path}: holds something that is no key")
    return public.decode(), secret.decode() if secret else None
