"""What MQL4 and mql-zmq have of functions, constants and types, as far as the advisor uses it.

From the MQL4 reference (docs.mql4.com) and mql-zmq's headers. A name that the advisor takes into
use is looked up there and added here: g++ would also take what MetaEditor does not know.
"""

from __future__ import annotations

#: Functions: the least and the most arguments.
FUNCTIONS: dict[str, tuple[int, int]] = {
    # account
    "AccountBalance": (0, 0),
    "AccountCompany": (0, 0),
    "AccountCredit": (0, 0),
    "AccountCurrency": (0, 0),
    "AccountEquity": (0, 0),
    "AccountFreeMargin": (0, 0),
    "AccountLeverage": (0, 0),
    "AccountMargin": (0, 0),
    "AccountName": (0, 0),
    "AccountNumber": (0, 0),
    "AccountProfit": (0, 0),
    "AccountServer": (0, 0),
    # arrays
    "ArrayCopy": (2, 5),
    "ArrayInitialize": (2, 2),
    "ArrayResize": (2, 3),
    "ArraySize": (1, 1),
    # checks and common functions
    "Alert": (1, 64),
    "CheckPointer": (1, 1),
    "Comment": (1, 64),
    "GetLastError": (0, 0),
    "GetTickCount": (0, 0),
    "IsConnected": (0, 0),
    "IsDemo": (0, 0),
    "IsExpertEnabled": (0, 0),
    "IsTradeAllowed": (0, 2),
    "IsTradeContextBusy": (0, 0),
    "Print": (1, 64),
    "ResetLastError": (0, 0),
    # conversion
    "CharArrayToString": (1, 4),
    "DoubleToString": (1, 2),
    "IntegerToString": (1, 3),
    "NormalizeDouble": (2, 2),
    "ShortToString": (1, 1),
    "StringFormat": (1, 64),
    "StringToDouble": (1, 1),
    "StringToInteger": (1, 1),
    "TimeToString": (1, 2),
    # timer
    "EventKillTimer": (0, 0),
    "EventSetMillisecondTimer": (1, 1),
    # files
    "FileClose": (1, 1),
    "FileFlush": (1, 1),
    "FileIsEnding": (1, 1),
    "FileIsExist": (1, 2),
    "FileMove": (4, 4),
    "FileOpen": (2, 4),
    "FileReadString": (1, 2),
    "FileSeek": (3, 3),
    "FileWriteString": (2, 3),
    # mathematics
    "MathAbs": (1, 1),
    "MathIsValidNumber": (1, 1),
    "MathMax": (2, 2),
    "MathMin": (2, 2),
    "MathRand": (0, 0),
    "MathRound": (1, 1),
    "MathSrand": (1, 1),
    # market
    "CopyRates": (5, 5),
    "MarketInfo": (2, 2),
    "RefreshRates": (0, 0),
    "SymbolInfoTick": (2, 2),
    "SymbolName": (2, 2),
    "SymbolSelect": (2, 2),
    "SymbolsTotal": (1, 1),
    # orders
    "OrderClose": (4, 5),
    "OrderClosePrice": (0, 0),
    "OrderCloseTime": (0, 0),
    "OrderComment": (0, 0),
    "OrderCommission": (0, 0),
    "OrderDelete": (1, 2),
    "OrderExpiration": (0, 0),
    "OrderLots": (0, 0),
    "OrderMagicNumber": (0, 0),
    "OrderModify": (5, 6),
    "OrderOpenPrice": (0, 0),
    "OrderOpenTime": (0, 0),
    "OrderProfit": (0, 0),
    "OrderSelect": (2, 3),
    "OrderSend": (7, 11),
    "OrderStopLoss": (0, 0),
    "OrderSwap": (0, 0),
    "OrderSymbol": (0, 0),
    "OrderTakeProfit": (0, 0),
    "OrderTicket": (0, 0),
    "OrderType": (0, 0),
    "OrdersHistoryTotal": (0, 0),
    "OrdersTotal": (0, 0),
    # strings
    "StringFind": (2, 3),
    "StringGetCharacter": (2, 2),
    "StringLen": (1, 1),
    "StringSetCharacter": (3, 3),
    "StringSplit": (3, 3),
    "StringSubstr": (2, 3),
    # time
    "TimeCurrent": (0, 1),
    "TimeGMT": (0, 1),
    "TimeLocal": (0, 1),
}

#: Methods of mql-zmq's Socket, ZmqMsg and Z85.
METHODS: dict[str, tuple[int, int]] = {
    "bind": (1, 1),
    "decode": (1, 2),
    "getData": (0, 1),
    "more": (0, 0),
    "recv": (1, 2),
    "send": (1, 3),
    "setCurveSecretKey": (1, 1),
    "setCurveServer": (1, 1),
    "setData": (1, 1),
    "setLinger": (1, 1),
    "setMaxMessageSize": (1, 1),
    "setReceiveHighWaterMark": (1, 1),
    "setRouterMandatory": (1, 1),
    "setSendHighWaterMark": (1, 1),
    "size": (0, 0),
}

_CONSTANTS = """
FILE_ANSI FILE_READ FILE_REWRITE FILE_TXT FILE_WRITE INIT_FAILED INIT_PARAMETERS_INCORRECT
INIT_SUCCEEDED INT_MAX INVALID_HANDLE MODE_DIGITS MODE_FREEZELEVEL MODE_HISTORY MODE_LOTSIZE
MODE_LOTSTEP MODE_MARGINCALCMODE MODE_MARGINREQUIRED MODE_MAXLOT MODE_MINLOT MODE_POINT
MODE_PROFITCALCMODE MODE_STOPLEVEL MODE_SWAPLONG MODE_SWAPSHORT MODE_SWAPTYPE MODE_TICKSIZE
MODE_TICKVALUE MODE_TRADEALLOWED MODE_TRADES NULL OP_BUY OP_BUYLIMIT OP_BUYSTOP OP_SELL
OP_SELLLIMIT OP_SELLSTOP PERIOD_M1 POINTER_DYNAMIC SEEK_END SELECT_BY_POS SELECT_BY_TICKET
TIME_MINUTES TIME_SECONDS UINT_MAX ZMQ_PUB ZMQ_REP ZMQ_ROUTER ENUM_TIMEFRAMES
"""
#: Constants of MQL4 and of mql-zmq.
CONSTANTS = frozenset(_CONSTANTS.split())

_TYPES = """
bool color datetime double int long string uchar uint ulong ushort void const struct input
Context MqlRates MqlTick Socket Z85 ZmqMsg ENUM_TIMEFRAMES
"""
TYPES = frozenset(_TYPES.split())

_KEYWORDS = "if else for while do switch case default break continue return new delete true false"
KEYWORDS = frozenset(_KEYWORDS.split())
