"""What the expert advisor refuses, in livetrader's errors."""

from __future__ import annotations

from livetrader_core.errors import (
    InvalidRequest,
    LiveTraderError,
    NotAllowed,
    OrderRejected,
    OutcomeUnknown,
    ProtocolError,
    TooBusy,
    Unavailable,
    UnknownMethod,
)

#: Codes of PROTOCOL.md that leave open whether something was done.
DOUBT = "doubt"
RETRY = "retry"
NOT_FOUND = "not_found"

_ERRORS: dict[str, tuple[type[LiveTraderError], str]] = {
    "bad_request": (InvalidRequest, ""),
    "unknown_method": (UnknownMethod, "the advisor is older than this program: update it"),
    "denied": (NotAllowed, "set token to what the advisor's input Token says"),
    "read_only": (NotAllowed, "set the advisor's input ReadOnly to false"),
    "limit": (TooBusy, "raise the advisor's input of that limit, or ask for less"),
    "not_allowed": (
        Unavailable,
        "switch on AutoTrading in the terminal, and 'Allow live trading' in the advisor's settings",
    ),
    "wrong_account": (Unavailable, "log in again, or restart this server"),
    "void": (OrderRejected, ""),
    "no_connection": (Unavailable, "check the terminal's login"),
    NOT_FOUND: (InvalidRequest, ""),
    "refused": (OrderRejected, ""),
    RETRY: (Unavailable, "ask again"),
    DOUBT: (OutcomeUnknown, "ask for its result"),
}


class Refusal(Exception):
    """An error reply: ``code`` is PROTOCOL.md's, ``number`` MQL4's error or 0."""

    def __init__(self, code: str, number: int, message: str) -> None:
        super().__init__(f"{message} ({code}{f', error {number}' if number else ''})")
        self.code, self.number, self.message = code, number, message


def error_of(refusal: Refusal, where: str, method: str) -> LiveTraderError:
    """The error to raise for ``refusal``: raise it ``from`` that, so that its code is not lost."""
    if refusal.code not in _ERRORS:
        return ProtocolError(f"{where}: {method}: unknown code {refusal.code!r}: {refusal}")
    kind, advice = _ERRORS[refusal.code]
    return kind(f"{where}: {method}: {refusal}" + (f"; {advice}" if advice else ""))


def refusal_of(error: BaseException) -> Refusal | None:
    """The error reply that ``error`` was raised for, if there is one."""
    cause = error.__cause__
    return cause if isinstance(cause, Refusal) else None
