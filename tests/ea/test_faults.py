"""The advisor killed and restarted, refused by its DLL, fed nonsense, asked by strangers."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import zmq

from livetrader_core.clock import SteppedClock
from livetrader_core.sim.mt4_trading import REQUOTE
from livetrader_core.sim.recording import MINUTE_MS
from livetrader_core.sim.venue import Fault, FaultKind
from tests.ea.client import (
    NOON,
    EaClient,
    Gone,
    Keys,
    Refused,
    attached,
    certainly,
    connected,
    until,
)
from tests.ea.terminal import EaTerminal
from tests.support.data import proving

Record = Callable[[str, object], None]
KILLS = 60 if proving() else 6
FUZZ = 10_000


async def all_events(client: EaClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        after = found[-1]["number"] if found else 0
        part = await certainly(client, "events", str(after))
        found += part["events"]
        if not part["events"] or found[-1]["number"] == part["last"]:
            return found


@pytest.mark.parametrize("seed", range(20 if proving() else 1))
def test_killed_at_any_moment_it_does_nothing_twice_and_loses_no_event(
    seed: int, record_property: Record
) -> None:
    rng = random.Random(seed)

    async def kill(terminal: EaTerminal) -> None:
        for _ in range(KILLS):
            await asyncio.sleep(rng.uniform(0.0, 0.12))
            terminal.inject(Fault(FaultKind.RESTART, rng.uniform(0.0, 0.05)))
            await until(lambda: terminal.advisor is not None)
            # Somebody closes a position by hand while nobody looks.
            if terminal.trading.tickets and rng.random() < 0.3:
                number = rng.choice(list(terminal.trading.tickets))
                terminal.trading.close(number, terminal.trading.tickets[number].lots)

    async def trade(client: EaClient, done: Callable[[], bool]) -> list[str]:
        names: list[str] = []
        while not done():
            name = f"n{len(names)}"
            names.append(name)
            ticket = (
                await certainly(client, "order", name, "EURUSD", "buy", "0.10", 0, 0, 0, 3, 0)
            )["ticket"]
            if rng.random() < 0.5:
                lots = rng.choice(("0.04", "0.10"))
                with suppress(Gone):
                    await certainly(client, "close", f"{name}/c", ticket, lots, 3)
        return names

    async def main() -> None:
        async with attached(balance=10_000_000.0) as terminal, connected(terminal) as client:
            killing = asyncio.create_task(kill(terminal))
            names = await trade(client, killing.done)
            await killing
            opened = Counter(
                ticket.comment
                for ticket in [*terminal.trading.tickets.values(), *terminal.trading.history]
                if ticket.comment.startswith("n")
            )
            parted = [t for t in terminal.trading.history if t.comment.startswith("to #")]
            assert all(count == 1 for count in opened.values()), opened
            assert len(opened) + len(parted) == len(names)
            events = await all_events(client)
            assert [e["number"] for e in events] == list(
                range(events[0]["number"], events[-1]["number"] + 1)
            )
            by_kind = Counter(e["kind"] for e in events)
            assert by_kind["opened"] == len(names)
            assert by_kind["closed"] + by_kind["parted"] == len(terminal.trading.history)
            profit = sum(e["order"]["profit"] for e in events if e["kind"] in ("closed", "parted"))
            assert round(profit, 2) == round(terminal.trading.balance - 10_000_000.0, 2)
            left = {t.number: t.lots for t in terminal.trading.tickets.values()}
            orders = await certainly(client, "orders", "0")
            assert {o["ticket"]: o["lots"] for o in orders["orders"]}.items() <= left.items()
            record_property("advisor: kills", KILLS)
            record_property("advisor: operations under kills", len(names))

    asyncio.run(main())


def test_what_happened_while_it_was_away_is_told_when_it_is_back() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            first = await client.order("a", lots=0.5)
            second = await client.order("b", lots=0.4)
            await until(lambda: len(client.events()) == 2)
            terminal._advisor.kill()
            terminal.advisor = None
            part = terminal.trading.close(first["ticket"], 0.2)
            rest = int(part.comment.removeprefix("to #"))
            terminal.trading.close(rest, 0.1)
            terminal.trading.close(second["ticket"], 0.4)
            terminal.attach()
            events = (await certainly(client, "events", "0"))["events"]
            told = [
                (e["kind"], e["order"]["op"], e["order"]["lots"], e["reason"]) for e in events[2:]
            ]
            assert sorted(told) == [
                ("closed", "b", 0.4, "terminal"),
                ("parted", "a", 0.1, "terminal"),
                ("parted", "a", 0.2, "terminal"),
            ]
            (left,) = (await client.ask("orders", 0))["orders"]
            assert (left["root"], left["op"], left["lots"]) == (first["ticket"], "a", 0.2)

    asyncio.run(main())


def test_an_operation_whose_outcome_was_lost_is_not_done_again() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            # The terminal is killed between the order and the note of it.
            send = terminal.functions.order_send

            def killed(*arguments: Any) -> int:
                result = send(*arguments)
                terminal._advisor.fail("write", 1_000_000)
                return result

            terminal.functions.order_send = killed  # type: ignore[method-assign]
            await client.order("a", lots=0.2)
            terminal.functions.order_send = send  # type: ignore[method-assign]
            with pytest.raises(Refused) as told:
                await client.order("b")
            assert told.value.code == "not_allowed"
            assert "NO ORDERS" in terminal._advisor.chart or await _shows(terminal, "NO ORDERS")
            terminal._advisor.kill()
            terminal.attach()
            again = await certainly(client, "order", "a", "EURUSD", "buy", "0.20", 0, 0, 0, 3, 0)
            assert again["repeated"]
            assert len(terminal.trading.tickets) == 1

    asyncio.run(main())


async def _shows(terminal: EaTerminal, text: str) -> bool:
    await until(lambda: text in terminal._advisor.chart, 3.0)
    return True


def test_a_journal_with_its_last_line_cut_short_is_read_as_far_as_it_is_whole() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            await client.order("a")
            await client.order("b")
            terminal._advisor.kill()
            (journal,) = terminal.files.glob("*.journal")
            whole = journal.read_bytes()
            lines = whole.splitlines(keepends=True)
            last = max(place for place, line in enumerate(lines) if line.startswith(b"D\tb"))
            journal.write_bytes(b"".join(lines[:last]) + lines[last][:9])
            terminal.attach()
            assert (await certainly(client, "result", "a"))["state"] == "done"
            # The event of b came after the line that was cut, so it is found and told anew.
            await until(lambda: terminal.trading.tickets and True)
            assert (await certainly(client, "result", "b"))["state"] == "done"
            again = await certainly(client, "order", "b", "EURUSD", "buy", "0.10", 0, 0, 0, 3, 0)
            assert again["repeated"]
            assert len(terminal.trading.tickets) == 2

    asyncio.run(main())


def test_what_was_given_up_is_not_done_when_its_request_comes_late() -> None:
    late = ("EURUSD", "buy", "0.10", 0, 0, 0, 3, 0)

    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            assert (await client.ask("void", "late"))["state"] == "void"
            # Refused for a passing reason, and its second request is on its way still.
            terminal.trading.refusals.append(REQUOTE)
            with pytest.raises(Refused):
                await client.order("moved")
            assert (await client.ask("void", "moved"))["state"] == "void"
            await client.order("done")
            assert (await client.ask("void", "done"))["state"] == "done"
            for _ in range(2):
                for name in ("late", "moved"):
                    with pytest.raises(Refused) as told:
                        await certainly(client, "order", name, *late)
                    assert told.value.code == "void"
                    assert (await client.ask("result", name))["state"] == "void"
                terminal._advisor.kill()
                terminal.attach()
            with pytest.raises(Refused) as told:
                await certainly(client, "void", "no name")
            assert told.value.code == "bad_request"
            assert len(terminal.trading.tickets) == 1

    asyncio.run(main())


def test_a_terminal_offline_is_told_and_the_advisor_goes_on() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            terminal.switches.connected = False
            assert (await client.ask("ping"))["connected"] is False
            with pytest.raises(Refused, match="no_connection"):
                await client.order("a")
            terminal.switches.connected = True
            await client.order("a")

    asyncio.run(main())


def test_calls_of_the_dll_that_fail_do_not_end_it() -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        async with attached(clock) as terminal, connected(terminal) as client:
            await client.ask("watch", "EURUSD")
            for what in ("send", "receive"):
                for times in (1, 2, 3, 4, 7):
                    terminal._advisor.fail(what, times)
                    clock.advance(clock.now() + MINUTE_MS)
                    await certainly(client, "ping")
            assert (await client.ask("hello"))["protocol"] == 1

    asyncio.run(main())


def test_ports_that_are_taken_are_waited_for() -> None:
    async def main() -> None:
        async with attached() as terminal:
            terminal._advisor.remove()
            context = zmq.Context()
            squatter = context.socket(zmq.PULL)
            await _bound(squatter, terminal.endpoint)
            terminal.attach()
            assert "waiting for its ports" in terminal._advisor.chart
            squatter.close(linger=0)
            context.destroy(linger=0)
            await until(lambda: "ready" in terminal._advisor.chart)
            async with connected(terminal):
                pass

    asyncio.run(main())


async def _bound(socket: zmq.Socket[Any], endpoint: str) -> None:
    def bind() -> bool:
        try:
            socket.bind(endpoint)
        except zmq.ZMQError:
            return False
        return True

    await until(bind)


def test_nonsense_gets_an_error_or_nothing_and_stops_nobody(record_property: Record) -> None:
    rng = random.Random(5)
    methods = (
        "hello ping account symbols contract tick watch unwatch bars orders ticket history events"
    )
    methods += " order modify close delete result nope"
    pieces = [
        b"",
        b"0",
        b"-1",
        b"1",
        b"EURUSD",
        b"buy",
        b"0.10",
        b"9" * 40,
        b"\x00\xff",
        b"a" * 300,
    ]
    pieces += [b"x;y", "é".encode(), b"1e9", b".", b"1.2.3", b"4294967295", b"2147483648", b"\t."]

    def message() -> list[bytes]:
        sound = [b"LT1", b"", str(rng.random()).encode(), rng.choice(methods.split()).encode()]
        sound += [rng.choice(pieces) for _ in range(rng.choice((0, 1, 2, 3, 4, 5, 6, 9, 70)))]
        if rng.random() < 0.2:
            sound = sound[: rng.randrange(1, len(sound) + 1)]
        if rng.random() < 0.2:
            place = rng.randrange(len(sound))
            sound[place] = rng.choice([*pieces, rng.randbytes(rng.randrange(1, 200))])
        return sound

    async def main() -> None:
        async with attached(MaximumLots=0.5) as terminal, connected(terminal) as client:
            sane = EaClient(terminal)
            for count in range(FUZZ // 100):
                messages = [message() for _ in range(100)]
                for frames in messages:
                    await client.requests.send_multipart(frames)
                got = await sane.ask("ping")
                assert got["connected"], count
                for frames in messages:
                    if len(frames) < 3 or not 1 <= len(frames[2]) <= 64:
                        continue
                    name, status, _ = await asyncio.wait_for(client.requests.recv_multipart(), 5)
                    assert (name, status in (b"ok", b"error")) == (frames[2], True)
            await sane.close()
            assert len(terminal.trading.tickets) <= 1000
            record_property("advisor: fuzzed requests", FUZZ)
            record_property("advisor: longest OnTimer, ms", [1000 * terminal.longest])
            assert terminal.longest < 0.2  # a hang; the figure is told, and not asserted closely

    asyncio.run(main())


def test_a_frame_that_is_too_long_ends_only_its_own_connection() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            loud = EaClient(terminal)
            await loud.requests.send_multipart([b"LT1", b"", b"1", b"ping", b"x" * 100_000])
            await asyncio.sleep(0.05)
            assert (await client.ask("ping"))["connected"]
            await loud.close()

    asyncio.run(main())


def test_clients_that_vanish_or_never_read_do_not_hold_it_up() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            for _ in range(30):
                gone = EaClient(terminal)
                for _ in range(20):
                    await gone.send("hello")
                await gone.close()
            assert (await client.ask("ping"))["connected"]

    asyncio.run(main())


def test_without_a_key_that_is_known_nothing_comes() -> None:
    server = zmq.curve_keypair()
    friend, stranger = zmq.curve_keypair(), zmq.curve_keypair()
    inputs = {"CurveSecretKey": server[1].decode(), "ClientKeys": friend[0].decode()}

    async def main() -> None:
        async with attached(**inputs) as terminal:
            async with connected(terminal, keys=Keys(server[0], *friend)) as client:
                other = zmq.curve_keypair()[0]
                for keys in (None, Keys(server[0], *stranger), Keys(other, *friend)):
                    nobody = EaClient(terminal, keys=keys)
                    with pytest.raises(asyncio.TimeoutError):
                        await nobody.ask("hello", seconds=0.4)
                    assert not nobody.heard
                    await nobody.close()
                await client.order("a")
            assert len(terminal.trading.tickets) == 1

    asyncio.run(main())


def test_a_token_must_be_right() -> None:
    async def main() -> None:
        async with (
            attached(Token="s3cret") as terminal,
            connected(terminal, token="s3cret") as client,
        ):
            for token in ("", "other"):
                stranger = EaClient(terminal, token)
                with pytest.raises(Refused, match="denied"):
                    await stranger.order("a")
                await stranger.close()
            await client.order("a")
            assert len(terminal.trading.tickets) == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"BindAddress": "0.0.0.0"}, "CurveSecretKey must be set"),
        ({"CurveSecretKey": "short"}, "40 characters"),
        ({"CurveSecretKey": "x" * 40, "ClientKeys": "y"}, "ClientKeys"),
        ({"ClientKeys": "y" * 40}, "needs CurveSecretKey"),
        ({"PublicationPort": 70_000}, "ports"),
        ({"MaximumLots": 0}, "above 0"),
        ({"TimerMs": 0}, "1 to 1000"),
    ],
)
def test_wrong_inputs_are_told_when_it_is_attached(inputs: dict[str, Any], told: str) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=told):
            async with attached(**inputs):
                raise AssertionError("it was attached")

    asyncio.run(main())
