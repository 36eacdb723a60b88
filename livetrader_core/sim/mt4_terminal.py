"""Mt4Terminal: a MetaTrader 4 terminal with the DWX expert advisor attached, on three sockets."""

from __future__ import annotations

import asyncio
import logging
import random
import socket as network
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import zmq

from livetrader_core.clock import Clock
from livetrader_core.errors import EndpointInUse
from livetrader_core.rpc.sockets import LoopSocket, receive_frame
from livetrader_core.sim.books import VenueBooks, net
from livetrader_core.sim.dwx_expert import Build, DwxExpert, build_of
from livetrader_core.sim.dwx_trading import ExpertInputs
from livetrader_core.sim.mt4_model import Mt4Model
from livetrader_core.sim.mt4_trading import (
    INVALID_VOLUME,
    MARKET_CLOSED,
    REQUOTE,
    Mt4Trading,
    executions,
)
from livetrader_core.sim.recording import MINUTE_MS, Recording
from livetrader_core.sim.venue import Fault, FaultKind, SimulatedVenue

log = logging.getLogger(__name__)

#: Free ports are looked for below those that the system gives to outgoing connections: a client
#: that retries on loopback could otherwise connect to itself, and take the port.
_FREE_PORTS = (20_000, 32_000)
_TICK_MS = MINUTE_MS // 4
_REBIND = 5.0
#: How far the terminal's clock is off while it has jumped.
_JUMP_MS = 5 * MINUTE_MS
#: The error that trade operations fail with, and how many do: a CLOSE tries three times.
_REFUSALS = {
    FaultKind.REJECT: (INVALID_VOLUME, 1),
    FaultKind.REQUOTE: (REQUOTE, 1),
    FaultKind.LIE: (MARKET_CLOSED, 3),
}


class Mt4Terminal(SimulatedVenue):
    """The terminal of a broker whose server is in ``time_zone``, with one build of the advisor.

    ``build``: ``current``, ``patched`` (older: a space as separator, the forming bar at every
    tick, no GET_ACCOUNT_INFO), ``early`` (2019: no empty frames, no symbol in HIST replies), or a
    :class:`~livetrader_core.sim.dwx_expert.Build`. Ports are named from the client's side, as the
    published connector names them; 0 takes a free one. ``freeze`` is how long (seconds of the
    computer's time) the advisor sleeps over history that it does not have.

    ``balance`` is what the account begins with, ``inputs`` what the advisor is set to.

    ``expert.blocked`` set to ``NO_BROKER_CONNECTION`` or the like has it refuse commands.
    """

    faults = frozenset(
        {
            FaultKind.CUT,
            FaultKind.STALL,
            FaultKind.LATE,
            FaultKind.EMPTY,
            FaultKind.DROP,
            FaultKind.DUPLICATE,
            FaultKind.RESTART,
            FaultKind.CLOCK_JUMP,
            FaultKind.LOSE,
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
        host: str = "127.0.0.1",
        push_port: int = 0,
        pull_port: int = 0,
        sub_port: int = 0,
        time_zone: str = "EET-US",
        build: str | Build = "current",
        suffix: str = "",
        freeze: float = 2.0,
        balance: float = 10_000.0,
        inputs: ExpertInputs | None = None,
    ) -> None:
        super().__init__(recordings, clock)
        self.host = host
        self.push_port, self.pull_port, self.sub_port = push_port, pull_port, sub_port
        self.freeze = freeze
        self.model = Mt4Model(self.recordings, clock, time_zone, suffix)
        self._build = build_of(build)
        #: The account lives at the broker: it outlives the advisor.
        self.trading = Mt4Trading(self.model, balance)
        self.inputs = inputs or ExpertInputs()
        self.expert = self._attach()
        self._context: zmq.Context[Any] | None = None
        self._commands: LoopSocket[bytes] | None = None
        self._replies: LoopSocket[bytes] | None = None
        self._topics: LoopSocket[bytes] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: deque[str] = deque()
        self._arrived = asyncio.Event()
        self._stalled_until = 0.0
        self._lateness: deque[float] = deque()
        self._dropped = 0
        self._lost = 0
        self._doubled = 0

    def books(self) -> VenueBooks:
        """The account's; orders are called by their comments, symbols FOREX and their names."""
        trading = self.trading
        trading.advance()
        symbols = {one.name: one.recording.symbol for one in self.model.instruments.values()}
        fills = [
            replace(
                fill,
                symbol=symbols[fill.symbol],
                datetime=fill.datetime - self.model.offset(fill.datetime),
            )
            for fill in executions(trading)
        ]
        held = [t for t in trading.tickets.values() if not t.kind.pending]
        return VenueBooks(
            currency=trading.currency,
            cash=trading.balance,
            working=[t.comment for t in trading.tickets.values() if t.kind.pending],
            fills=fills,
            positions=net((symbols[t.name], t.kind.sign * t.lots) for t in held),
        )

    def _attach(self) -> DwxExpert:
        return DwxExpert(self.model, self._build, self.trading, self.inputs)

    # ---- life

    async def start(self) -> None:
        """Bind the three sockets. Raises EndpointInUse."""
        self._context = zmq.Context()
        try:
            await self._bind()
        except BaseException:
            await self.stop()
            raise
        self._spawn(self._serve())
        self._spawn(self._publish())

    async def stop(self) -> None:
        """Close the sockets; may be called more than once."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._close()
        context, self._context = self._context, None
        if context is not None:
            context.destroy(linger=0)

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bind(self) -> None:
        self._commands, self.push_port = await self._socket(zmq.PULL, self.push_port)
        self._replies, self.pull_port = await self._socket(zmq.PUSH, self.pull_port)
        self._topics, self.sub_port = await self._socket(zmq.PUB, self.sub_port)

    async def _socket(self, kind: int, port: int) -> tuple[LoopSocket[bytes], int]:
        assert self._context is not None
        socket = self._context.socket(kind)
        socket.set(zmq.LINGER, 0)
        try:
            port = await self._bind_one(socket, port)
        except BaseException:
            socket.close()
            raise
        receive = receive_frame if kind == zmq.PULL else _receive_nothing
        return LoopSocket(socket, receive, self._on_command), port

    async def _bind_one(self, socket: zmq.Socket[Any], port: int) -> int:
        # A port that was just closed may stay taken for a moment.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _REBIND
        while True:
            chosen = port or free_port(self.host)
            try:
                socket.bind(f"tcp://{self.host}:{chosen}")
                return chosen
            except zmq.ZMQError as error:
                if loop.time() > deadline or (port and error.errno != zmq.EADDRINUSE):
                    raise EndpointInUse(f"tcp://{self.host}:{chosen}: {error}") from error
            await asyncio.sleep(0.005)

    def _close(self) -> None:
        for socket in (self._commands, self._replies, self._topics):
            if socket is not None:
                socket.close()
        self._commands = self._replies = self._topics = None

    # ---- commands

    def _on_command(self, frame: bytes) -> None:
        if self._lost:
            self._lost -= 1
            return
        self._waiting.append(frame.decode("utf-8", errors="replace"))
        self._arrived.set()

    async def _serve(self) -> None:
        """One command after the other, as the advisor's timer takes them."""
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            await self._stall()
            if self._waiting:
                await self._answer(self._waiting.popleft())

    async def _stall(self) -> None:
        loop = asyncio.get_running_loop()
        while (left := self._stalled_until - loop.time()) > 0:  # noqa: ASYNC110 - it may grow
            await asyncio.sleep(left)

    async def _answer(self, command: str) -> None:
        expert = self.expert
        try:
            reply = expert.answer(command)
        except (ValueError, IndexError) as error:
            # A command with too few fields ends the advisor; here it is only told of.
            log.error("the expert advisor would end at %r: %s", command, error)
            return
        if reply is not None and "'NOT_AVAILABLE'" in reply:
            await asyncio.sleep(self.freeze)
        if self._lateness:
            await asyncio.sleep(self._lateness.popleft())
        await self._stall()
        if expert is not self.expert:
            return  # it was restarted meanwhile
        if self._dropped:
            self._dropped -= 1
            return
        copies = 1
        if self._doubled:
            self._doubled -= 1
            copies = 2
        frames = [] if reply is None else [reply.encode()]
        if self._build.empty_frames:
            frames.append(b"")
        for frame in frames * copies:
            _send(self._replies, frame)

    # ---- publications

    async def _publish(self) -> None:
        """At every tick, what the advisor publishes; after a leap of the clock only the present."""
        while True:
            now = self.clock.now()
            self.trading.advance()
            for text in self.expert.publications():
                frame = text.encode()
                if asyncio.get_running_loop().time() >= self._stalled_until:
                    _send(self._topics, frame)
            await self.clock.sleep_until(now - now % _TICK_MS + _TICK_MS)

    # ---- faults

    def _show(self, fault: Fault) -> None:
        loop = asyncio.get_running_loop()
        if fault.kind is FaultKind.CUT:
            self._spawn(self._away(0.0, forget=False))
        elif fault.kind is FaultKind.RESTART:
            self._spawn(self._away(fault.seconds, forget=True))
        elif fault.kind is FaultKind.STALL:
            self._stalled_until = max(self._stalled_until, loop.time() + fault.seconds)
        elif fault.kind is FaultKind.LATE:
            self._lateness.extend([fault.seconds] * fault.count)
        elif fault.kind is FaultKind.EMPTY:
            self.expert.missing += fault.count
        elif fault.kind is FaultKind.DROP:
            self._dropped += fault.count
        elif fault.kind is FaultKind.DUPLICATE:
            self._doubled += fault.count
        elif fault.kind is FaultKind.LOSE:
            self._lost += fault.count
        elif fault.kind is FaultKind.SLIP:
            self.trading.slips.extend([2] * fault.count)
        elif fault.kind in _REFUSALS:
            code, times = _REFUSALS[fault.kind]
            self.trading.refusals.extend([code] * times * fault.count)
        elif fault.kind is FaultKind.CLOCK_JUMP:
            self._spawn(self._jump(fault))

    async def _away(self, seconds: float, forget: bool) -> None:
        """Close all sockets, and bind them again after ``seconds``."""
        if self._commands is None:
            return  # it is away already
        self._close()
        self._waiting.clear()
        if forget:
            blocked = self.expert.blocked
            self.expert = self._attach()
            self.expert.blocked = blocked
        await asyncio.sleep(seconds)
        await self._bind()

    async def _jump(self, fault: Fault) -> None:
        self.model.clock_error = _JUMP_MS if fault.count % 2 else -_JUMP_MS
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            self.model.clock_error = 0


def _receive_nothing(socket: zmq.Socket[Any]) -> bytes:
    # These sockets only send; but their wakes must be taken notice of, or they go on.
    socket.getsockopt(zmq.EVENTS)
    raise zmq.Again


def _send(socket: LoopSocket[bytes] | None, frame: bytes) -> None:
    if socket is None or socket.closed:
        return
    try:
        socket.send(frame)
    except zmq.Again:
        log.debug("nobody is there to take a reply")


def free_port(host: str) -> int:
    """A port that nobody listens on, below those of outgoing connections."""
    while True:
        port = random.randrange(*_FREE_PORTS)
        with network.socket(network.AF_INET, network.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
