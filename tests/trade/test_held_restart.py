"""Held orders outlive the server's process, wherever it dies."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from livetrader_core.models import Order, OrderStatus, OrderType, Side, TimeInForce
from livetrader_core.trade import TradeService
from livetrader_core.trade import held as held_module
from livetrader_core.trade import journal as journal_module
from livetrader_core.trade import service as service_module
from livetrader_core.trade.held import CLOSE_LEAD_MS
from tests.support.scripted_market import ALWAYS
from tests.trade import holding, scripted_venue
from tests.trade.holding import SYMBOL, Rig, held, run
from tests.trade.scripted_venue import ScriptedVenue, until

S, T = OrderStatus, OrderType

ENTRY = held(T.LIMIT, Side.BUY, "entry", price=100)
LOSS = held(T.STOP, Side.SELL, "loss", stop_price=90, parent="entry")
GAIN = held(T.LIMIT, Side.SELL, "gain", price=110, parent="entry")


# --------------------------------------------------------------------------- restarts


def test_price_that_passed_the_stop_meanwhile_triggers_at_the_next_quote(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        before = await rig.trade.create_order(held(stop_price=100))
        rig.later(600)
        await rig.restart()
        assert rig.order() == before
        assert rig.venue.arrived == []
        await rig.quote(99)
        assert rig.order().held
        await rig.restart()
        await rig.quote(117)
        await rig.sent("s-1")

    run(work, journal=tmp_path / "journal.db")


def test_trailing_stop_stands_where_it_was_and_follows_on(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        order = held(T.TRAILING_STOP, Side.SELL, stop_price=95, trail_amount=5)
        await rig.trade.create_order(order)
        rig.later(1)
        await rig.quote(110)
        await rig.restart()
        assert rig.order().stop_price == 105.0
        await rig.quote(106)
        assert rig.order().stop_price == 105.0
        rig.later(1)
        await rig.quote(112)
        assert rig.order().stop_price == 107.0
        await rig.restart()
        await rig.quote(107)
        await rig.sent("s-1")

    run(work, journal=tmp_path / "journal.db")


def test_orderly_stop_writes_where_the_trailing_stop_stands(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        order = held(T.TRAILING_STOP, Side.SELL, stop_price=95, trail_amount=5)
        await rig.trade.create_order(order)
        for price in (110, 111, 112):  # within one second
            await rig.quote(price)
        assert rig.order().stop_price == 105.0
        await rig.trade.stop()
        assert rig.trade.journal.order("s-1") == rig.order()
        assert rig.order().stop_price == 107.0
        await rig.trade.connect()
        await rig.quote(106)
        await rig.sent("s-1")

    run(work, journal=tmp_path / "journal.db")


def test_parent_that_was_filled_meanwhile_wakes_its_children(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        for order in (ENTRY, LOSS, GAIN):
            await rig.trade.create_order(order)
        await rig.restart()
        assert [rig.order(i).held for i in ("loss", "gain")] == [True, True]
        await rig.looked()
        assert rig.venue.arrived == ["entry"]
        rig.venue.fill("entry", 10.0, "t-1", tell=False)
        await rig.restart()
        await rig.sent("entry", "gain")
        await rig.quote(90)
        await rig.sent("entry", "gain", "loss")

    run(work, journal=tmp_path / "journal.db")


@pytest.mark.parametrize("how", ["filled", "partly filled", "canceled"])
def test_end_that_came_meanwhile_ends_the_others(tmp_path: Path, how: str) -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(held(T.LIMIT, Side.BUY, "first", price=90))
        await rig.trade.create_order(held(T.LIMIT, Side.BUY, "second", price=80, oco="first"))
        await rig.trade.create_order(held(client_order_id="third", stop_price=110, oco="first"))
        await rig.restart()
        if how == "canceled":
            rig.venue.orders["second"] = rig.venue.orders["second"].but(status=S.CANCELED)
        else:
            rig.venue.fill("second", 10.0 if how == "filled" else 4.0, "t-1", tell=False)
        await rig.restart()
        await rig.ends(S.CANCELED, "first", "third")
        await rig.restart()
        await rig.looked()
        assert (
            rig.status("second")
            is {
                "filled": S.FILLED,
                "partly filled": S.PARTIALLY_FILLED,
                "canceled": S.CANCELED,
            }[how]
        )
        assert rig.venue.canceled == ["first"]

    run(work, journal=tmp_path / "journal.db")


def test_restart_knows_who_came_first_in_a_group(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(held(T.LIMIT, Side.BUY, "first", price=90))
        await rig.trade.create_order(held(T.LIMIT, Side.BUY, "second", price=80, oco="first"))
        rig.venue.fill("second", 4.0, "t-1")
        await rig.ends(S.CANCELED, "first")
        rig.later(1)
        rig.venue.fill("second", 4.0, "t-2")  # later than the end of the other
        await rig.venue.told()
        await rig.restart()
        await rig.looked()
        assert rig.status("second") is S.PARTIALLY_FILLED
        assert rig.venue.canceled == ["first"]

    run(work, journal=tmp_path / "journal.db")


def test_deadline_that_passed_meanwhile_ends_the_order(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        gtd = {"time_in_force": TimeInForce.GTD, "expires_at": rig.market.at(30)}
        await rig.trade.create_order(held(client_order_id="stop", stop_price=100, **gtd))
        await rig.trade.create_order(held(T.LIMIT, client_order_id="limit", price=90, **gtd))
        await rig.trade.create_order(held(T.CLOSE, client_order_id="close"))
        await rig.trade.create_order(held(T.CLOSE, client_order_id="given-up"))
        rig.later(31)
        await rig.restart()
        await rig.ends(S.EXPIRED, "stop", "limit")
        close = ALWAYS.close_of(ALWAYS.trading_date(rig.market.time))
        await rig.trade.cancel_order("given-up")
        rig.market.time = close - CLOSE_LEAD_MS
        await rig.sent("limit", "close")

    run(work, journal=tmp_path / "journal.db")


def test_child_of_a_bracket_that_ended_in_an_earlier_run_is_refused(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(ENTRY)
        rig.venue.fill("entry", 10.0, "t-1")
        await rig.venue.told()
        await rig.trade.create_order(GAIN)
        rig.venue.fill("gain", 10.0, "t-2")
        await rig.venue.told()
        await rig.restart()
        with pytest.raises(Exception, match=r"gain \(filled\) of its bracket"):
            await rig.trade.create_order(LOSS)

    run(work, journal=tmp_path / "journal.db")


def test_start_without_prices_or_venue_says_what_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"

    async def work(rig: Rig) -> None:
        await rig.trade.create_order(held(stop_price=100))

    async def blind() -> None:
        trade = TradeService(ScriptedVenue(), path)
        await trade.connect()
        await trade.cancel_order("s-1")
        await trade.stop()

    async def without_its_venue() -> None:
        trade = TradeService(ScriptedVenue("SHFE"), path, ask_every=0.01)
        await trade.connect()
        await asyncio.sleep(0.05)
        assert [order.held for order in await trade.fetch_open_orders()] == [True]
        await trade.stop()

    run(work, journal=path)
    asyncio.run(without_its_venue())
    assert caplog.messages == []
    asyncio.run(blind())
    assert "this server has no market data: s-1" in caplog.text


# --------------------------------------------------------------------------- dying at every line

#: What is traced: the server's side, and the venue's that answers it.
_TRACED = {
    module.__file__
    for module in (held_module, service_module, journal_module, scripted_venue, holding)
}


@dataclass
class Death:
    """What a process that died here left behind: its files, and what the venue knows."""

    where: str
    database: bytes
    log: bytes
    orders: dict[str, Order]
    fills: list[Any]
    arrived: list[str]


class Deaths:
    """Every different state of disk and venue between two lines of the traced code."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._seen: set[bytes] = set()
        self._stat: object = None
        self.found: list[Death] = []
        self.lines = 0

    def __enter__(self) -> Deaths:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in _TRACED:
            return None
        if event == "line":
            self.lines += 1
            self._look(f"{frame.f_code.co_name}:{frame.f_lineno}")
        return self._trace

    def _look(self, where: str) -> None:
        venue, path = self._rig.venue, self._rig.path
        assert path is not None
        files = (path, path.with_name(path.name + "-wal"))
        stats = [(s.st_size, s.st_mtime_ns) for s in map(os.stat, files)]
        stat = (stats, len(venue.arrived), tuple(venue.orders.values()), len(venue.fills))
        if stat == self._stat:
            return
        self._stat = stat
        contents = [file.read_bytes() for file in files]
        key = hashlib.sha1(b"".join(contents) + repr(stat[1:]).encode()).digest()
        if key not in self._seen:
            self._seen.add(key)
            self.found.append(
                Death(where, *contents, dict(venue.orders), list(venue.fills), [*venue.arrived])
            )


def deaths_of(path: Path, work: Callable[[Rig], Awaitable[None]]) -> list[Death]:
    """Every state in which a process that does ``work`` can die."""
    found: list[Death] = []

    async def traced(rig: Rig) -> None:
        with Deaths(rig) as deaths:
            await work(rig)
        assert deaths.lines > 500
        found.extend(deaths.found)

    run(traced, journal=path)
    return found


def reborn(death: Death, folder: Path) -> Rig:
    """A server on what ``death`` left, not started yet."""
    folder.mkdir()
    (folder / "journal.db").write_bytes(death.database)
    (folder / "journal.db-wal").write_bytes(death.log)
    rig = Rig(folder / "journal.db")
    rig.venue.orders, rig.venue.fills = dict(death.orders), list(death.fills)
    rig.venue.arrived = list(death.arrived)
    return rig


def after_each(
    deaths: list[Death], folder: Path, check: Callable[[Rig, Death], Awaitable[None]]
) -> None:
    async def main() -> None:
        for number, death in enumerate(deaths):
            try:
                await live_on(reborn(death, folder / f"life-{number}"), death, check)
            except BaseException as error:
                raise AssertionError(f"died at {death.where}: {error}") from error

    asyncio.run(main())


async def live_on(rig: Rig, death: Death, check: Callable[[Rig, Death], Awaitable[None]]) -> None:
    await rig.open()
    try:
        await until(lambda: not any(map(in_doubt, rig.trade.journal.open_orders())))
        await check(rig, death)
        accounted(rig)
    finally:
        await rig.close()


def in_doubt(order: Order) -> bool:
    return order.status in (S.SUBMITTED, S.UNKNOWN)


def accounted(rig: Rig) -> None:
    """No order twice at the venue, none there that the journal does not know, no fill lost."""
    assert not [i for i, times in Counter(rig.venue.arrived).items() if times > 1]
    for name, at_venue in rig.venue.orders.items():
        known = rig.order(name)
        assert (known.held, known.filled) == (False, at_venue.filled)
        assert known.status.is_final == at_venue.status.is_final
    fills = {fill.trade_id for fill in rig.trade.journal.fills()}
    assert fills == {fill.trade_id for fill in rig.venue.fills}


def test_stop_is_sent_once_wherever_the_server_dies(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(held(stop_price=100))
        await rig.quote(99)
        await rig.quote(100)
        await rig.sent("s-1")
        rig.venue.fill("s-1", 10.0, "t-1")
        await rig.venue.told()

    deaths = deaths_of(tmp_path / "journal.db", work)
    ends: Counter[str] = Counter()

    async def check(rig: Rig, death: Death) -> None:
        if rig.trade.journal.order("s-1") is None:
            ends["never taken"] += 1
            assert death.arrived == []
            return
        if rig.order().held:
            ends["taken up"] += 1
            assert death.arrived == []
            await rig.quote(100)
            await rig.sent("s-1")
        elif "s-1" not in death.orders:
            # Only the venue can say that it never came, and it does.
            ends["never arrived"] += 1
            assert rig.status() is S.REJECTED
            assert rig.order().reason == "it never arrived at the venue"
        else:
            ends["found at the venue"] += 1
            assert rig.order().status is death.orders["s-1"].status

    after_each(deaths, tmp_path, check)
    assert set(ends) == {"never taken", "taken up", "never arrived", "found at the venue"}


@pytest.mark.parametrize("ending", ["gain", "loss"])
def test_bracket_is_whole_wherever_the_server_dies(tmp_path: Path, ending: str) -> None:
    async def work(rig: Rig) -> None:
        for order in (ENTRY, LOSS, GAIN):
            await rig.trade.create_order(order)
        rig.venue.fill("entry", 10.0, "t-1")
        await rig.sent("entry", "gain")
        if ending == "loss":
            await rig.quote(90)
            await rig.sent("entry", "gain", "loss")
        rig.venue.fill(ending, 10.0, "t-2")
        await rig.ends(S.CANCELED, "loss" if ending == "gain" else "gain")

    deaths = deaths_of(tmp_path / "journal.db", work)
    ends: Counter[tuple[str, ...]] = Counter()

    async def check(rig: Rig, death: Death) -> None:
        await rig.looked()
        await until(lambda: not rig.trade._sender.tasks and not rig.trade._held._canceling)
        await rig.looked()
        orders = {order.client_order_id: order for order in rig.trade.journal.orders()}
        ends[tuple(sorted(f"{i} {o.status.value}" for i, o in orders.items()))] += 1
        children = [orders[i] for i in ("loss", "gain") if i in orders]
        if "entry" not in orders or orders["entry"].status is not S.FILLED:
            assert all(child.held or child.status.is_final for child in children)
            return
        if any(child.status is S.FILLED for child in children):
            assert all(child.status.is_final for child in children)
        for child in children:
            asleep = child.held and not rig.trade._held._waits_for_price(child)
            assert not asleep, "its parent is filled"

    after_each(deaths, tmp_path, check)
    assert len(ends) >= 5


def test_trailing_stop_never_moves_back_wherever_the_server_dies(tmp_path: Path) -> None:
    prices = (100, 103, 101, 107, 104)

    async def work(rig: Rig) -> None:
        order = held(T.TRAILING_STOP, Side.SELL, stop_price=95, trail_amount=5)
        await rig.trade.create_order(order)
        for price in prices:
            rig.later(1)
            await rig.quote(price)
        await rig.quote(102)
        await rig.sent("s-1")

    deaths = deaths_of(tmp_path / "journal.db", work)
    stops = []

    async def check(rig: Rig, death: Death) -> None:
        if rig.trade.journal.order("s-1") is None or not rig.order().held:
            return
        stops.append(rig.order().stop_price)
        await until(lambda: SYMBOL in rig.market.readers)
        await rig.quote(rig.order().stop_price + 1)
        assert rig.order().stop_price == stops[-1]
        await rig.quote(rig.order().stop_price)
        await rig.sent("s-1")

    after_each(deaths, tmp_path, check)
    assert sorted(set(stops)) == stops == [95.0, 98.0, 102.0]
