"""backtrader's CommissionInfo, made from a venue's Contract and valued in the base currency."""

from __future__ import annotations

from collections.abc import Callable

import backtrader as bt

from livetrader_bt.rates import Rates
from livetrader_core.models import Contract


def contract_commission(contract: Contract, rates: Rates) -> ContractCommission:
    """The CommissionInfo of ``contract``; ``rates`` value its currency in the base currency."""
    make: Callable[..., ContractCommission] = ContractCommission  # backtrader makes the signature
    return make(contract=contract, rates=rates)


class ContractCommission(bt.CommInfoBase):
    """Value, margin and commission of one contract, in the base currency.

    Where backtrader's own classes know stocks (paid in full) and futures (a fixed margin), this
    one asks the contract, so that a multiplier, a margin that is a share of the notional value
    and a currency of its own all count.
    """

    params = (("contract", None), ("rates", None))

    def __init__(self) -> None:
        self.contract: Contract = self.p.contract
        self.p.mult = self.contract.multiplier
        if self.contract.margined:
            self.p.margin = self.contract.margin_of(1.0) * self.rate
        super().__init__()
        self._stocklike = not self.contract.margined

    @property
    def rate(self) -> float:
        """What one unit of the contract's currency is worth in the base currency."""
        rates: Rates = self.p.rates
        return rates.of(self.contract.currency)

    def get_margin(self, price: float) -> float:
        """What one unit reserves at ``price``."""
        return self.contract.margin_of(price) * self.rate

    def getsize(self, price: float, cash: float) -> float:
        """How much can be had for ``cash`` at ``price``, in whole steps."""
        return abs(self.contract.round_quantity(max(cash, 0.0) / self.get_margin(price)))

    def getoperationcost(self, size: float, price: float) -> float:
        """What opening ``size`` takes from the cash."""
        return abs(size) * self.get_margin(price)

    def getvaluesize(self, size: float, price: float) -> float:
        """Value of ``size``: the margin of margined contracts, else the signed market value."""
        if self.contract.margined:
            return abs(size) * self.get_margin(price)
        return size * self.get_margin(price)

    def getvalue(self, position: bt.Position, price: float) -> float:
        """Value of ``position``: margin at its entry, else the signed market value at ``price``."""
        at = position.price if self.contract.margined else price
        return self.getvaluesize(position.size, at)

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        return self.contract.commission_of(size, price) * self.rate

    def profitandloss(self, size: float, price: float, newprice: float) -> float:
        """Profit of holding ``size`` from ``price`` to ``newprice``."""
        return size * (newprice - price) * self.contract.multiplier * self.rate

    def cashadjust(self, size: float, price: float, newprice: float) -> float:
        """What marking ``size`` from ``price`` to ``newprice`` moves in the cash."""
        return self.profitandloss(size, price, newprice) if self.contract.margined else 0.0
