"""One connection to a host that does as it pleases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livetrader_core.errors import LiveTraderError, NotConnected, ProtocolError, RequestTimeout
from livetrader_core.market.tdx import wire
from livetrader_core.market.tdx.line import Address, Line
from tests.market.tdx_bench import until

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

ASKED = 12  # bytes of a count request
BODY = bytes(19) + (4711).to_bytes(4, "little") + bytes(8)


def answer(tag: int, body: bytes = BODY, command: int = 0x23F0, zipped: int | None = None) -> bytes:
    size = (len(body) if zipped is None else zipped).to_bytes(2, "little")
    head = bytes.fromhex("b1cb740001") + tag.to_bytes(4, "little") + b"\0"
    return head + command.to_bytes(2, "little") + size + len(body).to_bytes(2, "little") + body


@asynccontextmanager
async def line_to(behaviour: Behaviour) -> AsyncIterator[Line]:
    served: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer)
        try:
            await behaviour(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    line = await Line.open(Address("127.0.0.1", port), 1.0)
    try:
        yield line
    finally:
        await line.close()
        for writer in served:
            writer.transport.abort()
        server.close()
        await server.wait_closed()


def run(behaviour: Behaviour, use: Callable[[Line], Awaitable[None]]) -> None:
    async def main() -> None:
        async with line_to(behaviour) as line:
            await use(line)

    asyncio.run(main())


def test_an_answer_in_single_bytes() -> None:
    async def host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for tag in (1, 2):
            await reader.readexactly(ASKED)
            for byte in answer(tag):
                writer.write(bytes([byte]))
                await writer.drain()

    async def use(line: Line) -> None:
        assert await asyncio.gather(line.call(wire.count(), 1), line.call(wire.count(), 1)) == [
            4711,
            4711,
        ]
        assert line.standing

    run(host, use)


def test_a_repeated_answer_is_not_the_next_ones() -> None:
    async def host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(ASKED)
        writer.write(answer(1))
        await reader.readexactly(ASKED)
        second = bytes(19) + (12).to_bytes(4, "little") + bytes(8)
        writer.write(answer(1) + answer(1) + answer(2, second))
        await reader.read()

    async def use(line: Line) -> None:
        assert await line.call(wire.count(), 1) == 4711
        assert await line.call(wire.count(), 1) == 12
        assert line.repeated == 2
        assert line.standing

    run(host, use)


def test_nothing_is_used_after_a_time_out() -> None:
    async def host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(ASKED)
        await asyncio.sleep(0.1)
        writer.write(answer(1))
        await reader.read()

    async def use(line: Line) -> None:
        first = asyncio.ensure_future(line.call(wire.count(), 0.05))
        second = asyncio.ensure_future(line.call(wire.count(), 0.05))
        with pytest.raises(RequestTimeout, match=r"no answer within 0\.05 s to the count"):
            await first
        with pytest.raises(NotConnected, match="no answer"):
            await second
        assert not line.standing
        assert not line.abandoned

    run(host, use)


def test_nothing_is_used_after_a_cancellation() -> None:
    async def host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(ASKED)
        await reader.read()

    async def use(line: Line) -> None:
        call = asyncio.ensure_future(line.call(wire.count(), 1))
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert line.abandoned
        with pytest.raises(NotConnected, match="given up"):
            await line.call(wire.count(), 1)

    run(host, use)


def test_waiting_for_ones_turn_can_be_cancelled_without_harm() -> None:
    async def host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(ASKED)
        await asyncio.sleep(0.02)
        writer.write(answer(1))
        await reader.read()

    async def use(line: Line) -> None:
        first = asyncio.ensure_future(line.call(wire.count(), 1))
        second = asyncio.ensure_future(line.call(wire.count(), 1))
        await asyncio.sleep(0.005)
        second.cancel()
        assert await first == 4711
        assert line.standing

    run(host, use)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (answer(2), "tag 00000002"),
        (answer(1, command=0x23FF), "command 23ff"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "b1cb7400"),
        (answer(1, zipped=5), "inflated"),
        (answer(1, body=b"short"), "5 bytes"),
        (answer(1, body=b""), "no body"),
    ],
)
def test_anything_else_ends_the_line(sent: bytes, message: str) -> None:
    async def host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(ASKED)
        writer.write(sent)
        await reader.read()

    async def use(line: Line) -> None:
        with pytest.raises(ProtocolError, match=message) as told:
            await line.call(wire.count(), 1)
        assert str(line.address) in str(told.value)
        assert not line.standing

    run(host, use)


def test_what_nobody_asked_for_ends_the_line() -> None:
    async def host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(9))
        await reader.read()

    async def use(line: Line) -> None:
        await until(lambda: not line.standing)
        assert "nobody sent" in line.why

    run(host, use)


def test_a_host_that_hangs_up() -> None:
    async def host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(ASKED)
        writer.close()

    async def use(line: Line) -> None:
        with pytest.raises(NotConnected, match="closed the connection"):
            await line.call(wire.count(), 1)

    run(host, use)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=80), st.booleans())
def test_random_bytes_are_an_error_and_nothing_else(noise: bytes, headed: bool) -> None:
    async def host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(wire.bars(8, 74, "BABA", 0, 5).frame))
        writer.write(answer(1, noise, 0x23FF) if headed else noise)
        writer.close()

    async def use(line: Line) -> None:
        with pytest.raises(LiveTraderError):
            await line.call(wire.bars(8, 74, "BABA", 0, 5), 1)
        assert not line.standing

    run(host, use)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 8))
def test_random_bodies_are_refused(noise: bytes, count: int) -> None:
    head = bytes.fromhex("4a 424142410000000000 0800 0100 00000000") + count.to_bytes(2, "little")
    for request in (wire.bars(8, 74, "BABA", 0, 8), wire.quote(74, "BABA"), wire.instruments(0)):
        for body in (noise, head + noise):
            try:
                request.parse(body)
            except (ProtocolError, ValueError, LookupError):
                continue
