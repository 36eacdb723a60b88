"""Endpoints: ``inproc://name``, ``ipc:///path``, ``tcp://host:port``."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import zmq

from livetrader_core.errors import EndpointError, EndpointInUse, InsecureEndpoint

#: Suffix of the events endpoint where endpoints have names.
EVENTS_SUFFIX = ".events"
#: How long, in seconds, an address may still be taken by a socket that was closed.
_RELEASE_TIME = 0.2
#: Longest path of an ipc endpoint: a socket address has 108 bytes, the suffix takes some.
_MAX_PATH = 107 - len(EVENTS_SUFFIX)


@dataclass(frozen=True)
class Endpoint:
    """A parsed endpoint. ``name`` is the path (ipc) or name (inproc), ``host`` that of tcp."""

    scheme: str
    name: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str, wildcard: bool = False) -> Endpoint:
        """The endpoint in ``text``. Raises EndpointError, naming it and its fault.

        ``wildcard`` allows port 0 or ``*``: any free port.
        """
        scheme, separator, rest = text.partition("://") if isinstance(text, str) else ("", "", "")
        if not separator or scheme not in ("inproc", "ipc", "tcp"):
            raise EndpointError(
                f"{text!r} is not an endpoint: write inproc://name, ipc:///path or tcp://host:port"
            )
        if scheme == "tcp":
            return _parse_tcp(text, rest, wildcard)
        if not rest or rest.startswith(("@", "*")) or "\0" in rest:
            raise EndpointError(f"{text!r}: {scheme} needs a name after ://")
        if scheme == "ipc" and len(os.fsencode(rest)) > _MAX_PATH:
            raise EndpointError(f"{text!r}: the path is longer than {_MAX_PATH} bytes")
        return cls(scheme, name=rest)

    def __str__(self) -> str:
        if self.scheme == "tcp":
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"tcp://{host}:{self.port}"
        return f"{self.scheme}://{self.name}"

    def events(self, greeting: str) -> Endpoint:
        """Where to subscribe, from what the server's greeting says. Raises EndpointError."""
        if self.scheme != "tcp":
            return Endpoint(self.scheme, name=self.name + greeting)
        if not greeting.isascii() or not greeting.isdigit() or not 0 < int(greeting) < 65536:
            raise EndpointError(f"{self}: the server names {greeting!r} as its port for events")
        return Endpoint("tcp", host=self.host, port=int(greeting))


def _parse_tcp(text: str, rest: str, wildcard: bool) -> Endpoint:
    host, colon, port = rest.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not colon or not host:
        raise EndpointError(f"{text!r}: tcp needs host:port")
    if wildcard and port in ("*", "0"):
        return Endpoint("tcp", host=host, port=0)
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise EndpointError(f"{text!r}: the port must lie between 1 and 65535")
    return Endpoint("tcp", host=host, port=int(port))


_EVERYWHERE = ("*", "0.0.0.0", "::")


def tcp_address(endpoint: Endpoint, has_keys: bool) -> str:
    """The address to bind for a tcp endpoint.

    Raises InsecureEndpoint if it is not loopback and ``has_keys`` is False.
    """
    if endpoint.host in _EVERYWHERE:
        if not has_keys:
            raise _insecure(endpoint)
        return endpoint.host
    try:
        found = socket.getaddrinfo(endpoint.host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise EndpointError(f"{endpoint}: the host cannot be resolved: {error}") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not has_keys and not all(
        ipaddress.ip_address(a.partition("%")[0]).is_loopback for a in addresses
    ):
        raise _insecure(endpoint)
    return min(addresses, key=lambda address: ":" in address)  # IPv4 where there is a choice


def _insecure(endpoint: Endpoint) -> InsecureEndpoint:
    return InsecureEndpoint(
        f"{endpoint}: this server has no keys, so whoever reaches it could trade; "
        "give it keys (`livetrader keys new`), or bind it to 127.0.0.1 or to an ipc endpoint, and "
        "reach it through a tunnel"
    )


class EndpointLock:
    """Holds an ipc path: a second ``bind`` of ZeroMQ would silently take it over."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._sockets = (endpoint.name, endpoint.name + EVENTS_SUFFIX)
        self._path = endpoint.name + ".lock"
        for path in self._sockets:
            # ZeroMQ would remove whatever lies there.
            if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise EndpointError(f"{endpoint}: {path} exists and is no socket")
        self._file = self._acquire(endpoint)

    def _acquire(self, endpoint: Endpoint) -> int:
        while True:
            try:
                file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise EndpointError(
                    f"{endpoint}: {self._path} cannot be written: {error.strerror}"
                ) from None
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(file)
                raise in_use(endpoint) from None
            if self._still_there(file):
                return file
            os.close(file)  # its owner removed it between our open and our lock

    def _still_there(self, file: int) -> bool:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(file))

    def release(self) -> None:
        """Remove the socket files and let others have the path; may be called more than once."""
        if self._file < 0:
            return
        for path in (*self._sockets, self._path):
            with suppress(FileNotFoundError):
                os.unlink(path)
        os.close(self._file)
        self._file = -1


def in_use(endpoint: Endpoint) -> EndpointInUse:
    """The error that ``endpoint`` is taken."""
    return EndpointInUse(f"{endpoint}: another server is already there; stop it or choose another")


def bind_socket(sock: zmq.Socket[Any], endpoint: Endpoint) -> Endpoint:
    """Bind ``sock``; returns where it is bound, its port filled in.

    The caller holds the lock of an ipc path and checked the host of a tcp one. Raises
    EndpointInUse, EndpointError.
    """
    address = str(endpoint)
    if endpoint.scheme == "tcp" and endpoint.port == 0:
        address = address[: address.rindex(":")] + ":*"
    _bind(sock, address, endpoint)
    if endpoint.scheme == "ipc":
        os.chmod(endpoint.name, stat.S_IRUSR | stat.S_IWUSR)
    if endpoint.scheme != "tcp":
        return endpoint
    port = sock.get_string(zmq.LAST_ENDPOINT).rpartition(":")[2]
    return Endpoint("tcp", host=endpoint.host, port=int(port))


def _bind(sock: zmq.Socket[Any], address: str, endpoint: Endpoint) -> None:
    # ZeroMQ gives up an address some time after its socket was closed.
    deadline = time.monotonic() + _RELEASE_TIME
    while True:
        try:
            with private_files():
                sock.bind(address)
            return
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE:
                raise EndpointError(f"{endpoint}: {error.strerror}") from None
            if time.monotonic() > deadline:
                raise in_use(endpoint) from None
        time.sleep(0.01)


@contextmanager
def private_files() -> Iterator[None]:
    """What is made meanwhile is for its owner only."""
    # A mode set after the bind would leave a moment in which others could connect.
    before = os.umask(stat.S_IRWXG | stat.S_IRWXO)
    try:
        yield
    finally:
        os.umask(before)
