//+------------------------------------------------------------------+
//| Trading.mqh: operations, each done once.                         |
//| Part of livetrader, GPL-3.0-or-later.                            |
//|                                                                  |
//| Each function checks all it is given before the terminal is      |
//| asked, and returns whether it was done; "json" is the reply.     |
//+------------------------------------------------------------------+
#property strict

#define MOST_LOTS     100000.0
#define MOST_PRICE    1000000000.0
#define MOST_SLIPPAGE 10000
#define OPERATION_NAMES "op must have 1 to 31 characters of A-Z a-z 0-9 . _ - / :"

bool Fail(string &json, const string code, const int number, const string message)
{
   json = ErrorJson(code, number, message);
   return(false);
}

//+------------------------------------------------------------------+
//| Replies                                                          |
//+------------------------------------------------------------------+
string StateName(const int state)
{
   switch(state)
   {
      case STATE_DONE:    return("done");
      case STATE_REFUSED: return("refused");
      case STATE_LOST:    return("lost");
      case STATE_VOID:    return("void");
   }
   return("begun");
}

string OperationJson(const Operation &operation, const bool repeated)
{
   string json = "{";
   AddText(json, "op", operation.name);
   AddText(json, "state", StateName(operation.state));
   AddInteger(json, "number", operation.error);
   AddInteger(json, "ticket", operation.ticket);
   AddInteger(json, "rest", operation.rest);
   AddNumber(json, "lots", operation.lots, LOT_DIGITS);
   AddNumber(json, "price", operation.price, 8);
   AddInteger(json, "time", (long)operation.moment);
   AddNumber(json, "profit", operation.profit, MONEY_DIGITS);
   AddNumber(json, "commission", operation.commission, MONEY_DIGITS);
   AddNumber(json, "swap", operation.swap, MONEY_DIGITS);
   AddBool(json, "repeated", repeated);
   return(json + "}");
}

string ErrorCode(const int error)
{
   switch(error)
   {
      case 146: return("retry");            // trade context is busy
      case 6:   return("no_connection");
      case 133:                             // trade is disabled
      case 4109: return("not_allowed");     // trade is not allowed for this advisor
      case 4108: return("not_found");       // unknown ticket
      case 4106: return("not_found");       // unknown symbol
   }
   return("refused");
}

//--- After these the broker may have done it: common error, no connection, too old to tell, trade
//--- time-out, the order was taken, or is being worked on.
bool IsDoubtful(const int error)
{
   return(error == 2 || error == 6 || error == 128 || error == 142 || error == 143 || error == 144);
}

//--- After these the broker certainly did nothing, and may do it at the next attempt: price changed,
//--- off quotes, requote, trade context busy.
bool IsPassing(const int error)
{
   return(error == 135 || error == 136 || error == 138 || error == 146);
}

//--- Whether an operation that was refused may be done when it is asked for again.
bool MayTryAgain(const int place)
{
   return(g_operations[place].state == STATE_REFUSED && IsPassing(g_operations[place].error));
}

//--- The reply to an operation that was asked for before. The first outcome stands.
bool Repeat(const int place, string &json)
{
   Operation operation = g_operations[place];
   if(operation.state == STATE_REFUSED)
      return(Fail(json, ErrorCode(operation.error), operation.error, "refused before"));
   if(operation.state == STATE_VOID)
      return(Fail(json, "void", operation.error, "it was given up before this request came"));
   if(operation.state != STATE_DONE)
      return(Fail(json, "doubt", operation.error, "begun before, and its outcome is not known"));
   json = OperationJson(operation, true);
   return(true);
}

//+------------------------------------------------------------------+
//| Checks that all operations share                                 |
//+------------------------------------------------------------------+
bool MayTrade(string &json)
{
   if(ReadOnly)
      return(Fail(json, "read_only", 0, "the input ReadOnly is on"));
   if(!g_journal_ok)
      return(Fail(json, "not_allowed", 0, "the journal file can't be written; see the Experts tab"));
   if(!IsConnected())
      return(Fail(json, "no_connection", 6, "the terminal has no connection to the broker"));
   if(!IsExpertEnabled() || !IsTradeAllowed())
   {
      if(IsTradeContextBusy())
         return(Fail(json, "retry", 146, "the trade context is busy"));
      return(Fail(json, "not_allowed", 4109, "automated trading is switched off"));
   }
   return(true);
}

bool ReadSlippage(const string text, int &slippage, string &json)
{
   long value = 0;
   if(!ReadInteger(text, 0, MOST_SLIPPAGE, value))
      return(Fail(json, "bad_request", 0, "slippage must be a whole number of points"));
   slippage = (int)value;
   return(true);
}

bool ReadPrice(const string text, const string name, const int digits, double &price, string &json)
{
   if(!ReadDecimal(text, MOST_PRICE, price))
      return(Fail(json, "bad_request", 0, name + " must be a price, or 0"));
   price = NormalizeDouble(price, digits);
   return(true);
}

bool ReadMoment(const string text, datetime &moment, string &json)
{
   long value = 0;
   if(!ReadInteger(text, 0, UINT_MAX, value))
      return(Fail(json, "bad_request", 0, "expiration must be a server time in seconds, or 0"));
   moment = (datetime)value;
   return(true);
}

//--- Select an order that is open or pending. False: "json" says why not.
bool SelectOpen(const string text, string &json)
{
   long number = 0;
   if(!ReadInteger(text, 1, INT_MAX, number))
      return(Fail(json, "bad_request", 0, "ticket must be a ticket's number"));
   if(!OrderSelect((int)number, SELECT_BY_TICKET) || OrderCloseTime() != 0)
      return(Fail(json, "not_found", 4108, "no open order has ticket " + text));
   return(true);
}

bool CheckLots(const double lots, const string symbol, string &json)
{
   double step = MarketInfo(symbol, MODE_LOTSTEP);
   if(lots < LOTS_EPSILON || step <= 0.0 || MathAbs(lots / step - MathRound(lots / step)) > 0.0001)
      return(Fail(json, "refused", 131, "lots must be in steps of " + DoubleToString(step, LOT_DIGITS)));
   return(true);
}

//+------------------------------------------------------------------+
//| Beginning and ending                                             |
//+------------------------------------------------------------------+
bool Begin(const string name, const string kind, const int target, const double lots, int &place, string &json)
{
   place = BeginOperation(name, kind, target, lots);
   if(place < 0)
      return(Fail(json, "not_allowed", 0, "the journal file can't be written; see the Experts tab"));
   g_doing = name;
   g_doing_ticket = target;
   return(true);
}

//--- What did not work: refused for certain, or in doubt.
bool EndBadly(const int place, const int error, string &json)
{
   g_doing = "";
   g_operations[place].error = error;
   NoteError(StringFormat("%s %s: error %d", g_operations[place].kind, g_operations[place].name, error));
   if(IsDoubtful(error))
      return(Fail(json, "doubt", error, "the broker did not say what became of it"));
   g_operations[place].state = STATE_REFUSED;
   EndOperation(place);
   return(Fail(json, ErrorCode(error), error, "the terminal or the broker refused"));
}

bool EndWell(const int place, const Ticket &ticket, const int rest, string &json)
{
   FillIn(place, ticket, rest);
   EndOperation(place);
   json = OperationJson(g_operations[place], false);
   return(true);
}

//--- What an operation changed is told at once, and as its doing.
void LookAfter(const int ticket)
{
   g_doing_ticket = ticket;
   Look();
   g_doing = "";
   g_doing_ticket = 0;
}

//+------------------------------------------------------------------+
//| order: op, symbol, type, lots, price, sl, tp, slippage, expiration|
//+------------------------------------------------------------------+
struct Wish
{
   string   symbol;
   int      type;
   double   lots;
   double   price;
   double   loss;
   double   gain;
   int      slippage;
   datetime expiration;
};

bool ReadWish(const Request &request, Wish &wish, string &json)
{
   wish.symbol = request.arguments[1];
   wish.type = TypeOf(request.arguments[2]);
   if(wish.type < 0)
      return(Fail(json, "bad_request", 0, "no order type " + request.arguments[2]));
   if(!SymbolSelect(wish.symbol, true))
      return(Fail(json, "not_found", 4106, "no symbol " + wish.symbol));
   int digits = DigitsOf(wish.symbol);
   if(!ReadDecimal(request.arguments[3], MOST_LOTS, wish.lots))
      return(Fail(json, "bad_request", 0, "lots must be a decimal"));
   if(!ReadPrice(request.arguments[4], "price", digits, wish.price, json)
      || !ReadPrice(request.arguments[5], "sl", digits, wish.loss, json)
      || !ReadPrice(request.arguments[6], "tp", digits, wish.gain, json)
      || !ReadSlippage(request.arguments[7], wish.slippage, json)
      || !ReadMoment(request.arguments[8], wish.expiration, json))
      return(false);
   if(IsPending(wish.type) && wish.price <= 0.0)
      return(Fail(json, "bad_request", 0, "a pending order needs a price"));
   if(wish.lots > MaximumLots + LOTS_EPSILON)
      return(Fail(json, "limit", 0, "more lots than the input MaximumLots allows"));
   return(CheckLots(wish.lots, wish.symbol, json));
}

//--- The current price in place of the one that was named, which is the worst that is taken.
bool PriceAtMarket(Wish &wish, string &json)
{
   MqlTick tick;
   RefreshRates();
   if(!SymbolInfoTick(wish.symbol, tick))
      return(Fail(json, "refused", 136, "there is no quote of " + wish.symbol));
   double price = (wish.type == OP_BUY) ? tick.ask : tick.bid;
   bool worse = (wish.type == OP_BUY) ? price > wish.price + PRICE_EPSILON : price < wish.price - PRICE_EPSILON;
   if(wish.price > 0.0 && worse)
      return(Fail(json, "refused", 135, "the price is worse than the one that was named"));
   wish.price = price;
   wish.expiration = 0;
   return(true);
}

bool SendWish(const Wish &wish, const string comment, int &ticket)
{
   ResetLastError();
   ticket = OrderSend(wish.symbol, wish.type, wish.lots, wish.price, wish.slippage, wish.loss,
                      wish.gain, comment, Magic, wish.expiration, clrNONE);
   return(ticket >= 0);
}

bool DoOrder(const Request &request, string &json)
{
   string name = request.arguments[0];
   Wish wish;
   if(!MayTrade(json) || !ReadWish(request, wish, json))
      return(false);
   if(OrdersTotal() >= MaximumOrders)
      return(Fail(json, "limit", 0, "more orders than the input MaximumOrders allows"));
   if(!IsPending(wish.type) && !PriceAtMarket(wish, json))
      return(false);
   int place = -1;
   if(!Begin(name, "order", 0, wish.lots, place, json))
      return(false);
   int number = -1;
   if(!SendWish(wish, name, number))
      return(EndBadly(place, GetLastError(), json));
   Ticket ticket;
   ClearTicket(ticket);
   ticket.number = number;
   ticket.lots = wish.lots;
   if(OrderSelect(number, SELECT_BY_TICKET))
      ReadSelected(ticket);
   bool done = EndWell(place, ticket, 0, json);
   LookAfter(number);
   return(done);
}

//+------------------------------------------------------------------+
//| modify: op, ticket, price, sl, tp, expiration                    |
//+------------------------------------------------------------------+
bool DoModify(const Request &request, string &json)
{
   if(!MayTrade(json) || !SelectOpen(request.arguments[1], json))
      return(false);
   int digits = DigitsOf(OrderSymbol());
   double price = 0.0;
   double loss = 0.0;
   double gain = 0.0;
   datetime expiration = 0;
   if(!ReadPrice(request.arguments[2], "price", digits, price, json)
      || !ReadPrice(request.arguments[3], "sl", digits, loss, json)
      || !ReadPrice(request.arguments[4], "tp", digits, gain, json)
      || !ReadMoment(request.arguments[5], expiration, json))
      return(false);
   int number = OrderTicket();
   if(!IsPending(OrderType()) || price <= 0.0)
      price = OrderOpenPrice();
   int place = -1;
   if(!Begin(request.arguments[0], "modify", number, 0.0, place, json))
      return(false);
   ResetLastError();
   bool modified = OrderModify(number, price, loss, gain, expiration, clrNONE);
   int error = GetLastError();
   // Error 1: it is as asked for already.
   if(!modified && error != 1)
      return(EndBadly(place, error, json));
   Ticket ticket;
   ClearTicket(ticket);
   ticket.number = number;
   if(OrderSelect(number, SELECT_BY_TICKET))
      ReadSelected(ticket);
   bool done = EndWell(place, ticket, 0, json);
   LookAfter(number);
   return(done);
}

//+------------------------------------------------------------------+
//| close: op, ticket, lots, slippage                                |
//+------------------------------------------------------------------+
bool DoClose(const Request &request, string &json)
{
   double lots = 0.0;
   int slippage = 0;
   if(!MayTrade(json) || !SelectOpen(request.arguments[1], json)
      || !ReadSlippage(request.arguments[3], slippage, json))
      return(false);
   if(!ReadDecimal(request.arguments[2], MOST_LOTS, lots))
      return(Fail(json, "bad_request", 0, "lots must be a decimal"));
   if(IsPending(OrderType()))
      return(Fail(json, "refused", 4108, "a pending order is deleted and not closed"));
   if(lots > OrderLots() + LOTS_EPSILON)
      return(Fail(json, "refused", 131, "the position has fewer lots"));
   int number = OrderTicket();
   bool whole = (MathAbs(lots - OrderLots()) < LOTS_EPSILON);
   if(!whole && !CheckLots(lots, OrderSymbol(), json))
      return(false);
   MqlTick tick;
   RefreshRates();
   if(!SymbolInfoTick(OrderSymbol(), tick))
      return(Fail(json, "refused", 136, "there is no quote of " + OrderSymbol()));
   double price = (OrderType() == OP_BUY) ? tick.bid : tick.ask;
   double all = OrderLots();
   int place = -1;
   if(!Begin(request.arguments[0], "close", number, whole ? all : lots, place, json))
      return(false);
   ResetLastError();
   if(!OrderClose(number, whole ? all : lots, price, slippage, clrNONE))
      return(EndBadly(place, GetLastError(), json));
   Ticket closed;
   ClearTicket(closed);
   int rest = 0;
   if(!ReadClosed(number, closed))
   {
      closed.number = number;
      closed.lots = lots;
   }
   else if(!whole && ReadOpen())
      rest = RestOf(closed);
   bool done = EndWell(place, closed, rest, json);
   LookAfter(number);
   return(done);
}

//+------------------------------------------------------------------+
//| delete: op, ticket                                               |
//+------------------------------------------------------------------+
bool DoDelete(const Request &request, string &json)
{
   if(!MayTrade(json) || !SelectOpen(request.arguments[1], json))
      return(false);
   if(!IsPending(OrderType()))
      return(Fail(json, "refused", 4108, "the order is filled"));
   Ticket ticket;
   ReadSelected(ticket);
   int place = -1;
   if(!Begin(request.arguments[0], "delete", ticket.number, 0.0, place, json))
      return(false);
   ResetLastError();
   if(!OrderDelete(ticket.number, clrNONE))
      return(EndBadly(place, GetLastError(), json));
   bool done = EndWell(place, ticket, 0, json);
   LookAfter(ticket.number);
   return(done);
}

//+------------------------------------------------------------------+
//| result: op                                                       |
//+------------------------------------------------------------------+
bool TellResult(const string name, string &json)
{
   int place = FindOperation(name);
   if(place < 0)
      return(Fail(json, "not_found", 0, "no operation " + name + " was seen here"));
   json = OperationJson(g_operations[place], true);
   return(true);
}

//+------------------------------------------------------------------+
//| void: op                                                         |
//+------------------------------------------------------------------+
//--- As "result"; and what was not done by now is not done later either, should its request be on
//--- its way still.
bool GiveUp(const string name, string &json)
{
   if(!IsOperationName(name))
      return(Fail(json, "bad_request", 0, OPERATION_NAMES));
   int place = FindOperation(name);
   if(place < 0 || MayTryAgain(place))
   {
      int error = place < 0 ? 0 : g_operations[place].error;
      place = BeginOperation(name, "void", 0, 0.0);
      if(place < 0)
         return(Fail(json, "not_allowed", 0, "the journal file can't be written; see the Experts tab"));
      g_operations[place].state = STATE_VOID;
      g_operations[place].error = error;
      EndOperation(place);
   }
   json = OperationJson(g_operations[place], true);
   return(true);
}
//+------------------------------------------------------------------+
