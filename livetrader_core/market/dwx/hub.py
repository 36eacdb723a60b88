"""One line to an expert advisor for all that use it in an event loop.

The advisor deals its replies out to whoever is connected, so that two lines of quotes and orders
would get each other's answers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import zmq

from livetrader_core.market.dwx.line import Address, Line
from livetrader_core.market.metatrader import hub

Hub = hub.Hub[Line, bytes]
User = hub.User[bytes]


def hub_of(address: Address) -> Hub:
    """The hub to ``address`` in the running event loop."""
    return hub.shared_hub(address, partial(_line, address))


def _line(address: Address, context: zmq.Context[Any], *others: Any) -> Line:
    return Line(context, address, *others)
