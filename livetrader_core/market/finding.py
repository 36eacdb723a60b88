"""What a check of a venue found: the rows of `livetrader doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

#: A venue's clock may differ from this computer's by so much, in milliseconds.
_CLOCK_MS = 30_000


class Verdict(str, Enum):
    """Whether a check passed."""

    OK = "ok"
    DOUBT = "doubt"  #: worth a look; it may well be right
    FAILED = "failed"
    SKIPPED = "skipped"  #: cannot be told now, such as while the market is closed


@dataclass(frozen=True)
class Finding:
    """One check of one venue: what was found and, if that is not well, what to do about it."""

    check: str
    verdict: Verdict
    found: str
    advice: str = ""


def clock_finding(offset_ms: float, of: str) -> Finding:
    """Whether the clock of ``of`` agrees with this computer's, which is ahead by ``offset_ms``."""
    told = f"{of} is {abs(offset_ms) / 1000:.1f} s {'behind' if offset_ms > 0 else 'ahead'}"
    if abs(offset_ms) <= _CLOCK_MS:
        return Finding("clock", Verdict.OK, told)
    return Finding(
        "clock",
        Verdict.DOUBT,
        told,
        "set this computer's clock (NTP); bars are taken for closed by it",
    )
