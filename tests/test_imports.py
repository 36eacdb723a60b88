"""What importing livetrader does not import: frameworks and venues' libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("backtrader", "pytdx", "tqsdk", "pandas", "exchange_calendars", "aiohttp", "matplotlib")


@pytest.mark.parametrize(
    "statement",
    [
        "import livetrader_core",
        "from livetrader_core import market, trade, rpc",
        "from livetrader_core.market import MarketService, ReplayMarket, CachedMarket",
        "from livetrader_core.market import TdxMarket, DwxMarket, Mt4Market, TqMarket",
        "from livetrader_core.rpc import Server, Client, MarketSubscriber, TradeSubscriber",
        "import livetrader_core.cli.app, livetrader_core.cli.sim, livetrader_core.cli.doctor",
    ],
)
def test_nothing_heavy_comes_with_it(statement: str) -> None:
    script = f"{statement}\nimport sys\nprint([n for n in {HEAVY!r} if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("missing", "make", "extra"),
    [
        ("pytdx", "market.TdxMarket('127.0.0.1:1')", "tdx"),
        ("tqsdk", "market.TqMarket('a', 'b')", "tq"),
    ],
)
def test_a_missing_extra_is_named(missing: str, make: str, extra: str) -> None:
    script = f"""
import asyncio, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from livetrader_core import market
from livetrader_core.errors import ConfigError
try:
    asyncio.run({make}.connect())
except ConfigError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert f"pip install 'livetrader[{extra}]'" in ran.stdout
