"""Settings of what works over tqsdk. All raise ConfigError naming the setting at fault."""

from __future__ import annotations

from pydantic import SecretStr

from livetrader_core.errors import ConfigError


def secret(name: str, value: SecretStr | str) -> SecretStr:
    """A password that is not empty."""
    hidden = value if isinstance(value, SecretStr) else SecretStr(str(value))
    if not hidden.get_secret_value().strip():
        raise ConfigError(f"{name}: is empty; set it in the environment")
    return hidden


def text(name: str, value: object) -> str:
    """The name of an account with the vendor."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{name}: must be the name of an account with the vendor, not {value!r}")
    return value.strip()


def address(name: str, value: object, scheme: str) -> str:
    """An address that begins with ``scheme``, or none."""
    if not isinstance(value, str):
        raise ConfigError(f"{name}: must be an address, not {value!r}")
    if value and not value.startswith((f"{scheme}://", f"{scheme}s://")):
        raise ConfigError(f"{name}: must begin with {scheme}:// or {scheme}s://, not {value!r}")
    return value.rstrip("/")


def positive(name: str, value: object, of: str = "") -> float:
    """A finite number above 0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0 < float(value) < float("inf")):  # type: ignore[arg-type]
        raise ConfigError(f"{name}: must be a number {of}above 0, not {value!r}")
    return float(value)  # type: ignore[arg-type]


def seconds(name: str, value: object) -> float:
    """A number of seconds above 0."""
    return positive(name, value, "of seconds ")
