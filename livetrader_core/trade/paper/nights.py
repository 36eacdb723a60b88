"""What positions bring or cost overnight: the contract's swap, for every trading day that ends."""

from __future__ import annotations

from datetime import date

from livetrader_core.models import Contract
from livetrader_core.trade.paper.account import Account

_DAYS_OF_A_TRIPLE_NIGHT = 3


def charge_nights(account: Account, contract: Contract, opened: int) -> bool:
    """Book the swap of the nights before the kline of ``contract`` that opened then (UTC ms).

    Says whether there was any.
    """
    holding = account.book(contract.currency).holdings.get(contract.symbol)
    if holding is None:
        return False
    day = contract.sessions.trading_date(opened)
    since, holding.day = holding.day, day
    if since is None or since >= day:
        return False
    rate = contract.swap.long if holding.quantity > 0 else contract.swap.short
    amount = rate * abs(holding.quantity) * _nights(contract, since, day)
    account.book(contract.currency).cash += amount
    return bool(amount)


def _nights(contract: Contract, since: date, until: date) -> int:
    """Nights from the trading day ``since`` to the trading day ``until``, a triple one as three."""
    count, day = 0, since
    while day < until:
        is_triple = day.weekday() == contract.swap.triple_weekday
        count += _DAYS_OF_A_TRIPLE_NIGHT if is_triple else 1
        day = contract.sessions.next_trading_day(day)
    return count
