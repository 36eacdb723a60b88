"""tqsdk itself: imported when first needed, without its output, and led to the right hosts."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import re
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from livetrader_core.errors import ConfigError, LiveTraderError, NotConnected
from livetrader_core.market.tq.logs import own_logging

log = logging.getLogger(__name__)

_AUTH_VARIABLE = "TQ_AUTH_URL"
_REFUSED = re.compile(r"\((4\d\d)\s*,")
#: A warning against asking for many instruments one by one, which streams cannot avoid.
_MANY = "订阅多合约时推荐使用"
#: How long the tasks of a TqApi may take to end, and how often they are looked at (seconds).
_PATIENCE = 3.0
_TURN = 0.02
#: The task in which a TqApi waits for whatever comes.
_FETCH = "_fetch_msg"
_NOTICES = "tqsdk.changelog_notification"
#: Notices about the line (``code``), as the vendor numbers them: it came up, it is tried again, it
#: was restored, it is down.
LINE_UP = (2019112901, 2019112902)
LINE_DOWN = 2019112911
LINE_NOTICES = (*LINE_UP, 2019112910, LINE_DOWN)
#: What brokers say of a wrong account or password.
_BAD_LOGIN = ("不合法的登录", "密码", "不存在")
_lock = threading.Lock()


@dataclass(frozen=True)
class Login:
    """Who logs in, and where; an empty address is the vendor's own.

    ``account`` makes the account that is traded with, out of the module tqsdk; None: quotes only.
    """

    user: str
    password: SecretStr
    auth_url: str = ""
    md_url: str = ""
    account: Callable[[Any], Any] | None = None

    @property
    def auth_host(self) -> str:
        """The auth service, for messages."""
        return self.auth_url or "the vendor's auth service"

    @property
    def md_host(self) -> str:
        """The quotes service, for messages."""
        return self.md_url or "the vendor's quotes service"


def load() -> Any:
    """The module ``tqsdk``. Raises ConfigError if it is not installed."""
    with _lock:
        if "tqsdk" in sys.modules:
            return sys.modules["tqsdk"]
        # The first TqApi of a process would fetch a document of notices from the vendor and print
        # it; without a network that costs ten seconds.
        sys.modules.setdefault(_NOTICES, types.ModuleType(_NOTICES))
        printed = io.StringIO()
        try:
            with redirect_stderr(printed), own_logging():
                import tqsdk
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"the tq adapter needs the package {error.name}; try: pip install 'livetrader[tq]'"
            ) from error
        for line in filter(None, printed.getvalue().splitlines()):
            log.info("tqsdk: %s", line)
        return tqsdk


def open_api(login: Login, loop: asyncio.AbstractEventLoop, ending: Ending, timeout: float) -> Any:
    """A TqApi that runs in ``loop``, logged in and connected, within ``timeout`` seconds.

    Raises ConfigError for a refused login, NotConnected for everything else.
    """
    tqsdk = load()
    warnings.filterwarnings("ignore", message=_MANY)
    # At DEBUG it writes every frame, and so the passwords of the logins.
    logging.getLogger("websockets").setLevel(logging.INFO)
    # The constructor would wait a minute, and there is no setting for that. The loop first runs
    # after the login, which has its own limit.
    waiting: list[asyncio.TimerHandle] = []
    loop.call_soon(lambda: waiting.append(loop.call_later(timeout, ending.give_up)))
    account = None if login.account is None else login.account(tqsdk)
    try:
        api = tqsdk.TqApi(
            account,
            auth=_auth(tqsdk, login),
            loop=loop,
            debug=False,
            disable_print=True,
            _md_url=login.md_url or None,
        )
    except Exception as error:  # tqsdk raises bare Exceptions
        raise _refused_account(account) or _explain(error, login, timeout) from error
    for watchdog in waiting:
        watchdog.cancel()
    # It sets its logger to DEBUG and formats every packet, whether anybody reads that or not.
    logging.getLogger("TqApi").setLevel(logging.WARNING)
    return api


def _auth(tqsdk: Any, login: Login) -> Any:
    """The credentials; the address of the auth service can only be given in the environment."""
    password = login.password.get_secret_value()
    if not login.auth_url:
        return tqsdk.TqAuth(login.user, password)
    with _lock:
        before = os.environ.get(_AUTH_VARIABLE)
        os.environ[_AUTH_VARIABLE] = login.auth_url.rstrip("/")
        try:
            return tqsdk.TqAuth(login.user, password)
        finally:
            if before is None:
                del os.environ[_AUTH_VARIABLE]
            else:
                os.environ[_AUTH_VARIABLE] = before


def _refused_account(account: Any) -> LiveTraderError | None:
    """What the trading server said against a login, which tqsdk only prints."""
    data = getattr(getattr(account, "_api", None), "_data", {})
    for notice in dict(data.get("notify", {})).values():
        said = str(notice.get("content", "")) if isinstance(notice, Mapping) else ""
        if said and notice.get("code", 0) not in LINE_NOTICES and notice.get("level") != "INFO":
            if any(word in said for word in _BAD_LOGIN):
                return ConfigError(
                    f"account: the trading server refused the login: {said}; check the broker, "
                    "the account and its password in the environment"
                )
            return NotConnected(f"the trading server does not let us in: {said}")
    return None


def _explain(error: Exception, login: Login, timeout: float) -> LiveTraderError:
    refused = _REFUSED.search(str(error))
    if refused is not None:
        return ConfigError(
            f"user: {login.auth_host} refused the login of {login.user!r} "
            f"(HTTP {refused.group(1)}); check it, and the password in the environment"
        )
    if type(error).__name__ == "TqTimeoutError":
        return NotConnected(
            f"md_url: no quotes from {login.md_host} within {timeout:g} s; the login of "
            f"{login.user!r} at {login.auth_host} went through"
        )
    if type(error).__module__.startswith("requests"):
        return NotConnected(
            f"auth_url: {login.auth_host} cannot be reached: {type(error).__name__}; check the "
            "address and the network"
        )
    return NotConnected(f"tqsdk could not log in as {login.user!r}: {error}")


class Ending:
    """How a TqApi's loop is brought to its end: each of its tasks is cancelled, and only once.

    Their ends take a few turns (the websocket says goodbye), which a second cancellation would cut
    short, leaving sockets open.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._cancelled: set[asyncio.Task[Any]] = set()

    def give_up(self) -> None:
        """End a TqApi that is being made; called within the loop."""
        waiting = [one for one in asyncio.all_tasks(self._loop) if _FETCH in repr(one.get_coro())]
        for task in waiting:
            # It takes that for the end of its patience, and then closes what it has opened.
            task.cancel()
        if not waiting:
            # It may begin to wait only after this.
            self._loop.call_later(_TURN, self.give_up)

    def _cancel(self) -> bool:
        """Cancel what was not cancelled before; whether there is anything left."""
        running = asyncio.all_tasks(self._loop)
        for task in running - self._cancelled:
            task.cancel()
        self._cancelled |= running
        return bool(running)

    def close(self) -> None:
        """Close the loop, with what a TqApi that failed has left in it."""
        if self._loop.is_closed():
            return
        deadline = time.monotonic() + _PATIENCE
        while self._cancel() and time.monotonic() < deadline:
            # A TqApi stops its loop whenever a task ends, so nothing can be run to its completion.
            self._run(_TURN)
        self._run(0)  # transports close one turn after their last task
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _run(self, seconds: float) -> None:
        stop = self._loop.call_later(seconds, self._loop.stop)
        self._loop.run_forever()
        stop.cancel()
