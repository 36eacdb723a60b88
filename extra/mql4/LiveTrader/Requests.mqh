//+------------------------------------------------------------------+
//| Requests.mqh: which function answers what.                       |
//| Part of livetrader, GPL-3.0-or-later.                            |
//+------------------------------------------------------------------+
#property strict

#define MOST_TICKETS    50
#define MOST_EVENTS     50
#define MOST_LOOKED_AT  500
#define REQUESTS_AT_ONCE 16
#define TIME_AT_ONCE_MS 8

//+------------------------------------------------------------------+
//| Orders, history and events                                       |
//+------------------------------------------------------------------+
string KnownJson(Ticket &ticket)
{
   int place = FindKnown(ticket.number);
   if(place >= 0)
      Inherit(ticket, g_known[place]);
   else
      Recognize(ticket);
   return(TicketJson(ticket));
}

//--- The place of the lowest ticket above "after" in g_now; -1 if there is none.
int NextTicket(const int after)
{
   int found = -1;
   int count = ArraySize(g_now);
   for(int i = 0; i < count; i++)
   {
      if(g_now[i].number > after && (found < 0 || g_now[i].number < g_now[found].number))
         found = i;
   }
   return(found);
}

bool TellOrders(const string text, string &json)
{
   long from = 0;
   if(!ReadInteger(text, 0, INT_MAX, from))
      return(Fail(json, "bad_request", 0, "from must be a ticket's number, or 0"));
   Look();
   if(!ReadOpen())
      return(Fail(json, "retry", 0, "the orders change just now"));
   string orders = "";
   int last = (int)from - 1;
   int place = NextTicket(last);
   for(int i = 0; i < MOST_TICKETS && place >= 0; i++)
   {
      last = g_now[place].number;
      orders += (orders == "" ? "" : ",") + KnownJson(g_now[place]);
      place = NextTicket(last);
   }
   json = "{";
   AddRaw(json, "orders", "[" + orders + "]");
   AddInteger(json, "next", place >= 0 ? g_now[place].number : 0);
   AddInteger(json, "total", ArraySize(g_now));
   AddInteger(json, "event", g_event);
   json += "}";
   return(true);
}

bool TellTicket(const string text, string &json)
{
   long number = 0;
   if(!ReadInteger(text, 1, INT_MAX, number))
      return(Fail(json, "bad_request", 0, "ticket must be a ticket's number"));
   if(!OrderSelect((int)number, SELECT_BY_TICKET))
      return(Fail(json, "not_found", 4108, "no order has ticket " + text));
   Ticket ticket;
   ReadSelected(ticket);
   json = "{";
   AddRaw(json, "order", KnownJson(ticket));
   AddText(json, "reason", ReasonOf(ticket.comment));
   json += "}";
   return(true);
}

bool TellHistory(const Request &request, string &json)
{
   long from = 0;
   long to = 0;
   long position = 0;
   if(!ReadInteger(request.arguments[0], 0, UINT_MAX, from)
      || !ReadInteger(request.arguments[1], 0, UINT_MAX, to)
      || !ReadInteger(request.arguments[2], 0, INT_MAX, position))
      return(Fail(json, "bad_request", 0, "from, to and position must be whole numbers"));
   int total = OrdersHistoryTotal();
   int last = MathMin(total, (int)position + MOST_LOOKED_AT);
   string orders = "";
   int found = 0;
   int i = (int)position;
   for(; i < last && found < MOST_TICKETS; i++)
   {
      if(!OrderSelect(i, SELECT_BY_POS, MODE_HISTORY) || !IsOrder(OrderType())
         || OrderCloseTime() < (datetime)from || OrderCloseTime() >= (datetime)to)
         continue;
      Ticket ticket;
      ReadSelected(ticket);
      orders += (orders == "" ? "" : ",") + KnownJson(ticket);
      found++;
   }
   json = "{";
   AddRaw(json, "orders", "[" + orders + "]");
   AddInteger(json, "next", i < total ? i : 0);
   AddInteger(json, "total", total);
   json += "}";
   return(true);
}

bool TellEvents(const string text, string &json)
{
   long after = 0;
   if(!ReadInteger(text, 0, INT_MAX, after))
      return(Fail(json, "bad_request", 0, "after must be an event's number, or 0"));
   int first = MathMax((int)after + 1, g_first_event);
   string events = "";
   for(int number = first; number <= g_event && number < first + MOST_EVENTS; number++)
      events += (events == "" ? "" : ",") + g_events[number % EVENTS_KEPT];
   json = "{";
   AddRaw(json, "events", "[" + events + "]");
   AddInteger(json, "oldest", g_first_event);
   AddInteger(json, "last", g_event);
   AddText(json, "journal", g_journal_mark);
   AddInteger(json, "account", g_account);
   json += "}";
   return(true);
}

//+------------------------------------------------------------------+
//| What there is to ask                                             |
//+------------------------------------------------------------------+
//--- How many arguments a method has; -1: one or more, -2: there is no such method.
int ArgumentsOf(const string method)
{
   if(method == "hello" || method == "ping" || method == "account")
      return(0);
   if(method == "symbols" || method == "contract" || method == "tick" || method == "orders"
      || method == "ticket" || method == "events")
      return(1);
   if(method == "watch" || method == "unwatch")
      return(-1);
   if(method == "result" || method == "void")
      return(2);
   if(method == "history" || method == "delete")
      return(3);
   if(method == "close" || method == "bars")
      return(5);
   if(method == "modify")
      return(7);
   return(method == "order" ? 10 : -2);
}

//--- A request that was on its way when the user logged in to another account is not for that one.
bool NamesAccount(const string method)
{
   return(IsOperation(method) || method == "result" || method == "void");
}

bool IsOperation(const string method)
{
   return(method == "order" || method == "modify" || method == "close" || method == "delete");
}

//--- False: "json" says what is wrong with it.
bool IsSound(const Request &request, string &json)
{
   if(!request.plain)
      return(Fail(json, "bad_request", 0, "frames must be at most 64 arguments of printable ASCII, 128 bytes each"));
   if(request.version != PROTOCOL_NAME)
      return(Fail(json, "bad_request", 0, "this advisor speaks " + PROTOCOL_NAME));
   if(Token != "" && request.token != Token)
      return(Fail(json, "denied", 0, "the token is not this advisor's"));
   int wanted = ArgumentsOf(request.method);
   if(wanted == -2)
      return(Fail(json, "unknown_method", 0, "no method " + request.method));
   if(wanted == -1 ? request.count == 0 : request.count != wanted)
      return(Fail(json, "bad_request", 0, request.method + " takes another number of arguments"));
   if(NamesAccount(request.method) && request.arguments[request.count - 1] != IntegerToString(g_account))
      return(Fail(json, "wrong_account", 0, "the terminal is logged in to another account"));
   return(true);
}

bool Operate(const Request &request, string &json)
{
   string name = request.arguments[0];
   if(!IsOperationName(name))
      return(Fail(json, "bad_request", 0, OPERATION_NAMES));
   int place = FindOperation(name);
   if(place >= 0 && !MayTryAgain(place))
      return(Repeat(place, json));
   if(request.method == "order")
      return(DoOrder(request, json));
   if(request.method == "modify")
      return(DoModify(request, json));
   if(request.method == "close")
      return(DoClose(request, json));
   return(DoDelete(request, json));
}

bool Answer(const Request &request, string &json)
{
   string method = request.method;
   if(IsOperation(method))
      return(Operate(request, json));
   if(method == "watch" || method == "unwatch")
      return(TellWatched(request, method == "watch", json));
   if(method == "bars")
      return(TellBars(request, json));
   if(method == "history")
      return(TellHistory(request, json));
   if(method == "symbols")
      return(TellSymbols(request.arguments[0], json));
   if(method == "contract")
      return(TellContract(request.arguments[0], json));
   if(method == "tick")
      return(TellTick(request.arguments[0], json));
   if(method == "orders")
      return(TellOrders(request.arguments[0], json));
   if(method == "ticket")
      return(TellTicket(request.arguments[0], json));
   if(method == "events")
      return(TellEvents(request.arguments[0], json));
   if(method == "result")
      return(TellResult(request.arguments[0], json));
   if(method == "void")
      return(GiveUp(request.arguments[0], json));
   json = method == "hello" ? HelloJson() : (method == "account" ? AccountJson() : BeatJson());
   return(true);
}

//--- Take what has come, but leave the terminal its time.
void AnswerRequests()
{
   uint begun = GetTickCount();
   Request request;
   for(int i = 0; i < REQUESTS_AT_ONCE; i++)
   {
      if(!NextRequest(request))
         return;
      if(!CanBeAnswered(request))
      {
         g_dropped++;
         continue;
      }
      string json = "";
      bool done = IsSound(request, json);
      if(done)
      {
         NoteClient(request.client);
         done = Answer(request, json);
      }
      Reply(request, done, json);
      if(GetTickCount() - begun >= TIME_AT_ONCE_MS)
         return;
   }
}
//+------------------------------------------------------------------+
