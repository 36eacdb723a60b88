"""RemoteSession: a session with a server at the other end of a wire that may break."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

import zmq

from livetrader_core.errors import LiveTraderError, NotConnected, ProtocolError, RequestTimeout
from livetrader_core.models import (
    Clock,
    FeedState,
    FeedStatus,
    Kline,
    Klines,
    TradeEvent,
)
from livetrader_core.rpc import calls, protocol
from livetrader_core.rpc.calls import Joined
from livetrader_core.rpc.client import AsyncClient, client_socket
from livetrader_core.rpc.endpoints import Endpoint
from livetrader_core.rpc.keys import Keys
from livetrader_core.rpc.requests import RemoteRequests
from livetrader_core.rpc.sockets import LoopSocket, receive_frame
from livetrader_core.rpc.streams import CaughtUp, Stream
from livetrader_core.session import Listener, SessionInfo
from livetrader_core.timeframe import duration_ms

log = logging.getLogger(__name__)

#: Heartbeats that may be missing before the line is taken for dead.
_MISSED_BEATS = 3
#: Publications held back during a repair; if more come, the repair begins anew.
_MAX_HELD = 200_000
#: Streams that are asked for at once.
_AT_ONCE = 16
_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class _PublicationLost(Exception):
    """A publication before the one at hand is missing."""


class RemoteSession(RemoteRequests):
    """A :class:`~livetrader_core.session.Session` with the server at ``endpoint``.

    ``timeout`` bounds each request, in seconds. A break of the line is told as a FeedStatus
    DISCONNECTED of all markets; then what was missed is delivered, then CONNECTED. ``hwm`` is how
    many publications may wait in the socket. ``keys`` are for a server beyond this computer.
    """

    def __init__(
        self,
        endpoint: str,
        timeout: float = 5.0,
        hwm: int = 20_000,
        keys: Keys | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.timeout = timeout
        self.info = SessionInfo("", "")
        #: How often the line broke or a publication was lost.
        self.breaks = 0
        self._target = Endpoint.parse(endpoint)
        self._hwm = hwm
        self._name = secrets.token_hex(8)
        self._keys = keys
        super().__init__(AsyncClient(timeout, keys))
        self._events: LoopSocket[bytes] | None = None
        self._listener: Listener = _ignore
        self._streams: dict[bytes, Stream] = {}
        self._control_seq = 0
        self._clocks: dict[tuple[str, ...], int] = {}
        self._statuses: dict[tuple[str, ...], FeedStatus] = {}
        #: Number of the last trade event that was delivered; None: they are not wanted.
        self._trade_seq: int | None = None
        self._journal = ""
        self._heartbeat = 1.0
        self._at_once = 1
        self._heard = 0.0
        #: While held, publications wait for a repair to end.
        self._holding = True
        self._held: deque[bytes] = deque()
        self._overflowed = False
        self._renew = False
        self._syncs: dict[bytes, asyncio.Future[None]] = {}
        self._repair: asyncio.Task[None] | None = None
        self._monitor: asyncio.Task[None] | None = None
        self._retired: set[asyncio.Task[None]] = set()
        #: How far it may lag behind a paced stream; None: it does not follow.
        self._window: int | None = None
        self._acked = -1
        self._open = False

    # ---- life

    async def open(self, listener: Listener, trade_from: int | None = None) -> None:
        """As :meth:`Session.open`. Raises NotConnected, RequestTimeout, VersionMismatch."""
        self._listener = listener
        self._trade_seq = trade_from
        self._open = self._holding = True
        try:
            await self._connect()
            if trade_from is not None and trade_from < 0:
                self._trade_seq = (await self._client.call(calls.state())).trade_seq
            caught_up = await self._catch_up()
        except BaseException:
            await self.close()
            raise
        self._monitor = asyncio.get_running_loop().create_task(self._watch_line())
        self._deliver(caught_up)
        self._release()

    async def close(self) -> None:
        """As :meth:`Session.close`."""
        following = self._open and self._window is not None and self._repair is None
        self._open = False
        self._window = None  # no acknowledgement may follow the farewell
        tasks = [task for task in (self._repair, self._monitor) if task is not None]
        tasks += self._retired
        self._repair = self._monitor = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if following:
            with suppress(LiveTraderError):  # if it is not heard, the lease ends it
                await self._client.call(calls.unfollow(self._name), min(self.timeout, 0.5))
        self._disconnect()
        await self._client.close()
        self._streams.clear()
        self._held.clear()

    async def _connect(self) -> None:
        """New sockets and a greeting; everything wanted is subscribed anew."""
        self._disconnect()
        self._retire(self._client)
        self._client = AsyncClient(self.timeout, self._keys)
        greeting = await self._client.connect(self.endpoint)
        if greeting.start_id != self.info.start_id:
            self._control_seq = 0
            self._clocks.clear()
            self._statuses.clear()
        if self._journal not in ("", greeting.journal) and self._trade_seq:
            log.warning("%s: the server has another journal; it is read anew", self.endpoint)
            self._trade_seq = 0
        self._journal = greeting.journal
        self.info = SessionInfo(greeting.start_id, greeting.version, greeting.markets)
        self._heartbeat = greeting.heartbeat
        self._at_once = max(1, min(_AT_ONCE, greeting.max_in_flight // 2))
        socket = client_socket(zmq.SUB, self._target.events(greeting.events), self._hwm, self._keys)
        for topic in self._topics():
            socket.subscribe(topic)
        self._events = LoopSocket(socket, receive_frame, self._on_publication)
        self._heard = time.monotonic()

    def _topics(self) -> Iterator[bytes]:
        yield protocol.HEARTBEAT
        yield protocol.CONTROL
        if self._trade_seq is not None:
            yield protocol.TRADE
        yield from self._streams

    def _disconnect(self) -> None:
        if self._events is not None:
            self._events.close()
        self._events = None
        for sync in self._syncs.values():
            if not sync.done():
                sync.set_exception(self._down())

    def _retire(self, client: AsyncClient) -> None:
        """Let the open requests of ``client`` end: an order may yet be answered."""
        task = asyncio.get_running_loop().create_task(client.finish())
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    def _down(self) -> NotConnected:
        return NotConnected(f"{self.endpoint}: the connection is down")

    # ---- publications

    def _on_publication(self, frame: bytes) -> None:
        if frame.startswith(protocol.SYNC):
            sync = self._syncs.get(protocol.split_publication(frame)[0])
            if sync is not None and not sync.done():
                sync.set_result(None)
        elif self._holding:
            self._hold(frame)
        else:
            self._take(frame)

    def _hold(self, frame: bytes) -> None:
        self._heard = time.monotonic()
        if len(self._held) >= _MAX_HELD:
            self._held.clear()
            self._overflowed = True
        self._held.append(frame)

    def _take(self, frame: bytes) -> None:
        """Deliver a publication, or begin a repair if one before it is missing."""
        try:
            topic, body = protocol.split_publication(frame)
            stream = self._streams.get(topic)
            if stream is not None:
                self._take_kline(stream, frame, body)
            elif topic == protocol.CONTROL:
                self._take_control(body)
            elif topic == protocol.TRADE:
                self._take_trade(body)
            elif topic == protocol.HEARTBEAT:
                self._take_beat(body)
        except _PublicationLost as loss:
            self._break(str(loss))
            self._held.append(frame)
        except ProtocolError as error:
            log.warning("%s: a publication cannot be read: %s", self.endpoint, error)

    def _take_kline(self, stream: Stream, frame: bytes, body: bytes) -> None:
        if stream.joining is not None:
            stream.held.append(frame)
            return
        run, seq, kline = protocol.decode_kline(stream.symbol, stream.timeframe, body)
        self._check_run(run)
        if seq <= stream.seq:
            return
        if seq != stream.seq + 1:
            raise _PublicationLost(
                f"{stream.symbol} {stream.timeframe}: {seq - stream.seq - 1} klines are lost"
            )
        stream.seq = seq
        if kline.datetime > stream.floor:
            stream.delivered = kline.datetime
            self._tell(kline)

    def _take_control(self, body: bytes) -> None:
        control = protocol.decode_control(body)
        self._check_run(control.start_id)
        if control.seq <= self._control_seq:
            return
        self._check_control(control.seq - 1)
        self._check_streams(control.streams)
        if isinstance(control.event, Clock):
            self._check_trades(control.event.trade_seq)
        self._control_seq = control.seq
        self._tell_control(control.event)

    def _take_trade(self, body: bytes) -> None:
        run, event = protocol.decode_trade(body)
        self._check_run(run)
        if self._trade_seq is None or event.seq <= self._trade_seq:
            return
        self._check_trades(event.seq - 1)
        self._trade_seq = event.seq
        self._tell(event)

    def _take_beat(self, body: bytes) -> None:
        beat = protocol.decode_beat(body)
        self._heard = time.monotonic()
        self._check_run(beat.start_id)
        self._check_control(beat.control_seq)
        self._check_streams(beat.streams)
        self._check_trades(beat.trade_seq)

    def _check_run(self, start_id: str) -> None:
        if start_id != self.info.start_id:
            self._renew = True
            raise _PublicationLost("the server was started anew")

    def _check_control(self, published: int) -> None:
        if self._control_seq < published:
            raise _PublicationLost("a clock or status is lost")

    def _check_streams(self, published: dict[bytes, int]) -> None:
        for topic, seq in published.items():
            stream = self._streams.get(topic)
            if stream is not None and stream.joining is None and stream.seq < seq:
                raise _PublicationLost(
                    f"{stream.symbol} {stream.timeframe}: {seq - stream.seq} klines are lost"
                )

    def _check_trades(self, published: int) -> None:
        if self._trade_seq is not None and self._trade_seq < published:
            raise _PublicationLost(f"{published - self._trade_seq} trade events are lost")

    def _tell_control(self, event: Clock | FeedStatus) -> None:
        if isinstance(event, Clock):
            self._clocks[event.markets] = event.datetime
        else:
            self._statuses.pop(event.markets, None)  # the latest comes last
            self._statuses[event.markets] = event
        self._tell(event)

    def _tell(self, event: Kline | Clock | FeedStatus | TradeEvent) -> None:
        try:
            self._listener(event)
        except Exception:  # what was delivered must not depend on who listens
            log.exception("the listener failed on %r", event)

    def _release(self) -> None:
        """Deliver what was held back, as far as nothing is missing in it."""
        self._holding = False
        waiting, self._held = self._held, deque()
        while waiting and not self._holding:
            self._take(waiting.popleft())
        self._held.extend(waiting)

    # ---- repair

    def _break(self, reason: str) -> None:
        """Something is missing: say so, hold the rest back and repair."""
        if self._repair is not None or not self._open:
            return
        self.breaks += 1
        self._holding = True
        log.info("%s: %s", self.endpoint, reason)
        self._repair = asyncio.get_running_loop().create_task(self._run_repair())
        self._tell_markets(FeedState.DISCONNECTED, (FeedState.ENDED,), reason)

    def _tell_markets(
        self, state: FeedState, but: tuple[FeedState, ...] = (), reason: str = ""
    ) -> None:
        """Tell ``state`` of every market but those whose own last state is one of ``but``."""
        last: dict[str, FeedState] = {}
        for status in self._statuses.values():
            last.update(dict.fromkeys(status.markets, status.state))
        markets = tuple(code for code in self.info.markets if last.get(code) not in but)
        if markets:
            self._tell(FeedStatus(markets, state, reason))

    async def _run_repair(self) -> None:
        pause = _PAUSE
        while True:
            try:
                caught_up = await self._repair_once()
            except LiveTraderError as error:
                level = logging.INFO if error.retry else logging.WARNING
                log.log(level, "%s: not repaired yet: %s", self.endpoint, error)
            except Exception:
                log.exception("%s: the repair failed", self.endpoint)
            else:
                if not (self._overflowed or self._renew):
                    break
                self._overflowed = False
                continue
            self._renew = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self._repair = None
        self._heard = time.monotonic()
        self._deliver(caught_up)
        self._tell_markets(FeedState.CONNECTED, (FeedState.DISCONNECTED, FeedState.ENDED))
        self._release()

    async def _repair_once(self) -> CaughtUp:
        if self._renew:
            self._held.clear()
            await self._connect()
            self._renew = False
        return await self._catch_up()

    async def _catch_up(self) -> CaughtUp:
        """What was missed. Nothing is delivered or noted yet: this may fail on its way."""
        await self._sync()
        # The state first: what belongs to its clocks is in all that is asked for after it.
        state = await self._client.call(calls.state())
        streams = [stream for stream in self._streams.values() if stream.joining is None]
        joined: list[tuple[Stream, Joined]] = []
        for position in range(0, len(streams), self._at_once):
            some = streams[position : position + self._at_once]
            answers = await asyncio.gather(*(self._resume(stream) for stream in some))
            joined += zip(some, answers, strict=True)
        trades = await self._missed_trades(state.trade_seq)
        self._send_ack()
        return CaughtUp(state, joined, trades)

    async def _sync(self) -> None:
        """Return when everything subscribed so far is active."""
        socket, loop = self._events, asyncio.get_running_loop()
        if socket is None:
            raise self._down()
        topic = protocol.sync_topic(secrets.token_hex(8))
        arrived: asyncio.Future[None] = loop.create_future()
        self._syncs[topic] = arrived
        socket.socket.subscribe(topic)
        try:
            # Not wait_for: before Python 3.12 it swallows a cancellation that meets an answer.
            await asyncio.wait([arrived], timeout=self.timeout)
            if not arrived.done():
                raise RequestTimeout(
                    f"{self.endpoint}: no publication came within {self.timeout:g} s"
                )
            arrived.result()
        finally:
            del self._syncs[topic]
            if not socket.closed:
                socket.socket.unsubscribe(topic)

    async def _resume(self, stream: Stream) -> Joined:
        last = stream.delivered if stream.delivered >= 0 else stream.newest
        return await self._client.call(
            calls.resume(stream.symbol, stream.timeframe, stream.run, stream.seq, last)
        )

    async def _missed_trades(self, published: int) -> list[TradeEvent]:
        events: list[TradeEvent] = []
        if self._trade_seq is None:
            return events
        seq = self._trade_seq
        while seq < published:
            page = await self._client.call(calls.events_after(seq, protocol.MAX_EVENTS))
            if [event.seq for event in page] != list(range(seq + 1, seq + 1 + len(page))):
                raise ProtocolError(f"{self.endpoint}: trade events after {seq} have holes")
            if not page:
                raise ProtocolError(f"{self.endpoint}: no trade events after {seq}")
            events += page
            seq = page[-1].seq
        return events

    def _deliver(self, caught_up: CaughtUp) -> None:
        """Deliver what was missed, as if it had come: klines, trade events, clocks, statuses."""
        klines: list[Kline] = []
        for stream, joined in caught_up.streams:
            if self._streams.get(stream.topic) is stream:
                klines += (k for k in joined.klines if k.datetime > stream.delivered)
                stream.join(self.info.start_id, joined)
        klines.sort(key=lambda kline: kline.datetime + duration_ms(kline.timeframe))
        for kline in klines:
            self._tell(kline)
        state = caught_up.state
        for event in caught_up.trades:
            self._trade_seq = event.seq
            self._tell(event)
        self._control_seq = state.control_seq
        for clock in state.clocks:
            if clock.datetime > self._clocks.get(clock.markets, -1):
                self._tell_control(clock)
        for status in state.statuses:
            if status != self._statuses.get(status.markets):
                self._tell_control(status)

    async def _watch_line(self) -> None:
        """Notice a line that fell silent, and remind the server that we are here."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(self._heartbeat / 2)
            # If this loop itself was held up, it has to hear first what came meanwhile.
            if self._repair is not None or time.monotonic() - began > self._heartbeat:
                continue
            if time.monotonic() - self._heard > _MISSED_BEATS * self._heartbeat:
                self._renew = True
                self._break(f"no heartbeat for {_MISSED_BEATS} beats")
            elif self._window is not None:
                self._send_ack()
            else:
                self._client.post("ping", ())

    # ---- market data

    async def subscribe(
        self,
        symbol: str,
        timeframe: str = "1m",
        from_ts: int | None = None,
        limit: int | None = None,
    ) -> Klines:
        """As :meth:`Session.subscribe`."""
        await self._repaired()
        topic = protocol.kline_topic(symbol, timeframe)
        while (stream := self._streams.get(topic)) is not None:
            if stream.joining is None:
                if limit == 0:
                    return Klines.empty(symbol, timeframe)
                return await self.get_kline_histories(symbol, from_ts, limit, None, timeframe)
            await asyncio.wait([stream.joining])
        return await self._join(symbol, timeframe, topic, from_ts, limit)

    async def _repaired(self) -> None:
        if self._repair is not None:
            await asyncio.wait([self._repair], timeout=self.timeout)
        if self._repair is not None or self._events is None:
            raise self._down()

    async def _join(
        self, symbol: str, timeframe: str, topic: bytes, from_ts: int | None, limit: int | None
    ) -> Klines:
        loop, socket = asyncio.get_running_loop(), self._events
        if socket is None:
            raise self._down()
        joining: asyncio.Future[None] = loop.create_future()
        stream = self._streams[topic] = Stream(symbol, timeframe, topic, joining)
        try:
            socket.socket.subscribe(topic)
            await self._sync()
            joined = await self._client.call(calls.subscribe(symbol, timeframe, from_ts, limit))
            stream.join(self.info.start_id, joined)
        except BaseException:
            self._leave(stream)
            raise
        finally:
            joining.set_result(None)
            # After the caller has its klines, those that follow.
            loop.call_soon(self._begin, stream)
        return joined.klines

    def _begin(self, stream: Stream) -> None:
        """Go on with what was published while ``stream`` was joining."""
        stream.joining = None
        waiting, stream.held = stream.held, []
        for frame in waiting:
            if self._holding:
                self._hold(frame)
            else:
                self._take(frame)

    def _leave(self, stream: Stream) -> None:
        if self._streams.get(stream.topic) is stream:
            del self._streams[stream.topic]
            if self._events is not None:
                self._events.socket.unsubscribe(stream.topic)

    async def unsubscribe(self, symbol: str, timeframe: str = "1m") -> None:
        """As :meth:`Session.unsubscribe`."""
        stream = self._streams.get(protocol.kline_topic(symbol, timeframe))
        if stream is not None:
            self._leave(stream)
            self._client.post("unsubscribe", (symbol, timeframe))

    # ---- replays

    async def begin_replay(self, start: int, end: int | None = None) -> None:
        """As :meth:`Session.begin_replay`."""
        await self._client.begin_replay(start, end)

    async def follow(self, window: int = 0) -> None:
        """As :meth:`Session.follow`."""
        await self._client.call(calls.follow(self._name, window))
        self._window = window

    async def ack(self, ts: int) -> None:
        """As :meth:`Session.ack`; while the line is down it is remembered."""
        await self._outstanding.answered()
        self._acked = max(self._acked, ts)
        self._send_ack()

    def _send_ack(self) -> None:
        if self._window is not None:
            self._client.post("ack", (self._name, self._window, self._acked))


def _ignore(event: object) -> None:
    """The listener of a session that is not open."""
