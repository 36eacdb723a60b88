"""The line to the expert advisor: requests in flight, numbers, beats, and what cannot be read."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from livetrader_core.errors import (
    InvalidRequest,
    LiveTraderError,
    NotAllowed,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
    ProtocolError,
    RequestTimeout,
    TooBusy,
    Unavailable,
    UnknownMethod,
    VersionMismatch,
)
from livetrader_core.market.mt4 import fields, line
from livetrader_core.market.mt4.address import Address
from livetrader_core.market.mt4.hub import User, hub_of
from livetrader_core.market.mt4.line import Line
from livetrader_core.market.mt4.messages import (
    Beat,
    Publication,
    Quote,
    read_bars,
    read_publication,
    read_reply,
    request_frames,
)
from livetrader_core.market.mt4.refusal import Refusal, refusal_of
from tests.support.dwx_venue import eventually
from tests.support.mt4_venue import BEAT, HELLO, MadeUpAdvisor, made_up


class Heard:
    """What a user of a line was told."""

    def __init__(self) -> None:
        self.publications: list[Publication] = []
        self.lost = 0
        self.user = User(self.publications.append, self._lose)

    def _lose(self) -> None:
        self.lost += 1

    def of(self, topic: str) -> list[Publication]:
        return [heard for heard in self.publications if heard.topic == topic]


@asynccontextmanager
async def line_to(
    advisor: MadeUpAdvisor, timeout: float = 1.0, **settings: Any
) -> AsyncIterator[tuple[Line, Heard]]:
    heard = Heard()
    hub = hub_of(Address.of(advisor.endpoint, **settings))
    hub.join(heard.user)
    try:
        opened = await hub.line(timeout, 1.0)
        await eventually(lambda: {b"beat|", b"event|", b"account|"} <= advisor.subscribed)
        yield opened, heard
    finally:
        await hub.leave(heard.user)


# --------------------------------------------------------------------------- requests


def test_replies_go_to_who_asked_in_whatever_order_they_come() -> None:
    async def main() -> None:
        async with made_up() as advisor, line_to(advisor) as (opened, _):
            advisor.answers["slow"] = None
            slow = asyncio.ensure_future(opened.request("slow"))
            answers = await asyncio.gather(*(opened.request("quick", i) for i in range(200)))
            assert answers == [{}] * 200
            assert not slow.done()
            ids = [frames[2] for frames in advisor.asked]
            assert len(set(ids)) == len(ids) == 202
            slow.cancel()
            await asyncio.gather(slow, return_exceptions=True)

    asyncio.run(main())


def test_no_answer_in_time_and_an_answer_too_late() -> None:
    async def main() -> None:
        async with made_up() as advisor, line_to(advisor, timeout=0.05) as (opened, _):
            advisor.answers["order"] = None
            with pytest.raises(RequestTimeout, match=r"no answer to order within 0\.05 s"):
                await opened.request("order")
            late = advisor.asked[-1][2]
            advisor.answers["ping"] = [late, b"ok", b"{}"]
            with pytest.raises(RequestTimeout):
                await opened.request("ping")
            assert opened.strays == 1
            assert opened.lost is None

    asyncio.run(main())


CODES: list[tuple[str, type[LiveTraderError]]] = [
    ("bad_request", InvalidRequest),
    ("unknown_method", UnknownMethod),
    ("denied", NotAllowed),
    ("read_only", NotAllowed),
    ("limit", TooBusy),
    ("not_allowed", Unavailable),
    ("no_connection", Unavailable),
    ("not_found", InvalidRequest),
    ("refused", OrderRejected),
    ("retry", Unavailable),
    ("doubt", OutcomeUnknown),
    ("what", ProtocolError),
]


def test_each_code_is_an_error_that_keeps_it() -> None:
    async def main() -> None:
        async with made_up() as advisor, line_to(advisor) as (opened, _):
            for code, kind in CODES:
                body = b'{"code": "%s", "number": 130, "message": "because"}' % code.encode()
                number = int(advisor.asked[-1][2]) + 1
                advisor.answers["order"] = [b"%d" % number, b"error", body]
                with pytest.raises(kind, match=r"order: because|unknown code") as caught:
                    await opened.request("order")
                refusal = refusal_of(caught.value)
                assert isinstance(refusal, Refusal)
                assert (refusal.code, refusal.number, refusal.message) == (code, 130, "because")
                assert type(caught.value) is kind

    asyncio.run(main())


def test_an_answer_that_cannot_be_read_is_told_to_who_asked() -> None:
    async def main() -> None:
        async with made_up() as advisor, line_to(advisor) as (opened, _):
            number = int(advisor.asked[-1][2]) + 1
            advisor.answers["orders"] = [b"%d" % number, b"ok", b'{"orders": [NaN]}']
            with pytest.raises(ProtocolError, match="NaN is no number"):
                await opened.request("orders")

    asyncio.run(main())


def test_what_cannot_be_sent_is_refused_before() -> None:
    for argument in ("a\nb", "x" * 129, "Zoë", "\0"):
        with pytest.raises(InvalidRequest, match="cannot be sent"):
            request_frames("", 1, "order", [argument])
    with pytest.raises(InvalidRequest, match="65 arguments"):
        request_frames("", 1, "watch", ["A"] * 65)
    frames = request_frames("secret", 7, "order", ["k1", 1, 0.1, 1e-05, 1234567.0])
    assert frames[:4] == [b"LT1", b"secret", b"7", b"order"]
    assert frames[4:] == [b"k1", b"1", b"0.1", b"0.00001", b"1234567.0"]


def test_nothing_is_sent_on_a_lost_line() -> None:
    async def main() -> None:
        async with made_up() as advisor, line_to(advisor) as (opened, heard):
            advisor.answers["order"] = None
            waiting = asyncio.ensure_future(opened.request("order", timeout=10.0))
            await eventually(lambda: len(advisor.asked) == 2)
            await advisor.publish("event|", 1, start="f" * 16)
            with pytest.raises(Unavailable, match="whether it was done is not known") as caught:
                await waiting
            assert type(caught.value) is Unavailable
            assert heard.lost == 1
            with pytest.raises(NotConnected, match="started anew"):
                await opened.request("order")
            assert len(advisor.asked) == 2

    asyncio.run(main())


# --------------------------------------------------------------------------- greeting


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"protocol": 2}, VersionMismatch, "version 2, this program 1"),
        ({"start": 5}, ProtocolError, "start: must be a text"),
        ({"publications": 0}, ProtocolError, "publications: must be a whole number from 1"),
        ({"offset": "two"}, ProtocolError, "offset: must be a whole number"),
        ({"connected": 1}, ProtocolError, "connected: must be true or false"),
    ],
)
def test_a_greeting_that_is_not_ours(
    change: dict[str, Any], error: type[LiveTraderError], told: str
) -> None:
    async def main() -> None:
        async with made_up() as advisor:
            advisor.answers["hello"].update(change)
            with pytest.raises(error, match=told):
                async with line_to(advisor):
                    raise AssertionError("it was taken")

    asyncio.run(main())


def test_what_does_not_answer_is_no_advisor() -> None:
    async def main() -> None:
        async with made_up() as advisor:
            advisor.answers["hello"] = None
            with pytest.raises(Unavailable, match="does not answer hello"):
                async with line_to(advisor):
                    raise AssertionError("it was taken")

    asyncio.run(main())


# --------------------------------------------------------------------------- publications


def test_a_hole_in_the_numbers_is_told() -> None:
    async def main() -> None:
        async with made_up() as advisor, line_to(advisor) as (opened, heard):
            for number in (7, 8, 11, 11, 9, 12):
                await advisor.publish("event|", number)
            await advisor.publish("account|", 3)
            await eventually(lambda: bool(heard.of("account")))
            found = [(event.number, event.missed) for event in heard.of("event")]
            assert found == [(7, 0), (8, 0), (11, 2), (12, 0)]
            assert opened.missed == 2
            assert opened.strays == 2

    asyncio.run(main())


def test_what_nobody_listened_to_was_not_missed() -> None:
    async def main() -> None:
        topic = "tick|EURUSD|"
        async with made_up() as advisor, line_to(advisor) as (opened, heard):
            for number in (1, 50):
                opened.subscribe(topic)
                await eventually(lambda: topic.encode() in advisor.subscribed)
                await advisor.publish(topic, number)
                await eventually(
                    lambda number=number: (
                        heard.publications[-1:] != [] and heard.publications[-1].number == number
                    )
                )
                opened.unsubscribe(topic)
                await eventually(lambda: topic.encode() not in advisor.subscribed)
            assert [tick.missed for tick in heard.of("tick")] == [0, 0]
            assert opened.missed == 0

    asyncio.run(main())


def test_publications_that_cannot_be_read_are_left_out() -> None:
    async def main() -> None:
        async with made_up() as advisor, line_to(advisor) as (opened, heard):
            await advisor.publish("event|", 1, b"{")
            await advisor.publish("beat|", 1, {**BEAT, "time": "now"})
            await advisor.publish("event|", 2, b"[]")
            await advisor.publish("event|", 3)
            await eventually(lambda: bool(heard.publications))
            assert [event.number for event in heard.publications] == [3]
            assert opened.strays == 3

    asyncio.run(main())


def test_nonsense_does_not_stop_the_line() -> None:
    rng = random.Random(5)
    good = json.dumps(BEAT).encode()

    def nonsense() -> bytes:
        frame = bytearray(good if rng.random() < 0.7 else rng.randbytes(rng.randrange(60)))
        for _ in range(rng.randrange(1, 4)):
            if frame:
                frame[rng.randrange(len(frame))] = rng.randrange(256)
        return bytes(frame[: rng.randrange(len(frame) + 1)])

    async def main() -> None:
        async with made_up() as advisor, line_to(advisor) as (opened, heard):
            start = HELLO["start"].encode()
            for number in range(1, 1001):
                topic = rng.choice([b"beat|", b"event|", b"account|", b"beat|" + rng.randbytes(5)])
                frames = [topic, start, b"%d" % number, nonsense()]
                if rng.random() < 0.2:
                    frames.pop(rng.choice([2, 3]))
                await advisor.publish_frames(frames)
                await advisor.say([nonsense() for _ in range(rng.randrange(1, 5))])
            await advisor.publish("event|", 2000)
            await eventually(lambda: heard.publications[-1:] != [] and heard.of("event") != [])
            await eventually(lambda: heard.of("event")[-1].number == 2000)
            assert opened.strays > 1000
            assert opened.lost is None
            assert await opened.request("ping") == {}

    asyncio.run(main())


def test_a_line_without_beats_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "SILENCE", 0.3)

    async def main() -> None:
        async with made_up() as advisor, line_to(advisor) as (opened, heard):
            for number in range(1, 8):
                await advisor.publish("beat|", number, BEAT)
                await asyncio.sleep(0.06)
            assert opened.lost is None
            assert opened.beat == Beat.read(BEAT)
            await eventually(lambda: heard.lost == 1)
            assert "no heartbeat of the expert advisor for 0.3 s" in str(opened.lost)

    asyncio.run(main())


def test_two_users_share_a_line_and_the_last_one_closes_it() -> None:
    async def main() -> None:
        async with made_up() as advisor, line_to(advisor) as (first, _):
            async with line_to(advisor) as (second, heard):
                assert second is first
                await advisor.publish("event|", 1)
                await eventually(lambda: bool(heard.of("event")))
            assert first.lost is None
            assert await first.request("ping") == {}
            async with line_to(advisor, token="another") as (third, _):
                assert third is not first

    asyncio.run(main())


# --------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        ([b"1", b"ok"], "three frames"),
        ([b"x", b"ok", b"{}"], "was not asked"),
        ([b"1", b"yes", b"{}"], "ok or error"),
        ([b"1", b"ok", b"[]"], "must be an object"),
        ([b"1", b"ok", b'{"a": Infinity}'], "Infinity is no number"),
        ([b"1", b"ok", b'{"a": ' + b"1" * 5000 + b"}"], "5000 digits"),
        ([b"1", b"ok", b"[" * 200_000], "not JSON"),
        ([b"1", b"ok", b"\xff{}"], "not JSON"),
        ([b"1", b"ok", b" " * (fields.LONGEST + 1)], "bytes are more than"),
        ([b"1", b"error", b'{"code": 5}'], "code: must be a text"),
        ([b"1", b"error", b'{"code": "x", "number": 1.5}'], "number: must be a whole number"),
    ],
)
def test_a_reply_that_is_none(frames: list[bytes], told: str) -> None:
    with pytest.raises(ProtocolError, match=told):
        read_reply(frames)


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        ([b"event|", b"s", b"1"], "four frames"),
        ([b"event|", b"s", b"-1", b"{}"], "its number is"),
        ([b"tick|EURUSD|", b"s", b"1", b"7"], "topic tick: must be an object"),
    ],
)
def test_a_publication_that_is_none(frames: list[bytes], told: str) -> None:
    with pytest.raises(ProtocolError, match=told):
        read_publication(frames)


BAR = [1_604_498_400, 1.1, 1.2, 1.0, 1.15, 10, 1, 1]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([BAR[:7]], "not a list of eight"),
        (["bar"], "not a list of eight"),
        ([["1", *BAR[1:]]], "a time"),
        ([[*BAR[:7], 2]], "the mark of a closed bar"),
        ([[*BAR[:1], "1.1", *BAR[2:]]], "must be a number"),
        ([[*BAR[:1], 0.0, *BAR[2:]]], "a price that cannot be"),
        ([[*BAR[:2], 0.9, *BAR[3:]]], "a price that cannot be"),
        ([BAR, BAR], "not in order"),
        ([[*BAR[:5], -1, *BAR[6:]]], "at least 0"),
    ],
)
def test_bars_that_cannot_be(rows: list[Any], told: str) -> None:
    with pytest.raises(ProtocolError, match=f"bars: .*{told}"):
        read_bars(rows)


def test_a_quote_and_a_beat_name_the_field_at_fault() -> None:
    with pytest.raises(ProtocolError, match="bid: must be above 0"):
        Quote.read({"time": 1, "bid": 0, "ask": 1.1})
    with pytest.raises(ProtocolError, match="ask: is missing"):
        Quote.read({"time": 1, "bid": 1.1})
    with pytest.raises(ProtocolError, match="offset: must be a whole number"):
        Beat.read({**BEAT, "offset": 1e9})
    assert Beat.read({**BEAT, "offset": None}).offset is None
    assert HELLO["protocol"] == 1
