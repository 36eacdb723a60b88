"""A MetaTrader 4 terminal with our expert advisor attached, as a simulated venue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from livetrader_core.clock import Clock
from livetrader_core.errors import EndpointInUse
from livetrader_core.sim.mt4_model import Mt4Model
from livetrader_core.sim.mt4_terminal import free_port
from livetrader_core.sim.mt4_trading import INVALID_VOLUME, REQUOTE, Mt4Trading
from livetrader_core.sim.recording import MINUTE_MS, Recording
from livetrader_core.sim.venue import Fault, FaultKind, SimulatedVenue
from tests.ea.build import library
from tests.ea.host import Advisor, Switches, Terminal

_JUMP_MS = 5 * MINUTE_MS
#: Four frames make a reply.
_REPLY_FRAMES = 4
#: OnDeinit's reason when inputs were changed.
_PARAMETERS = 5


def _free_ports() -> tuple[int, int]:
    first = free_port("127.0.0.1")
    while (second := free_port("127.0.0.1")) == first:
        continue
    return first, second


class EaTerminal(SimulatedVenue):
    """The terminal of a broker in ``time_zone``; ``inputs`` are the advisor's, by name.

    ``files`` is its MQL4/Files, which must outlive it; ``timer``: seconds between two OnTimer.
    ``longest`` is how much of the processor's time OnTimer took at most, in seconds.
    """

    faults = frozenset(
        {
            FaultKind.CUT,
            FaultKind.STALL,
            FaultKind.LATE,
            FaultKind.EMPTY,
            FaultKind.DROP,
            FaultKind.RESTART,
            FaultKind.CLOCK_JUMP,
            FaultKind.REJECT,
            FaultKind.REQUOTE,
            FaultKind.SLIP,
            FaultKind.LIE,
        }
    )

    def __init__(
        self,
        recordings: Sequence[Recording],
        clock: Clock,
        files: Path,
        time_zone: str = "EET-US",
        suffix: str = "",
        balance: float = 100_000.0,
        timer: float = 0.002,
        **inputs: Any,
    ) -> None:
        super().__init__(recordings, clock)
        self.model = Mt4Model(self.recordings, clock, time_zone, suffix)
        #: The account lives at the broker: it outlives the advisor.
        self.trading = Mt4Trading(self.model, balance)
        self.switches = Switches()
        self.functions = Terminal(self.model, self.trading, self.switches)
        self.files = files
        requests, publications = _free_ports()
        self.inputs: dict[str, Any] = {
            "RequestPort": requests,
            "PublicationPort": publications,
            "TimerMs": round(1000 * timer),
            "MaximumLots": 100.0,
            "MaximumOrders": 1000,
            **inputs,
        }
        self.advisor: Advisor | None = None
        self.longest = 0.0
        self.failed: BaseException | None = None
        self._timer = timer
        self._tasks: set[asyncio.Task[None]] = set()
        self._stalled_until = 0.0

    @property
    def endpoint(self) -> str:
        """Where clients connect."""
        return f"tcp://127.0.0.1:{self.inputs['RequestPort']}"

    # ---- life

    async def start(self) -> None:
        """Attach the advisor, and run its timer."""
        self.attach()
        deadline = time.monotonic() + 5.0
        while "waiting for its ports" in self._advisor.chart:
            if time.monotonic() > deadline:
                chart = self._advisor.chart
                await self.stop()
                raise EndpointInUse(chart)
            await asyncio.sleep(0.05)
            self._advisor.timer()
        self._spawn(self._run())

    async def stop(self) -> None:
        """Remove the advisor; may be called more than once."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.advisor is not None:
            self.advisor.remove()
            self.advisor = None
        if self.failed is not None:
            raise self.failed

    @property
    def _advisor(self) -> Advisor:
        assert self.advisor is not None
        return self.advisor

    def attach(self) -> None:
        """Begin a new life of the advisor."""
        self.advisor = Advisor(library(), self.functions, self.files, self.inputs)
        result = self.advisor.init()
        if result:
            self.advisor.remove()
            raise RuntimeError(f"OnInit gave {result}: {self.functions.printed[-1:]}")

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        """OnTimer, again and again. What ends it is kept for :meth:`stop`."""
        try:
            while True:
                if self.advisor is not None and time.monotonic() >= self._stalled_until:
                    self.step()
                await asyncio.sleep(self._timer)
        except Exception as error:
            self.failed = error
            raise

    def step(self) -> None:
        """What the terminal does by itself, and one OnTimer."""
        self.trading.advance()
        begun = time.thread_time()
        self._advisor.timer()
        self.longest = max(self.longest, time.thread_time() - begun)

    # ---- faults

    def _show(self, fault: Fault) -> None:
        kind, seconds = fault.kind, fault.seconds
        if kind is FaultKind.CUT:
            self._spawn(self._away(0.0, killed=False))
        elif kind is FaultKind.RESTART:
            self._spawn(self._away(seconds, killed=True))
        elif kind in (FaultKind.STALL, FaultKind.LATE):
            self._stalled_until = max(self._stalled_until, time.monotonic() + seconds)
        elif kind is FaultKind.EMPTY:
            self.switches.unloaded += fault.count
        elif kind is FaultKind.DROP:
            self._advisor.fail("send", fault.count)
        elif kind is FaultKind.REJECT:
            self.trading.refusals.extend([INVALID_VOLUME] * fault.count)
        elif kind is FaultKind.REQUOTE:
            self.trading.refusals.extend([REQUOTE] * fault.count)
        elif kind is FaultKind.SLIP:
            self.trading.slips.extend([2] * fault.count)
        elif kind is FaultKind.LIE:
            self.switches.lies += fault.count
        elif kind is FaultKind.CLOCK_JUMP:
            self._spawn(self._jump(fault))

    async def _away(self, seconds: float, killed: bool) -> None:
        """End this life of the advisor, and begin another after ``seconds``."""
        advisor, self.advisor = self.advisor, None
        if advisor is None:
            return
        if killed:
            advisor.kill()
        else:
            advisor.remove(_PARAMETERS)
        await asyncio.sleep(seconds)
        self.attach()

    async def _jump(self, fault: Fault) -> None:
        self.model.clock_error = _JUMP_MS if fault.count % 2 else -_JUMP_MS
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            self.model.clock_error = 0
