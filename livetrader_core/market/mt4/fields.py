"""JSON of the expert advisor, read with bounds; what is wrong in it is named."""

from __future__ import annotations

import json
import math
from typing import Any

from livetrader_core.errors import ProtocolError

#: A longer reply or publication is refused: 500 bars are some 40 KB.
LONGEST = 1024 * 1024
_LONGEST_NUMBER = 40
_MOST = 2**53

Object = dict[str, Any]


def parse(data: bytes | memoryview, of: str) -> Object:
    """The object in ``data``, which ``of`` names. Raises ProtocolError."""
    if len(data) > LONGEST:
        raise ProtocolError(f"{of}: {len(data)} bytes are more than {LONGEST}")
    try:
        found = _DECODER.decode(bytes(data).decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{of}: not JSON of ours: {error}") from None
    if not isinstance(found, dict):
        raise ProtocolError(f"{of}: must be an object, not {type(found).__name__}")
    return found


def _number(text: str) -> float:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} digits")
    return float(text)


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


_DECODER = json.JSONDecoder(
    parse_float=_number, parse_int=_integer, parse_constant=_constant, strict=False
)


def _of(found: Object, name: str) -> Any:
    if name not in found:
        raise ProtocolError(f"{name}: is missing")
    return found[name]


def integer(found: Object, name: str, least: int = 0, most: int = _MOST) -> int:
    """The whole number ``name``. Raises ProtocolError naming it, as all these."""
    value = _of(found, name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ProtocolError(f"{name}: must be a whole number from {least} to {most}: {value!r:.80}")
    return value


def number(found: Object, name: str, least: float = -math.inf) -> float:
    """The number ``name``, finite and at least ``least``."""
    return as_number(_of(found, name), name, least)


def as_number(value: Any, name: str, least: float = -math.inf) -> float:
    """``value`` as a finite number of at least ``least``."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not plain or not math.isfinite(value) or value < least:
        raise ProtocolError(f"{name}: must be a number of at least {least:g}: {value!r:.80}")
    return float(value)


def positive(found: Object, name: str) -> float:
    """The number ``name``, which is above 0."""
    value = number(found, name)
    if value <= 0:
        raise ProtocolError(f"{name}: must be above 0: {value!r}")
    return value


def flag(found: Object, name: str) -> bool:
    """Whether ``name`` is set."""
    value = _of(found, name)
    if not isinstance(value, bool):
        raise ProtocolError(f"{name}: must be true or false: {value!r:.80}")
    return value


def text(found: Object, name: str, longest: int = 256) -> str:
    """The text ``name``."""
    value = _of(found, name)
    if not isinstance(value, str) or len(value) > longest:
        raise ProtocolError(f"{name}: must be a text of at most {longest} characters")
    return value


def items(found: Object, name: str, most: int = 10_000) -> list[Any]:
    """The list ``name``."""
    value = _of(found, name)
    if not isinstance(value, list) or len(value) > most:
        raise ProtocolError(f"{name}: must be a list of at most {most}")
    return value


def object_of(found: Object, name: str) -> Object:
    """The object ``name``."""
    value = _of(found, name)
    if not isinstance(value, dict):
        raise ProtocolError(f"{name}: must be an object, not {value!r:.80}")
    return value
