"""The wire: ZeroMQ sockets and MessagePack bodies."""

from livetrader_core.rpc.client import AsyncClient, Client
from livetrader_core.rpc.guard import Allowed, Guard, Role
from livetrader_core.rpc.keys import KeyPair, Keys
from livetrader_core.rpc.server import Server
from livetrader_core.rpc.session import RemoteSession
from livetrader_core.rpc.subscriber import MarketSubscriber, TradeSubscriber

__all__ = [
    "Allowed",
    "AsyncClient",
    "Client",
    "Guard",
    "KeyPair",
    "Keys",
    "MarketSubscriber",
    "RemoteSession",
    "Role",
    "Server",
    "TradeSubscriber",
]
