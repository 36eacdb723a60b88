"""What every simulated venue has: a life, and faults on request."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from livetrader_core.clock import Clock
from livetrader_core.errors import InvalidRequest
from livetrader_core.sim.books import VenueBooks
from livetrader_core.sim.recording import Recording


class FaultKind(str, Enum):
    """What can go wrong at a venue or on the way to it."""

    CUT = "cut"  #: every connection is dropped at once
    STALL = "stall"  #: nothing is answered or sent for a while
    LATE = "late"  #: the next answers come after a while
    EMPTY = "empty"  #: the next answers hold no bars
    DROP = "drop"  #: the next answers are never sent
    FRAGMENT = "fragment"  #: the next answers come in small pieces
    DUPLICATE = "duplicate"  #: the next answers or publications are sent twice
    RESTART = "restart"  #: the venue is gone for a while and comes back with no memory
    CLOCK_JUMP = "clock_jump"  #: the venue's own clock is off for a while
    LOSE = "lose"  #: the next requests never arrive
    REJECT = "reject"  #: the next trade operations are refused
    REQUOTE = "requote"  #: the next trade operations meet another price, and are not done
    SLIP = "slip"  #: the next executions are at a worse price
    LIE = "lie"  #: the next trade operations fail, and a close says that it succeeded


@dataclass(frozen=True)
class Fault:
    """One fault. ``seconds`` is how long it lasts (computer's time), ``count`` how many answers."""

    kind: FaultKind
    seconds: float = 0.0
    count: int = 1


class SimulatedVenue(ABC):
    """A venue on loopback. :meth:`start` and :meth:`stop` run in the event loop that serves it."""

    #: The faults it can show.
    faults: frozenset[FaultKind] = frozenset()

    def __init__(self, recordings: Sequence[Recording], clock: Clock) -> None:
        self.recordings = {recording.symbol: recording for recording in recordings}
        self.clock = clock

    @abstractmethod
    async def start(self) -> None:
        """Bind its sockets, on ports given to the constructor (0: free ones), and serve."""

    @abstractmethod
    async def stop(self) -> None:
        """Close everything; may be called more than once."""

    def books(self) -> VenueBooks | None:
        """What it has in its books of the one account that trades here; None: there is none."""
        return None

    @abstractmethod
    def _show(self, fault: Fault) -> None:
        """Let ``fault`` happen from now on."""

    def inject(self, fault: Fault) -> None:
        """Let ``fault`` happen from now on. Raises InvalidRequest if it does not know it."""
        if fault.kind not in self.faults:
            known = ", ".join(sorted(kind.value for kind in self.faults))
            raise InvalidRequest(f"{type(self).__name__} has no fault {fault.kind.value}: {known}")
        self._show(fault)


def random_faults(
    seed: int, kinds: frozenset[FaultKind], count: int, longest: float
) -> list[tuple[float, Fault]]:
    """``count`` faults with the pause in seconds before each, the same for the same ``seed``."""
    rng = random.Random(seed)
    ordered = sorted(kinds)
    return [
        (
            rng.uniform(0, longest),
            Fault(rng.choice(ordered), rng.uniform(0, longest), rng.randint(1, 3)),
        )
        for _ in range(count)
    ]
