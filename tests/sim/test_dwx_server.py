"""The simulated terminal, as a client that knows nothing of ours sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from livetrader_core.clock import SteppedClock
from livetrader_core.errors import ConfigError, InvalidRequest
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Kline, Klines
from livetrader_core.sim.mt4_model import Mt4Model, server_offset
from livetrader_core.sim.mt4_terminal import Mt4Terminal
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.venue import Fault, FaultKind
from tests.market.samples import at
from tests.support import dwx_frames as frames
from tests.support.dwx_client import PublishedConnector, until
from tests.support.dwx_venue import EURUSD, generated

START = at("2020-11-02 14:30")


def two_bars() -> Recording:
    rows = [
        Kline(EURUSD, "1m", START, 1.1633, 1.16352, 1.16325, 1.16341, 57),
        Kline(EURUSD, "1m", START + 60_000, 1.16341, 1.16341, 1.163, 1.1631, 0),
    ]
    return Recording(default_contract(EURUSD), Klines.of(EURUSD, "1m", rows))


def talk(
    script: Callable[[PublishedConnector, Mt4Terminal, SteppedClock], None],
    now: int = START + 2 * 60_000,
    recording: Recording | None = None,
    **settings: Any,
) -> None:
    """Run ``script`` in a thread of its own against a terminal."""

    async def main() -> None:
        clock = SteppedClock(now)
        terminal = Mt4Terminal([recording or two_bars()], clock, **{"freeze": 0.0, **settings})
        await terminal.start()
        try:

            def run() -> None:
                ports = (terminal.push_port, terminal.pull_port, terminal.sub_port)
                with PublishedConnector("127.0.0.1", *ports) as client:
                    script(client, terminal, clock)

            await asyncio.to_thread(run)
        finally:
            await terminal.stop()

    asyncio.run(main())


def test_replies_are_those_of_the_expert_advisor_each_with_an_empty_frame() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        assert client.ask("HEARTBEAT;") == [frames.HEARTBEAT, ""]
        assert client.ask(frames.HISTORY_COMMAND) == [frames.HISTORY, ""]
        nothing = "HIST;EURUSD;1;2019.11.02 16:30:00;2019.11.02 16:31:00"
        assert client.ask(nothing) == [frames.NO_HISTORY, ""]
        assert client.ask("TRACK_PRICES;EURUSD;NOPE") == [frames.TRACK_PRICES, ""]
        assert client.ask("TRACK_RATES;EURUSD;1") == [frames.TRACK_RATES, ""]
        account = "TRADE;GET_ACCOUNT_INFO;0;EURUSD;0.0;0;0;;0.01;0;0"
        assert client.ask(account) == [frames.ACCOUNT, ""]

    talk(script)


def test_the_connector_reads_it() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        assert client.heartbeat()["_response"] == "loud and clear!"
        found = client.history("EURUSD", 1, "2020.11.02 16:30:00", "2020.11.02 16:31:00")
        assert [row["close"] for row in found["_data"]] == [1.16341, 1.1631]
        assert client.trade("GET_ACCOUNT_INFO")["_data"][0]["account_balance"] == 10_000.0

    talk(script)


def test_an_unknown_command_yields_the_empty_frame_only() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        assert client.ask("NONSENSE;1;2", frames=1) == [""]
        assert client.ask("HEARTBEAT;") == [frames.HEARTBEAT, ""]

    talk(script)


def test_an_older_build_does_not_know_the_account() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        assert client.ask("TRADE;GET_ACCOUNT_INFO;0;EURUSD;0.0;0;0;;0.01;0;0", frames=1) == [""]

    talk(script, build="patched")


def test_a_build_of_2019_sends_no_empty_frames_and_does_not_name_the_symbol() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        assert client.ask("HEARTBEAT;", frames=1) == [frames.HEARTBEAT]
        unnamed = frames.HISTORY.replace(", '_symbol': 'EURUSD_M1'", "")
        assert client.ask(frames.HISTORY_COMMAND, frames=1) == [unnamed]

    talk(script, build="early")


def test_while_it_is_blocked_only_the_heartbeat_is_answered() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        terminal.expert.blocked = "NO_BROKER_CONNECTION"
        assert client.ask(frames.HISTORY_COMMAND) == [frames.BLOCKED, ""]
        assert client.ask("HEARTBEAT;") == [frames.HEARTBEAT, ""]

    talk(script)


def published(build: str) -> list[str]:
    """What is published of the bar of 14:31, quarter by quarter."""
    seen: list[str] = []

    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        client.track_rates(("EURUSD", 1))
        # A PUB socket drops what comes before it heard of the subscription.
        until(lambda: _subscribed(client, clock))
        client.published.clear()
        for quarter in range(4):
            clock.advance(START + 60_000 + quarter * 15_000)
            expected = quarter + 1 if build == "patched" else 1
            until(lambda count=expected: len(client.published) >= count)
            client.heartbeat()
        seen.extend(client.published)

    talk(script, now=START - 120_000, build=build, recording=long_bars())
    return seen


def long_bars() -> Recording:
    """The two bars, with quiet ones before."""
    early = [
        Kline(EURUSD, "1m", START - n * 60_000, 1.16, 1.16, 1.16, 1.16, 0) for n in range(9, 0, -1)
    ]
    return Recording(
        default_contract(EURUSD), Klines.of(EURUSD, "1m", [*early, *two_bars().klines])
    )


def _subscribed(client: PublishedConnector, clock: SteppedClock) -> bool:
    clock.advance(clock.now() - 60_000 if clock.now() > START - 60_000 else clock.now() + 60_000)
    client.read("TRACK_RATES;EURUSD;1")
    return bool(client.published)


def test_the_current_build_publishes_a_forming_bar_once() -> None:
    assert published("current") == [frames.BAR]


def test_the_patched_build_publishes_a_forming_bar_at_every_tick() -> None:
    seen = published("patched")
    assert seen[0] == frames.BAR.replace(":|:", " ")
    assert len(seen) == 4
    assert seen[-1].split(";")[1:5] == ["1.163410", "1.163410", "1.163000", "1.163100"]


def test_ticks_have_bid_and_ask_and_no_time() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        client.track_prices("EURUSD")

        def comes() -> bool:
            clock.advance(clock.now() + 15_000 if clock.now() < START + 45_000 else START)
            client.heartbeat()
            return bool(client.published)

        until(comes)
        assert all(text.startswith("EURUSD:|:1.16") for text in client.published)

    talk(script, now=START, recording=long_bars())


def test_a_tick_has_six_decimals() -> None:
    model = Mt4Model({EURUSD: two_bars()}, SteppedClock(START + 60_000), "EET-US")
    bid, ask = model.quote("EURUSD") or (0.0, 0.0)
    assert f"EURUSD:|:{bid:.6f};{ask:.6f}" == frames.TICK


def test_hours_and_days_begin_with_the_servers() -> None:
    recording = generated(EURUSD)
    model = Mt4Model({EURUSD: recording}, SteppedClock(at("2020-11-03 12:30")), "EET-US")
    day = at("2020-11-03")  # as the server writes it
    assert [rate.time * 1000 for rate in model.rates("EURUSD", 1440, day, day + 1)] == [day]
    four = model.rates("EURUSD", 240, day, day + 86_400_000)
    assert [rate.time % 14_400 for rate in four] == [0] * len(four)
    minutes = model.rates("EURUSD", 1, day, day + 4 * 3_600_000 - 1)
    assert (four[0].open, four[0].close) == (minutes[0].open, minutes[-1].close)
    assert four[0].high == max(rate.high for rate in minutes)
    assert four[0].tick_volume == sum(rate.tick_volume for rate in minutes)


@pytest.mark.parametrize(
    ("zone", "moment", "hours"),
    [
        ("EET-US", "2020-03-08 06:59", 2),
        ("EET-US", "2020-03-08 07:00", 3),
        ("EET-US", "2020-11-01 05:59", 3),
        ("EET-US", "2020-11-01 06:00", 2),
        ("EET-EU", "2020-03-29 00:59", 2),
        ("EET-EU", "2020-03-29 01:00", 3),
        ("EET-EU", "2020-10-25 00:59", 3),
        ("EET-EU", "2020-10-25 01:00", 2),
        ("Europe/London", "2020-07-01 00:00", 1),
    ],
)
def test_the_servers_clock(zone: str, moment: str, hours: int) -> None:
    assert server_offset(zone)(at(moment)) == hours * 3_600_000


def test_the_second_pass_of_an_hour_has_no_bars() -> None:
    start = at("2020-10-24 23:30")  # in London 00:30, an hour before the clocks go back
    rows = [Kline(EURUSD, "1m", start + n * 60_000, 1.1, 1.1, 1.1, 1.1, n) for n in range(180)]
    recording = Recording(default_contract(EURUSD), Klines.of(EURUSD, "1m", rows))
    model = Mt4Model({EURUSD: recording}, SteppedClock(at("2020-10-25 06:00")), "Europe/London")
    rates = model.rates("EURUSD", 1, 0, at("2021-01-01"))
    assert len(rates) == 120
    assert [rate.tick_volume for rate in rates] == [*range(90), *range(150, 180)]


def test_settings_at_fault_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^time_zone: "):
        Mt4Terminal([two_bars()], SteppedClock(START), time_zone="Mars")
    with pytest.raises(ConfigError, match=r"^build: "):
        Mt4Terminal([two_bars()], SteppedClock(START), build="newest")
    with pytest.raises(InvalidRequest, match="fragment"):
        Mt4Terminal([two_bars()], SteppedClock(START)).inject(Fault(FaultKind.FRAGMENT))


def test_ports_are_free_and_below_those_of_outgoing_connections() -> None:
    async def main() -> None:
        terminals = [Mt4Terminal([two_bars()], SteppedClock(START)) for _ in range(3)]
        for terminal in terminals:
            await terminal.start()
        ports = [p for t in terminals for p in (t.push_port, t.pull_port, t.sub_port)]
        assert len(set(ports)) == 9
        assert all(1024 < port < 32_768 for port in ports)
        for terminal in terminals:
            await terminal.stop()
            await terminal.stop()

    asyncio.run(main())


def test_two_clients_are_dealt_each_others_replies() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        ports = (terminal.push_port, terminal.pull_port, terminal.sub_port)
        client.heartbeat()
        with PublishedConnector("127.0.0.1", *ports) as other:

            def shared() -> bool:
                client.send("HEARTBEAT;")
                return len(other.frames) > 0

            until(shared)

    talk(script)
