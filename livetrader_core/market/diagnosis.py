"""What `livetrader doctor` asks of a market, and what it finds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TypeVar

from livetrader_core.errors import ConfigError, LiveTraderError
from livetrader_core.market.base import MarketBase
from livetrader_core.market.finding import Finding, Verdict
from livetrader_core.models import Kline, Tick, market_of
from livetrader_core.timeframe import MINUTE_MS

Item = TypeVar("Item")

#: Bars asked for to see whether a venue gives any.
_SAMPLE = 300
#: A bar may be missing for so many minutes of an open session before that is told.
_QUIET_MINUTES = 10


async def examine(market: MarketBase, symbol: str | None, patience: float) -> list[Finding]:
    """Connect ``market`` and check it with ``symbol`` (None: one that it lists).

    ``patience``: seconds to wait for something live. The market is disconnected afterwards.
    """
    began = time.monotonic()
    try:
        await market.connect()
    except LiveTraderError as error:
        found = [Finding("reachable", Verdict.FAILED, str(error), _advice(error))]
        try:
            return found + ([] if isinstance(error, ConfigError) else await market.diagnose())
        finally:
            await market.disconnect()
    try:
        found = [Finding("reachable", Verdict.OK, f"in {time.monotonic() - began:.1f} s")]
        found += await _with_symbol(market, symbol, patience)
        found += await market.diagnose()
    finally:
        await market.disconnect()
    return found


def _advice(error: LiveTraderError) -> str:
    if isinstance(error, ConfigError):
        return "set it right, then ask again"
    return "check host, ports and login, and that the venue's program runs and lets this one in"


async def _with_symbol(market: MarketBase, symbol: str | None, patience: float) -> list[Finding]:
    try:
        name = symbol or await _some_symbol(market)
        if name is None:
            return [
                Finding(
                    "symbols",
                    Verdict.SKIPPED,
                    "the venue lists none",
                    "name one with --symbol",
                )
            ]
        contract = await market.get_contract(name)
    except LiveTraderError as error:
        return [Finding("symbols", Verdict.FAILED, str(error), "name another with --symbol")]
    found = [
        Finding(
            "symbols",
            Verdict.OK,
            f"{name}: tick {contract.price_tick:g}, {contract.multiplier:g} {contract.currency}",
        )
    ]
    found.append(await _bars(market, name))
    found.append(await _live(market, name, patience))
    return found


async def _some_symbol(market: MarketBase) -> str | None:
    symbols = await market.list_symbols()
    own = [symbol for symbol in symbols if market_of(symbol) in market.markets]
    return own[0] if own else None


async def _bars(market: MarketBase, symbol: str) -> Finding:
    try:
        klines = await market.get_kline_histories(symbol, limit=_SAMPLE)
        contract = await market.get_contract(symbol)
    except LiveTraderError as error:
        return Finding("bars", Verdict.FAILED, str(error), "try another symbol or host")
    if not len(klines):
        return Finding(
            "bars",
            Verdict.FAILED,
            f"{symbol}: the venue answers, but with no bars",
            "take another host; this one may want another login, or not have this market",
        )
    closed = int(klines.datetime[-1]) + MINUTE_MS
    venue = market.now() - market.delay_ms
    behind = _open_minutes(contract.sessions.is_open, closed, venue)
    told = (
        f"{len(klines)} of {symbol}; the newest closed {(venue - closed) / MINUTE_MS:.0f} min ago"
    )
    if market.delay_ms:
        told += f" (beside the delay of {market.delay_ms / MINUTE_MS:g} min)"
    if behind > _QUIET_MINUTES:
        return Finding(
            "bars",
            Verdict.DOUBT,
            f"{told}, {behind} of them while the market was open",
            "a holiday, a symbol that seldom trades, a wrong delay or time zone, or a stale host",
        )
    return Finding("bars", Verdict.OK, told)


def _open_minutes(is_open: object, closed: int, venue: int) -> int:
    assert callable(is_open)
    last = min(venue, closed + 3 * 24 * 60 * MINUTE_MS)
    return sum(bool(is_open(moment)) for moment in range(closed, last - MINUTE_MS, MINUTE_MS))


async def _live(market: MarketBase, symbol: str, patience: float) -> Finding:
    contract = await market.get_contract(symbol)
    if not contract.sessions.is_open(market.now() - market.delay_ms):
        opens = contract.sessions.next_open(market.now())
        hours = (opens - market.now()) / 3_600_000
        return Finding(
            "subscription", Verdict.SKIPPED, f"{symbol} is closed; it opens in {hours:.1f} h"
        )
    began = time.monotonic()
    streams: list[AsyncIterator[Kline] | AsyncIterator[Tick]] = [market.watch_klines(symbol)]
    try:
        streams.append(market.watch_ticks(symbol))
    except LiveTraderError:
        first = "bar"
    else:
        first = "bar or tick"
    came = await _first(streams, patience)
    if came is None:
        return Finding(
            "subscription",
            Verdict.DOUBT,
            f"{symbol}: no {first} came within {patience:g} s",
            "a bar comes once a minute: ask with a longer --patience, then for another symbol",
        )
    kind = "bar" if isinstance(came, Kline) else "tick"
    late = (market.now() - came.datetime) / 1000 - (60 if isinstance(came, Kline) else 0)
    return Finding(
        "subscription",
        Verdict.OK,
        f"a {kind} after {time.monotonic() - began:.1f} s, {late:.1f} s late",
    )


async def _first(
    streams: list[AsyncIterator[Kline] | AsyncIterator[Tick]], patience: float
) -> Kline | Tick | None:
    async def one(stream: AsyncIterator[Kline] | AsyncIterator[Tick]) -> Kline | Tick | None:
        async for item in stream:
            return item
        return None

    tasks = [asyncio.ensure_future(one(stream)) for stream in streams]
    try:
        done, _ = await asyncio.wait(tasks, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        return next((task.result() for task in done if not task.exception()), None)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
