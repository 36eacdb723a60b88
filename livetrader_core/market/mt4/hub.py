"""One line to an expert advisor for all that use it in an event loop: quotes and orders."""

from __future__ import annotations

from functools import partial

from livetrader_core.market.metatrader import hub
from livetrader_core.market.mt4.address import Address
from livetrader_core.market.mt4.line import Line
from livetrader_core.market.mt4.messages import Publication

Hub = hub.Hub[Line, Publication]
User = hub.User[Publication]


def hub_of(address: Address) -> Hub:
    """The hub to ``address`` in the running event loop."""
    return hub.shared_hub(address, partial(Line, address))
