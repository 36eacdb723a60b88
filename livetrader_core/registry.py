"""Adapters by name. A package of anybody's adds one through an entry point.

In the ``setup.cfg`` of a package that brings a venue::

    [options.entry_points]
    livetrader.markets =
        kraken = livetrader_kraken:KrakenMarket
    livetrader.trades =
        kraken = livetrader_kraken:KrakenTrade

and ``adapter = "kraken"`` is known to livetrader.toml.
"""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from livetrader_core.errors import ConfigError
from livetrader_core.market.base import MarketBase
from livetrader_core.trade.base import TradeBase

MARKETS = "livetrader.markets"
TRADES = "livetrader.trades"

#: Adapters that need an extra of livetrader's own, by name.
_EXTRAS = {"tdx": "tdx", "tq": "tq"}

Base = TypeVar("Base")


def market_adapters() -> list[str]:
    """Names of the market adapters that are installed, sorted."""
    return sorted(_installed(MARKETS))


def trade_adapters() -> list[str]:
    """Names of the trade adapters that are installed, sorted."""
    return sorted(_installed(TRADES))


def load_market(name: str) -> type[MarketBase]:
    """The market adapter called ``name``. Raises ConfigError, naming what is at fault."""
    return _load(MARKETS, name, MarketBase)  # type: ignore[type-abstract]


def load_trade(name: str) -> type[TradeBase]:
    """The trade adapter called ``name``. Raises ConfigError, naming what is at fault."""
    return _load(TRADES, name, TradeBase)  # type: ignore[type-abstract]


def _installed(group: str) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=group):
        others = found.setdefault(entry.name, [])
        # The same package can lie on the path twice (installed, and as a checkout).
        if entry.value not in [other.value for other in others]:
            others.append(entry)
    return found


def _load(group: str, name: str, base: type[Base]) -> type[Base]:
    installed = _installed(group)
    kind = group.partition(".")[2].removesuffix("s")
    if name not in installed:
        raise ConfigError(_unknown(kind, name, sorted(installed)))
    entries = installed[name]
    if len(entries) > 1:
        packages = " and ".join(_package(entry) for entry in entries)
        raise ConfigError(
            f"two packages bring a {kind} adapter {name!r}: {packages}; uninstall one of them"
        )
    return _class_of(entries[0], kind, base)


def _class_of(entry: EntryPoint, kind: str, base: type[Base]) -> type[Base]:
    where = f"the {kind} adapter {entry.name!r} of {_package(entry)} ({entry.value})"
    try:
        loaded = entry.load()
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{where} needs the package {error.name}, which is not installed{_hint(entry.name)}"
        ) from error
    except Exception as error:  # whatever a stranger's module raises when it is imported
        raise ConfigError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
    if not (inspect.isclass(loaded) and issubclass(loaded, base)):
        raise ConfigError(f"{where} is not a {base.__name__}")
    if inspect.isabstract(loaded):
        missing = ", ".join(sorted(getattr(loaded, "__abstractmethods__", ())))
        raise ConfigError(f"{where} lacks the methods {missing}")
    return loaded


def _unknown(kind: str, name: str, known: list[str]) -> str:
    message = f"there is no {kind} adapter {name!r}; installed: {', '.join(known) or 'none'}"
    near = get_close_matches(name, known, n=1)
    if name in _EXTRAS:
        return message + _hint(name)
    if near:
        return f"{message}; did you mean {near[0]!r}?"
    return message


def _hint(name: str) -> str:
    extra = _EXTRAS.get(name)
    return f"; try: pip install 'livetrader[{extra}]'" if extra else ""


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unnamed package"
