"""Operations of the expert advisor: each is named, done once, and its outcome can be asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from livetrader_core.errors import LiveTraderError, NotConnected, OrderRejected, OutcomeUnknown
from livetrader_core.market.mt4.fields import Object
from livetrader_core.market.mt4.line import Line
from livetrader_core.market.mt4.messages import Argument
from livetrader_core.market.mt4.refusal import DOUBT, NOT_FOUND, RETRY, Refusal, refusal_of

#: Errors of MQL4 after which nothing was done, and the next attempt may succeed: price changed,
#: off quotes, requote.
PASSING = frozenset({135, 136, 138})
_ATTEMPTS = 4


class Operations:
    """``line`` gives the working line, or raises NotConnected; ``account`` the account's number,
    which all is meant for. ``pause``: seconds between attempts; ``patience``: how long an outcome
    that is missing is asked for.
    """

    def __init__(
        self, line: Callable[[], Line], account: Callable[[], str], pause: float, patience: float
    ) -> None:
        self._line = line
        self._account = account
        self._pause = pause
        self._patience = patience

    async def do(
        self, name: str, method: str, operation: str, *args: Argument, again: bool = True
    ) -> Object:
        """Do it; ``name`` is what errors call it. Prices that change are met with a new attempt.

        ``again`` off: they are refusals. Raises NotConnected if it was not sent, OrderRejected if
        it was certainly not done, OutcomeUnknown.
        """
        for attempt in range(_ATTEMPTS):
            line = self._line()
            try:
                return await line.request(method, operation, *args, self._account())
            except NotConnected:
                raise
            except LiveTraderError as error:
                refusal = refusal_of(error)
                if refusal is None or refusal.code == DOUBT:
                    return await self._outcome(name, operation, error)
                passing = refusal.code == RETRY or refusal.number in PASSING
                if not (passing and again) or attempt == _ATTEMPTS - 1:
                    raise OrderRejected(f"{name}: {error}") from refusal
            await asyncio.sleep(self._pause)
        raise AssertionError("unreachable")

    async def _outcome(self, name: str, operation: str, why: LiveTraderError) -> Object:
        """What became of it, asked for until it is known or patience ends."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        unknown = OutcomeUnknown(f"{name}: not known whether it was done: {why}")
        while True:
            try:
                body = await self.give_up(operation)
            except LiveTraderError as error:
                raise unknown from error
            if body.get("state") == "done":
                return body
            if body.get("state") == "void":
                raise OrderRejected(f"{name}: it did not arrive: {why}") from why
            if body.get("state") in ("refused", "lost"):
                raise OrderRejected(f"{name}: {body['state']}, error {body.get('number')}") from why
            if loop.time() > deadline:
                raise unknown from why
            await asyncio.sleep(self._pause)

    async def give_up(self, operation: str) -> Object:
        """What became of an operation, which is not done later if it was not done by now.

        Raises Unavailable.
        """
        return await self._line().request("void", operation, self._account())

    async def result(self, operation: str) -> Object | None:
        """What is known of an operation; None: the advisor never saw it. Raises Unavailable."""
        try:
            return await self._line().request("result", operation, self._account())
        except LiveTraderError as error:
            refusal = refusal_of(error)
            if isinstance(refusal, Refusal) and refusal.code == NOT_FOUND:
                return None
            raise
