"""What the expert advisor is asked about the terminal: tickets, contracts, quotes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from livetrader_core.errors import LiveTraderError, NotConnected, ProtocolError, UnknownSymbol
from livetrader_core.market.mt4 import fields
from livetrader_core.market.mt4.contracts import Terms
from livetrader_core.market.mt4.line import Line
from livetrader_core.market.mt4.messages import Quote
from livetrader_core.market.mt4.refusal import NOT_FOUND, refusal_of
from livetrader_core.models import Contract, market_of
from livetrader_core.trade.metatrader.positions import symbol_of
from livetrader_core.trade.metatrader.trades import Trade
from livetrader_core.trade.mt4.messages import Ticket


class Terminal:
    """One terminal. ``line`` gives the working line, or raises NotConnected.

    ``markets`` are those of its symbols, which are called as ours with ``suffix`` behind.
    """

    def __init__(self, line: Callable[[], Line], markets: Sequence[str], suffix: str) -> None:
        self._line = line
        self._markets = markets
        self._suffix = suffix
        self._contracts: dict[str, Contract] = {}
        #: What a unit of the contract's currency is worth in the account's.
        self._rates: dict[str, float] = {}

    # ---- tickets

    async def tickets(self) -> tuple[int, list[Ticket]]:
        """What is open or pending, oldest first, and the last event before."""
        found: list[Ticket] = []
        event, place = 0, 0
        while True:
            body = await self._line().request("orders", place)
            event = event or fields.integer(body, "event")
            found += [Ticket.read(item) for item in fields.items(body, "orders")]
            beyond = fields.integer(body, "next")
            if not beyond:
                return event, found
            if beyond <= place:
                raise ProtocolError(f"next: goes back to {beyond} from {place}")
            place = beyond

    async def trades(self) -> dict[int, Trade]:
        """Our positions and orders, oldest first."""
        _, tickets = await self.tickets()
        return {t.trade.ticket: t.trade for t in tickets if self.owns(t.trade)}

    def owns(self, trade: Trade) -> bool:
        """Whether it is ours."""
        return trade.magic == self._line().greeting.magic

    async def ticket(self, number: int) -> tuple[Ticket, str] | None:
        """A ticket, open or closed, and what closed it; None: there is no such ticket.

        Raises Unavailable, ProtocolError.
        """
        try:
            told = await self._line().request("ticket", number)
        except LiveTraderError as error:
            refusal = refusal_of(error)
            if refusal is None or refusal.code != NOT_FOUND:
                raise
            return None
        return Ticket.read(fields.object_of(told, "order")), fields.text(told, "reason")

    # ---- symbols

    def name(self, symbol: str) -> str:
        """What a symbol is called at the terminal."""
        return symbol[len(market_of(symbol)) + 1 :] + self._suffix

    def symbol(self, name: str) -> str:
        """The symbol that is called ``name`` at the terminal."""
        return symbol_of(name, self._markets, self._suffix)

    async def quote(self, symbol: str) -> Quote:
        """Bid and ask now. Raises Unavailable, ProtocolError."""
        return Quote.read(await self._line().request("tick", self.name(symbol)))

    async def contract(self, symbol: str) -> Contract:
        """Raises UnknownSymbol, NotConnected."""
        market = market_of(symbol)
        if market not in self._markets:
            raise UnknownSymbol(f"{symbol}: this terminal trades {', '.join(self._markets)}")
        known = self._contracts.get(symbol)
        if known is not None:
            return known
        line = self._line()
        try:
            terms = Terms.read(await line.request("contract", self.name(symbol)))
        except LiveTraderError as error:
            refusal = refusal_of(error)
            if refusal is not None and refusal.code == NOT_FOUND:
                raise UnknownSymbol(f"{symbol}: the terminal has no such symbol") from refusal
            raise NotConnected(f"{symbol}: its contract is not known: {error}") from error
        contract = terms.contract(symbol, line.greeting.leverage, None)
        self._contracts[symbol] = contract
        if terms.tick_value and terms.tick_size:
            self._rates[symbol] = terms.tick_value / (terms.tick_size * terms.lot_size)
        return contract

    def costs(self, symbol: str, price: float, amount: float) -> float:
        """``amount`` of the account's currency in that of the contract.

        By the pair itself where it tells the rate, else by what a tick is worth, as it was when the
        contract was read.
        """
        code = symbol[len(market_of(symbol)) + 1 :]
        base, quote = code[:3], code[3:6]
        currency = self._line().greeting.currency
        if currency == quote:
            return amount
        if currency == base:
            return round(amount * price, 2)
        rate = self._rates.get(symbol)
        return amount if rate is None else round(amount / rate, 2)
