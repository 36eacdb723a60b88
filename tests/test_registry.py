"""Adapters by entry point, those of a stranger's installed package included."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from livetrader_core import registry
from livetrader_core.config import build_services, load_config
from livetrader_core.errors import ConfigError
from livetrader_core.market import ReplayMarket
from livetrader_core.registry import (
    load_market,
    load_trade,
    market_adapters,
    trade_adapters,
)
from livetrader_core.trade import PaperTrade

KRAKEN = """
from livetrader_core.models import Klines
from livetrader_core.market import MarketBase
from livetrader_core.trade import PaperTrade


class KrakenMarket(MarketBase):
    markets = ("KRAKEN",)

    def __init__(self, host: str, depth: int = 5):
        self.given = (host, depth)

    async def connect(self): ...
    async def disconnect(self): ...
    def watch_klines(self, symbol, timeframe="1m"): ...
    async def get_kline_histories(
        self, symbol, from_ts=None, limit=None, to_ts=None, timeframe="1m", forming=False
    ):
        return Klines.empty(symbol, timeframe)
    async def get_contract(self, symbol): ...
    async def list_symbols(self):
        return ["KRAKEN.XBTUSD"]


class Unfinished(MarketBase):
    async def connect(self): ...


class KrakenTrade(PaperTrade):
    pass


not_a_class = 5
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package as pip leaves it: modules and a dist-info, in a folder on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    known = set(sys.modules)

    def run(package: str, source: str, markets: str = "", trades: str = "") -> None:
        (tmp_path / f"{package}.py").write_text(source)
        info = tmp_path / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(
            f"[livetrader.markets]\n{markets}\n\n[livetrader.trades]\n{trades}\n"
        )
        importlib.invalidate_caches()

    yield run  # type: ignore[misc]
    for name in set(sys.modules) - known:
        if name.startswith("lt_"):
            del sys.modules[name]


def test_our_own_adapters() -> None:
    assert "replay" in market_adapters()
    assert "paper" in trade_adapters()
    assert load_market("replay") is ReplayMarket
    assert load_trade("paper") is PaperTrade


def test_an_adapter_of_a_package_of_its_own(install: Install, tmp_path: Path) -> None:
    install(
        "lt_kraken",
        KRAKEN,
        markets="kraken = lt_kraken:KrakenMarket",
        trades="kraken = lt_kraken:KrakenTrade",
    )
    assert "kraken" in market_adapters()
    assert "kraken" in trade_adapters()
    file = tmp_path / "lt.toml"
    file.write_text(
        "[markets.k]\nadapter = 'kraken'\nhost = 'h'\n[trades.k]\nadapter = 'kraken'\n"
        "cash = 5\n[journal]\npath = 'j.sqlite'"
    )
    market, trade = build_services(load_config(file, {}))
    assert type(market.markets[0]).__name__ == "KrakenMarket"
    assert getattr(market.markets[0], "given", None) == ("h", 5)
    assert trade is not None
    assert type(trade.adapters[0]).__name__ == "KrakenTrade"
    assert getattr(trade.adapters[0], "service", None) is market
    file.write_text("[markets.k]\nadapter = 'kraken'\nhost = 'h'\ndepth = 'deep'")
    with pytest.raises(ConfigError, match=r"lt\.toml: markets\.k\.depth: expected a whole number"):
        build_services(load_config(file, {}))


def test_an_unknown_adapter_is_told_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no market adapter 'repley'.*replay.*mean 'replay'"):
        load_market("repley")
    with pytest.raises(ConfigError, match=r"no trade adapter 'zzz'; installed:.*paper"):
        load_trade("zzz")


def test_an_adapter_of_ours_that_needs_an_extra(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._EXTRAS, "vendor", "tdx")
    with pytest.raises(ConfigError, match=r"no market adapter 'vendor'.*livetrader\[tdx\]"):
        load_market("vendor")
    install(
        "lt_extra",
        "import lt_vendors_own_library",
        markets="vendor = lt_extra:VendorMarket",
    )
    with pytest.raises(ConfigError, match=r"lt_vendors_own_library.*livetrader\[tdx\]"):
        load_market("vendor")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("import lt_not_there", "X", "needs the package lt_not_there, which is not installed"),
        ("raise OSError('no licence')", "X", "cannot be loaded: OSError: no licence"),
        ("def f(:", "X", "cannot be loaded: SyntaxError"),
        (KRAKEN, "Nothing", "cannot be loaded: AttributeError"),
        (KRAKEN, "not_a_class", "is not a MarketBase"),
        (KRAKEN, "KrakenTrade", "is not a MarketBase"),
        (KRAKEN, "Unfinished", "lacks the methods disconnect, get_contract"),
    ],
)
def test_a_broken_package_is_named(
    install: Install, source: str, target: str, message: str
) -> None:
    install("lt_broken", source, markets=f"broken = lt_broken:{target}")
    with pytest.raises(ConfigError, match=message) as caught:
        load_market("broken")
    assert "market adapter 'broken' of lt_broken 1.2" in str(caught.value)


def test_two_packages_with_one_name(install: Install) -> None:
    install("lt_one", KRAKEN, markets="kraken = lt_one:KrakenMarket")
    install("lt_two", KRAKEN, markets="kraken = lt_two:KrakenMarket")
    with pytest.raises(ConfigError, match=r"two packages .*'kraken': lt_(one|two) 1\.2 and lt_"):
        load_market("kraken")
