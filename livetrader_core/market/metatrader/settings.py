"""Checks of what DwxMarket is given; each message begins with the setting at fault."""

from __future__ import annotations

from collections.abc import Sequence

from livetrader_core.errors import ConfigError


def host(host: object) -> str:
    if not isinstance(host, str) or not host.strip() or any(c in host for c in "/; \t"):
        raise ConfigError(f"host: must be a name or address without a port, not {host!r}")
    return host.strip("[]")


def port(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise ConfigError(f"{name}: must be a port from 1 to 65535, not {value!r}")
    return value


def seconds(name: str, value: object, least: float = 0.001, most: float = 86_400.0) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and least <= float(value) <= most):  # type: ignore[arg-type]
        raise ConfigError(f"{name}: must be seconds from {least:g} to {most:g}, not {value!r}")
    return float(value)  # type: ignore[arg-type]


def names(name: str, values: object) -> list[str]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ConfigError(f"{name}: must be a list, not {values!r}")
    return list(values)


def markets(markets: Sequence[str]) -> tuple[str, ...]:
    found = tuple(names("markets", markets))
    if not found or not all(isinstance(code, str) and code.isalnum() for code in found):
        raise ConfigError(f"markets: must be MARKET codes such as FOREX, not {markets!r}")
    return found


def suffix(suffix: object) -> str:
    if not isinstance(suffix, str) or any(c in suffix for c in ";: '\n"):
        raise ConfigError(f"suffix: must be what stands behind a code, not {suffix!r}")
    return suffix
