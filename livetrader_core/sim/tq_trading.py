"""The trading side of a DIFF server: logins, orders, and what each connection has not been told.

As at a real one, nothing is told before a login, and an order that comes before it is ignored.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from livetrader_core.models import Contract
from livetrader_core.sim.books import BookedFill, VenueBooks, net
from livetrader_core.sim.tq_account import Account
from livetrader_core.sim.tq_instrument import Instrument
from livetrader_core.sim.tq_matching import Desk, trading_day

Diff = dict[str, Any]

#: The broker under which the vendor's simulated accounts log in.
SIMULATED_BROKER = "快期模拟"
_INFO, _WARNING = "INFO", "WARNING"


class Trading:
    """All accounts of the venue, opened with ``cash`` at their first login.

    ``accounts`` maps account ids to passwords; None lets anybody in. They outlive a restart of the
    server, as a broker's books do.
    """

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        now: int,
        cash: float = 1_000_000.0,
        accounts: Mapping[str, str] | None = None,
    ) -> None:
        self._instruments = instruments
        self._cash = cash
        self._accounts = accounts
        self._desks: dict[str, Desk] = {}
        self._now = now
        #: Most lots that one quote trades with one order; 0: any number.
        self.depth = 0
        #: So many of the next orders and cancellations are lost on their way.
        self.lost_requests = 0
        #: So many of the next orders are taken, and the connection is gone before the answer.
        self.lost_answers = 0
        #: Whether an order is told to be finished before its trades are.
        self.trades_late = False

    def desk(self, user: str) -> Desk:
        """The desk of an account, by its user name."""
        if user not in self._desks:
            contracts: dict[str, Contract] = {
                name: one.contract for name, one in self._instruments.items()
            }
            day = trading_day(self._instruments, self._now)
            account = Account(user, self._cash, contracts, day)
            self._desks[user] = Desk(account, self._instruments, self._now)
        return self._desks[user]

    def books(self, now: int) -> VenueBooks | None:
        """Those of the account that logged in first, at ``now`` (UTC ms); None: nobody has."""
        self.advance(now)
        desk = next(iter(self._desks.values()), None)
        if desk is None:
            return None
        account = desk.account
        fills = [_booked(trade) for trade in desk.trades.values()]
        return VenueBooks(
            currency="CNY",
            cash=account.static + account.close_profit - account.commission,
            working=[key for key, order in desk.orders.items() if order.alive],
            fills=sorted(fills, key=lambda fill: fill.datetime),
            positions=net((fill.symbol, fill.quantity) for fill in fills),
        )

    def knows(self, broker: str, user: str, password: str) -> bool:
        """Whether this login is right."""
        if broker == SIMULATED_BROKER:
            return bool(user) and user == password
        return self._accounts is None or self._accounts.get(user) == password

    def advance(self, now: int) -> None:
        """Match all orders with the quotes up to ``now`` (UTC ms)."""
        self._now = max(now, self._now)
        for desk in self._desks.values():
            desk.depth = self.depth
            desk.advance(now)

    def lose_request(self) -> bool:
        """Whether this request is lost."""
        lost = self.lost_requests > 0
        self.lost_requests -= lost
        return lost

    def lose_answer(self) -> bool:
        """Whether the connection is gone before the answer to this order."""
        lost = self.lost_answers > 0
        self.lost_answers -= lost
        return lost


def _booked(trade: Diff) -> BookedFill:
    sign = 1 if trade["direction"] == "BUY" else -1
    return BookedFill(
        f"{trade['exchange_id']}.{trade['instrument_id']}",
        float(sign * trade["volume"]),
        float(trade["price"]),
        trade["trade_date_time"] // 1_000_000,
    )


@dataclass
class TradingLine:
    """One connection to ``/td``. ``changed`` is called when an account's orders have changed."""

    trading: Trading
    changed: Callable[[], None] = lambda: None
    peeked: bool = False
    #: Whether the connection is to be dropped at once.
    doomed: bool = False
    _user: str = ""
    _confirmed: bool = False
    _greeted: bool = False
    _told: dict[str, Diff] = field(default_factory=dict)
    _notices: list[Diff] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def receive(self, message: Diff, now: int) -> None:
        """Take a request at ``now`` (UTC ms); what comes before a login is ignored."""
        aid = message.get("aid")
        if aid == "peek_message":
            self.peeked = True
        elif aid == "req_login":
            self._log_in(message)
        elif self._user and aid == "confirm_settlement":
            self._confirmed = True
        elif self._user and aid in ("insert_order", "cancel_order"):
            self.trading.advance(now)
            self._order(message)

    def _log_in(self, message: Diff) -> None:
        broker, user = str(message.get("bid", "")), str(message.get("user_name", ""))
        if not self.trading.knows(broker, user, str(message.get("password", ""))):
            self._notify(_WARNING, "CTP:不合法的登录", 3)
            return
        self._user = user
        # The vendor's own accounts have no statements to confirm.
        self._confirmed = broker == SIMULATED_BROKER
        self._notify(_INFO, "登录成功", 0)

    def _order(self, message: Diff) -> None:
        if message.get("user_id") != self._user or self.trading.lose_request():
            return
        desk = self.trading.desk(self._user)
        desk.depth = self.trading.depth
        if message["aid"] == "cancel_order":
            said = desk.cancel(str(message.get("order_id", "")))
        else:
            if not self._confirmed:
                desk.refusals.insert(0, "CTP:结算结果未确认")
            said = desk.insert(message)
            self.doomed = self.trading.lose_answer()
        if said is not None:
            self._notify(_WARNING, said, 1)
        self.changed()

    def _notify(self, level: str, content: str, code: int) -> None:
        notice = {"type": "MESSAGE", "level": level, "code": code, "content": content}
        self._notices.append({"notify": {f"N{next(self._numbers)}": notice}})

    # ---- news

    def collect(self, now: int) -> list[Diff]:
        """What is new at ``now`` (UTC ms), and from now on counts as told."""
        diffs, self._notices = self._notices, []
        if not self._user:
            return diffs
        self.trading.advance(now)
        news = {name: self._unsaid(name, tree) for name, tree in self._trees().items()}
        if self.trading.trades_late and news["orders"] and news["trades"] and self._greeted:
            for key in news.pop("trades"):
                del self._told["trades"][key]
            self.changed()  # they come with the next answer
        news = {name: tree for name, tree in news.items() if tree}
        if not self._greeted:
            self._greeted = True
            first = {"user_id": self._user, "trade_more_data": False}
            diffs.append({"trade": {self._user: first | news}})
        elif news:
            diffs.append({"trade": {self._user: news}})
        return diffs

    def _trees(self) -> dict[str, dict[str, Diff]]:
        desk = self.trading.desk(self._user)
        account = desk.account
        known = desk.todays() | {key: desk.orders[key] for key in self._told.get("orders", ())}
        return {
            "accounts": {"CNY": account.tree(desk.price, desk.frozen_margin())},
            "positions": account.positions(desk.price),
            "orders": {key: order.tree for key, order in known.items()},
            "trades": desk.trades_of(known),
        }

    def _unsaid(self, name: str, tree: Mapping[str, Diff]) -> dict[str, Diff]:
        told = self._told.setdefault(name, {})
        news = {key: dict(entry) for key, entry in tree.items() if told.get(key) != entry}
        told.update(news)
        return news
