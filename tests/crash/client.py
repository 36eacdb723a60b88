"""The strategy's process that is killed: places the orders of a seed, from the first one on.

``python -m tests.crash.client ENDPOINT SEED COUNT``
"""

from __future__ import annotations

import sys

from livetrader_core.rpc import Client
from tests.crash.rig import some_orders


def main(endpoint: str, seed: str, count: str) -> None:
    with Client() as client:
        client.connect(endpoint)
        for order in some_orders(int(count), int(seed)):
            client.create_order(order)


if __name__ == "__main__":
    main(*sys.argv[1:])
