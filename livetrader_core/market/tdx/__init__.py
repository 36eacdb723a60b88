"""US stocks, Hong Kong stocks and Chinese futures as TDX's extended market quotes them.

| file          | concept                                                            |
|---------------|--------------------------------------------------------------------|
| ``market``    | the adapter: history, contracts, symbols, its life                 |
| ``settings``  | its settings, checked                                              |
| ``polling``   | asking for what is new: bars every minute, and quotes              |
| ``history``   | bars by pages, joined without a hole                               |
| ``lines``     | hosts, ranked by the bars they give, and the connections to them   |
| ``line``      | one connection, one request at a time                              |
| ``wire``      | frames and their bodies, built and parsed by pytdx                 |
| ``labels``    | what the venue writes beside a bar, and when that bar opened       |
| ``codes``     | the venue's codes and ours                                         |
| ``calendar``  | the trading days of the Chinese exchanges                          |
"""

from livetrader_core.market.tdx.market import TdxMarket

__all__ = ["TdxMarket"]
