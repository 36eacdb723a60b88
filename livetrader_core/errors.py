"""Every error livetrader raises, in one view.

    LiveTraderError
    ├── ConfigError            a setting is missing or wrong; the message names its key
    ├── InvalidRequest         the call itself is wrong; repeating it cannot help
    │   ├── UnknownSymbol
    │   ├── UnknownTimeframe
    │   └── UnknownMethod
    ├── NotAllowed             the client's key may not do this at this server
    ├── DataError              a file or row cannot be read; the message names it
    ├── OrderRejected          the venue, or a check before it, refused: nothing was traded
    ├── OutcomeUnknown         sent and not answered: ask the venue, never send again blindly
    ├── Unavailable            not now; the same call may go through later
    │   ├── NotConnected
    │   ├── RequestTimeout
    │   └── TooBusy
    ├── ProtocolError          the other side does not speak our protocol, or another version
    │   └── VersionMismatch
    ├── EndpointError          an endpoint that cannot be served on
    │   ├── EndpointInUse
    │   └── InsecureEndpoint
    └── StorageError           the journal or the kline store cannot be read or written
        └── JournalInUse       another process has the journal open

``retry`` says whether repeating the same call can help.
"""

from __future__ import annotations

from typing import ClassVar


class LiveTraderError(Exception):
    """Base of all errors of this package."""

    retry: ClassVar[bool] = False


class ConfigError(LiveTraderError):
    """A setting is missing or has a wrong value."""


class InvalidRequest(LiveTraderError):
    """The request cannot be answered by anyone: its arguments are wrong."""


class UnknownSymbol(InvalidRequest):
    """No market here has this symbol."""


class UnknownTimeframe(InvalidRequest):
    """No such timeframe."""


class UnknownMethod(InvalidRequest):
    """The server has no such method, or no service that answers it."""


class NotAllowed(LiveTraderError):
    """The client's key has not the role that this needs."""


class DataError(LiveTraderError):
    """Recorded data is malformed."""


class OrderRejected(LiveTraderError):
    """The order was refused; nothing was traded."""


class OutcomeUnknown(LiveTraderError):
    """The order was sent and not answered: it may or may not be at the venue."""


class Unavailable(LiveTraderError):
    """It cannot be had at the moment."""

    retry: ClassVar[bool] = True


class NotConnected(Unavailable):
    """There is no connection to the other side."""


class RequestTimeout(Unavailable):
    """No reply came before the deadline."""


class TooBusy(Unavailable):
    """A limit on requests in flight or on subscriptions is reached."""


class ProtocolError(LiveTraderError):
    """What arrived is not what the protocol says."""


class VersionMismatch(ProtocolError):
    """The two sides speak different versions of the protocol."""


class EndpointError(LiveTraderError):
    """The endpoint cannot be served on."""


class EndpointInUse(EndpointError):
    """Another server already serves this endpoint."""


class InsecureEndpoint(EndpointError):
    """The endpoint would be open to others without keys."""


class StorageError(LiveTraderError):
    """A journal or store could not be read or written."""


class JournalInUse(StorageError):
    """The journal is open elsewhere: one server at a time writes it."""


def _tree(root: type[LiveTraderError]) -> dict[str, type[LiveTraderError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


#: Error classes by name, as replies on the wire carry them.
BY_NAME: dict[str, type[LiveTraderError]] = _tree(LiveTraderError)
