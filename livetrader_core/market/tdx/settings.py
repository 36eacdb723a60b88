"""The settings of TdxMarket, checked: a message begins with the setting at fault."""

from __future__ import annotations

from collections.abc import Sequence

from livetrader_core.errors import ConfigError
from livetrader_core.market.tdx.codes import MARKETS
from livetrader_core.market.tdx.line import Address
from livetrader_core.timeframe import MINUTE_MS

DEFAULT_PORT = 7727
_US_DELAY_MS = 15 * MINUTE_MS


def check_hosts(host: str | Sequence[str]) -> list[Address]:
    """The hosts in the setting ``host``. Raises ConfigError."""
    texts = [host] if isinstance(host, str) else list(host)
    if not texts:
        raise ConfigError("host: name at least one, as ip:port")
    return list(dict.fromkeys(_address(text) for text in texts))


def _address(text: object) -> Address:
    ip, colon, port = str(text).strip().rpartition(":")
    if not colon:
        ip, port = port, str(DEFAULT_PORT)
    if not ip or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"host: expected ip:port, such as 1.2.3.4:{DEFAULT_PORT}, not {text!r}")
    return Address(ip.strip("[]"), int(port))


def check_markets(markets: Sequence[str]) -> tuple[str, ...]:
    """The MARKETs to serve. Raises ConfigError."""
    names = [markets] if isinstance(markets, str) else list(markets)
    unknown = [name for name in names if name not in MARKETS]
    if unknown or not names:
        told = f", not {unknown[0]!r}" if unknown else ""
        raise ConfigError(f"markets: must be some of {', '.join(MARKETS)}{told}")
    return tuple(dict.fromkeys(names))


def check_delay(delay_ms: int | None, markets: tuple[str, ...]) -> int:
    """How late quotes come, in milliseconds. Raises ConfigError."""
    if delay_ms is not None:
        return whole("delay_ms", delay_ms)
    if "US" in markets and len(markets) > 1:
        raise ConfigError(
            "delay_ms: US quotes come 15 minutes late and others do not: give US an adapter of "
            "its own, or say delay_ms for all"
        )
    return _US_DELAY_MS if "US" in markets else 0


def whole(name: str, value: object, least: int = 0) -> int:
    """``value``, a whole number of at least ``least``. Raises ConfigError naming ``name``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name}: must be a whole number of at least {least}, not {value!r}")
    return value


def positive(name: str, value: float) -> float:
    """``value``, a number of seconds above 0. Raises ConfigError naming ``name``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigError(f"{name}: must be above 0 (seconds), not {value!r}")
    return float(value)
