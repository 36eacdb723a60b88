"""Guard: which clients a server lets in over the network, and what each may do.

Endpoints in this process (inproc) and this computer's sockets (ipc) are the user's own and need no
keys; with a guard every tcp endpoint asks for them. Authentication is ZeroMQ's (RFC 26 CurveZMQ,
RFC 27 ZAP) with pyzmq's authenticator.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from livetrader_core.errors import ConfigError, EndpointError, NotAllowed
from livetrader_core.rpc import protocol
from livetrader_core.rpc.keys import KeyPair, is_key
from livetrader_core.rpc.sockets import Frames, content

_NOBLOCK = int(zmq.NOBLOCK)
#: Seconds for which the address of an authenticator may still be taken after it was stopped.
_RELEASE_TIME = 1.0


class Role(IntEnum):
    """What a client may do; each may do what those before it may."""

    MARKET = 1
    TRADE = 2
    ADMIN = 3


#: Methods that need more than :attr:`Role.MARKET`.
_NEEDS = {
    **dict.fromkeys(
        (
            "begin_replay",
            "create_order",
            "cancel_order",
            "modify_order",
            "give_up_order",
            "fetch_order",
            "fetch_orders",
            "fetch_open_orders",
            "fetch_fills",
            "fetch_positions",
            "fetch_balance",
            "events_after",
            "venue_orders",
            "kill",
            "kill_state",
        ),
        Role.TRADE,
    ),
    "lift": Role.ADMIN,
    "reconcile": Role.ADMIN,
}


@dataclass(frozen=True)
class Allowed:
    """A client that is let in: the ``name`` that messages call it by, and its ``role``."""

    name: str
    role: Role


#: Whoever reaches a socket without keys: the user who runs the server.
OWNER = Allowed("this computer", Role.ADMIN)


class Guard:
    """The server's key ``pair``, and its ``clients`` by public key.

    Raises ConfigError for what is no public key.
    """

    def __init__(self, pair: KeyPair, clients: Mapping[str, Allowed]) -> None:
        for key, allowed in clients.items():
            if not is_key(key):
                raise ConfigError(f"the key of client {allowed.name} is no public key: {key!r}")
        self.pair = pair
        self._clients = dict(clients)
        self._domain = ""

    def start(self) -> None:
        """Begin to judge who connects; once for each :meth:`stop`."""
        self._domain = _authenticator.join(self)

    def stop(self) -> None:
        """Let in nobody any more; may be called more than once."""
        _authenticator.leave(self._domain)
        self._domain = ""

    def protect(self, socket: zmq.Socket[Any]) -> None:
        """Make what ``socket`` is bound to from now on ask for keys."""
        self.pair.protect(socket, self._domain)

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the holder of ``key`` is let in; pyzmq's authenticator asks."""
        return key.decode() in self._clients

    # ---- what they may do

    def receive_request(self, socket: zmq.Socket[Any]) -> tuple[Frames, Allowed]:
        """A request, and who sent it. Raises zmq.Again if there is none."""
        frame = socket.recv(_NOBLOCK, copy=False)
        frames: Frames = [content(frame)]
        while frame.more:
            frame = socket.recv(_NOBLOCK, copy=False)
            frames.append(content(frame))
        return frames, self._sender(frame)

    def receive_subscription(self, socket: zmq.Socket[Any]) -> bytes:
        """A subscription, taken if its sender may have it. Raises zmq.Again if there is none.

        For an XPUB socket in manual mode, where one counts only if it is confirmed right away.
        """
        frame = socket.recv(_NOBLOCK, copy=False)
        message = frame.bytes
        topic = message[1:]
        if message[:1] == b"\x00":
            socket.set(zmq.UNSUBSCRIBE, topic)
        elif may_read(self._sender(frame).role, topic):
            socket.set(zmq.SUBSCRIBE, topic)
        else:
            return b""
        return message

    def _sender(self, frame: zmq.Frame) -> Allowed:
        try:
            user = str(frame.get("User-Id"))
        except zmq.ZMQError:  # it came over an endpoint without keys
            return OWNER
        # So it is, too, where such an endpoint was bound after one with keys.
        return OWNER if user == _WITHOUT_KEYS else self._clients.get(user, _NOBODY)


#: What the authenticator calls who showed no key; who showed one is called by it.
_WITHOUT_KEYS = "anonymous"
_NOBODY = Allowed("a client that is not listed", Role.MARKET)


def may_read(role: Role, topic: bytes) -> bool:
    """Whether a subscription to all that begins with ``topic`` is one for ``role``."""
    trade = protocol.TRADE
    return role >= Role.TRADE or not (topic.startswith(trade) or trade.startswith(topic))


def check_allowed(client: Allowed, method: str) -> None:
    """Raise NotAllowed if ``method`` is none for ``client``."""
    needed = _NEEDS.get(method, Role.MARKET)
    if client.role < needed:
        raise NotAllowed(
            f"{method} needs the role {needed.name.lower()}; {client.name} has "
            f"{client.role.name.lower()}: the server's [server.clients] says so"
        )


def parse_role(text: str) -> Role:
    """The role called ``text``. Raises ConfigError."""
    name = text.upper()
    if not re.fullmatch("|".join(role.name for role in Role), name):
        names = ", ".join(role.name.lower() for role in Role)
        raise ConfigError(f"{text!r} is no role; there are {names}")
    return Role[name]


class _Authenticator:
    """The one authenticator that a ZeroMQ context can have, for all servers of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: ThreadAuthenticator | None = None
        self._domains: set[str] = set()
        self._count = 0

    def join(self, guard: Guard) -> str:
        """Ask ``guard`` about who connects under the domain that is returned."""
        with self._lock:
            if self._running is None:
                self._running = _start_authenticator()
            self._count += 1
            domain = f"livetrader-{self._count}"
            self._domains.add(domain)
            self._running.configure_curve_callback(domain, guard)
            return domain

    def leave(self, domain: str) -> None:
        """Ask nobody about ``domain`` any more."""
        with self._lock:
            self._domains.discard(domain)
            if self._running is None:
                return
            self._running.credentials_providers.pop(domain, None)
            if not self._domains:
                self._running.stop()
                self._running = None


def _start_authenticator() -> ThreadAuthenticator:
    # ZeroMQ gives up the address of the one before some time after it was stopped.
    deadline = time.monotonic() + _RELEASE_TIME
    while True:
        authenticator = ThreadAuthenticator(zmq.Context.instance())
        try:
            authenticator.start()
            return authenticator
        except zmq.ZMQError as error:
            authenticator.stop()
            if error.errno != zmq.EADDRINUSE or time.monotonic() > deadline:
                raise EndpointError(
                    "another part of this process answers for ZeroMQ's keys (ZAP) already; "
                    "a server with keys must be alone with that"
                ) from error
        time.sleep(0.01)


_authenticator = _Authenticator()
