//+------------------------------------------------------------------+
//| Orders.mqh: what happens to orders, found by looking.            |
//| Part of livetrader, GPL-3.0-or-later.                            |
//|                                                                  |
//| MetaTrader 4 tells a program of no trade. So all open tickets    |
//| are compared with what they were, as often as the timer comes.   |
//+------------------------------------------------------------------+
#property strict

#define LOTS_EPSILON   0.000001
#define PRICE_EPSILON  0.000000001
#define GONE_AFTER_MS  5000
#define LOST_AFTER_MS  30000
#define LONGEST_CHAIN  50

Ticket g_now[];
string g_doing = "";             // the operation that is under way, and its ticket
int    g_doing_ticket = 0;
int    g_history_total = -1;    // entries of the history that were looked at
int    g_told_gone = 0;         // and how many were told of as gone since then
int    g_gone[];                 // tickets that were told of as gone in this look
int    g_missing[];              // tickets that vanished and that the terminal can't tell of yet
uint   g_missing_since[];
uint   g_connected_since = 0;
bool   g_was_connected = false;
int    g_orders_today = 0;
int    g_today = 0;

//+------------------------------------------------------------------+
//| Events                                                           |
//+------------------------------------------------------------------+
string EventJson(const string kind, const string by, const string reason, const int rest,
                 const Ticket &ticket)
{
   string json = "{";
   AddInteger(json, "number", g_event + 1);
   AddText(json, "kind", kind);
   AddText(json, "by", by);
   AddText(json, "reason", reason);
   AddInteger(json, "rest", rest);
   AddRaw(json, "order", TicketJson(ticket));
   return(json + "}");
}

//--- Write an event down, remember the ticket as it is now, settle what waited for it, and publish.
void Tell(const string kind, const string reason, const int rest, const Ticket &ticket)
{
   bool gone = (kind == "closed" || kind == "parted" || kind == "deleted");
   string by = Settle(kind, rest, ticket);
   string json = EventJson(kind, by, reason == "" && by != "" ? "client" : reason, rest, ticket);
   int number = g_event + 1;
   // What is not on disk would have its number again after a restart: it is found, and told, then.
   if(!WriteEvent(number, gone, ticket, json))
      return;
   KeepEvent(number, json);
   SetKnown(ticket);
   if(gone)
   {
      DropKnown(ticket.number);
      g_told_gone++;
      int count = ArraySize(g_gone);
      ArrayResize(g_gone, count + 1, 50);
      g_gone[count] = ticket.number;
   }
   PublishNumbered("event|", (ulong)number, json);
}

//+------------------------------------------------------------------+
//| Operations that are settled by what is seen                      |
//+------------------------------------------------------------------+
void FillIn(const int place, const Ticket &ticket, const int rest)
{
   bool closes = (g_operations[place].kind == "close");
   g_operations[place].state = STATE_DONE;
   g_operations[place].error = 0;
   g_operations[place].ticket = ticket.number;
   g_operations[place].rest = rest;
   g_operations[place].lots = ticket.lots;
   g_operations[place].price = closes ? ticket.close_price : ticket.price;
   g_operations[place].moment = closes ? ticket.closed : ticket.opened;
   g_operations[place].profit = closes ? ticket.profit : 0.0;
   g_operations[place].commission = closes ? ticket.commission : 0.0;
   g_operations[place].swap = closes ? ticket.swap : 0.0;
}

bool Explains(const Operation &operation, const string kind, const Ticket &ticket)
{
   if(operation.kind == "order")
      return((kind == "opened" || kind == "placed") && ticket.operation == operation.name);
   if(operation.target != ticket.number)
      return(false);
   if(operation.kind == "close")
      return((kind == "closed" || kind == "parted") && ReasonOf(ticket.comment) == ""
             && MathAbs(operation.wanted - ticket.lots) < LOTS_EPSILON);
   if(operation.kind == "delete")
      return(kind == "deleted");
   return(operation.kind == "modify" && kind == "modified");
}

//--- One that was given up may have been done all the same; of a close that was done the history may
//--- tell the price later.
bool IsOpenEnded(const Operation &operation)
{
   if(operation.state == STATE_DONE)
      return(operation.kind == "close" && operation.price <= 0.0);
   return(operation.state == STATE_BEGUN || operation.state == STATE_LOST);
}

//--- The operation that an event comes from, if it is one of ours; what was begun and not answered
//--- is done then.
string Settle(const string kind, const int rest, const Ticket &ticket)
{
   if(g_doing != "" && ticket.number == g_doing_ticket)
      return(g_doing);
   int count = ArraySize(g_operations);
   for(int i = count - 1; i >= 0 && i > count - 200; i--)
   {
      if(!IsOpenEnded(g_operations[i]) || !Explains(g_operations[i], kind, ticket))
         continue;
      FillIn(i, ticket, rest);
      EndOperation(i);
      return(g_operations[i].name);
   }
   return("");
}

//--- What was begun, and is not found while the terminal has long been connected, was not done.
void GiveUpBegun()
{
   bool connected = IsConnected();
   if(connected && !g_was_connected)
      g_connected_since = GetTickCount();
   g_was_connected = connected;
   if(!IsSettledIn())
      return;
   int count = ArraySize(g_operations);
   for(int i = count - 1; i >= 0 && i > count - 200; i--)
   {
      if(g_operations[i].state != STATE_BEGUN || GetTickCount() - g_operations[i].began < LOST_AFTER_MS)
         continue;
      g_operations[i].state = STATE_LOST;
      EndOperation(i);
   }
}

//+------------------------------------------------------------------+
//| Looking                                                          |
//+------------------------------------------------------------------+
//--- All open and pending orders into g_now. False: the list changed meanwhile.
bool ReadOpen()
{
   int total = OrdersTotal();
   ArrayResize(g_now, total, 100);
   for(int i = 0; i < total; i++)
   {
      if(!OrderSelect(i, SELECT_BY_POS, MODE_TRADES))
         return(false);
      ReadSelected(g_now[i]);
   }
   return(OrdersTotal() == total);
}

int FindNow(const int number)
{
   int count = ArraySize(g_now);
   for(int i = 0; i < count; i++)
   {
      if(g_now[i].number == number)
         return(i);
   }
   return(-1);
}

bool Differs(const double one, const double other)
{
   return(MathAbs(one - other) > PRICE_EPSILON);
}

bool IsModified(const Ticket &before, const Ticket &now)
{
   return(Differs(before.price, now.price) || Differs(before.loss, now.loss)
          || Differs(before.gain, now.gain) || before.expiration != now.expiration);
}

//--- What is known of a ticket from before goes on.
void Inherit(Ticket &ticket, const Ticket &before)
{
   ticket.root = before.root;
   ticket.operation = before.operation;
}

//--- Who opened it, as far as its comment tells.
void Recognize(Ticket &ticket)
{
   int from = TicketBehind(ticket.comment, "from #");
   if(from > 0)
   {
      int parent = FindKnown(from);
      if(parent >= 0)
         Inherit(ticket, g_known[parent]);
      else
         ticket.root = from;
      return;
   }
   if(ticket.magic != Magic || !IsOperationName(ticket.comment))
      return;
   ticket.operation = ticket.comment;
   // Some brokers leave the comment on what a partial close leaves.
   int count = ArraySize(g_known);
   for(int i = 0; i < count; i++)
   {
      if(g_known[i].operation == ticket.operation && g_known[i].opened == ticket.opened
         && g_known[i].number < ticket.number && !Differs(g_known[i].price, ticket.price))
      {
         Inherit(ticket, g_known[i]);
         return;
      }
   }
}

void LookAtKnown(const int place_now, const int place_known)
{
   Ticket before = g_known[place_known];
   Ticket now = g_now[place_now];
   Inherit(now, before);
   if(IsPending(before.type) && !IsPending(now.type))
      Tell("filled", "", 0, now);
   else if(IsModified(before, now))
      Tell("modified", "", 0, now);
}

void LookAtNew(const int place_now)
{
   Ticket ticket = g_now[place_now];
   Recognize(ticket);
   CountOrder();
   Tell(IsPending(ticket.type) ? "placed" : "opened", "", 0, ticket);
}

void CountOrder()
{
   int today = (int)(TimeCurrent() / 86400);
   if(today != g_today)
      g_orders_today = 0;
   g_today = today;
   g_orders_today++;
}

//+------------------------------------------------------------------+
//| What is gone                                                     |
//+------------------------------------------------------------------+
string ReasonOf(const string comment)
{
   // An operation may be called "also:1".
   if(IsOperationName(comment))
      return("");
   if(StringFind(comment, "[sl]") >= 0)
      return("sl");
   if(StringFind(comment, "[tp]") >= 0)
      return("tp");
   if(StringFind(comment, "so:") >= 0)
      return("so");
   if(StringFind(comment, "[expiration]") >= 0 || StringFind(comment, "expired") >= 0)
      return("expiration");
   return("");
}

//--- The ticket that has the rest of a partly closed one; 0 if none is found.
int RestOf(const Ticket &closed)
{
   int named = TicketBehind(closed.comment, "to #");
   if(named > 0)
      return(named);
   int count = ArraySize(g_now);
   for(int i = 0; i < count; i++)
   {
      if(TicketBehind(g_now[i].comment, "from #") == closed.number)
         return(g_now[i].number);
   }
   for(int i = 0; i < count; i++)
   {
      if(g_now[i].opened == closed.opened && g_now[i].number > closed.number
         && g_now[i].type == closed.type && g_now[i].symbol == closed.symbol
         && g_now[i].magic == closed.magic && !Differs(g_now[i].price, closed.price)
         && FindKnown(g_now[i].number) < 0)
         return(g_now[i].number);
   }
   return(0);
}

//--- Select it wherever it is. False: the terminal does not know it, or it is still open.
bool ReadClosed(const int number, Ticket &ticket)
{
   if(!OrderSelect(number, SELECT_BY_TICKET) || OrderCloseTime() == 0)
      return(false);
   ReadSelected(ticket);
   return(true);
}

//--- The rest becomes known before the part is told of: after a crash in between, it is found again.
void KeepRest(const int rest, const Ticket &before, const double lots)
{
   Ticket ticket;
   int place = FindNow(rest);
   if(place >= 0)
      ticket = g_now[place];
   else if(!ReadClosed(rest, ticket))
      return;
   Inherit(ticket, before);
   ticket.lots = lots;
   WriteLine("T\t" + TicketLine(ticket));
   SetKnown(ticket);
}

//--- A known ticket that is not open any more. Returns the ticket of its rest if that is gone too.
int LookAtGone(const Ticket &before)
{
   Ticket closed;
   if(!ReadClosed(before.number, closed))
   {
      LookAtMissing(before);
      return(0);
   }
   Inherit(closed, before);
   string reason = ReasonOf(closed.comment);
   if(IsPending(closed.type))
   {
      Tell("deleted", reason != "" ? reason : ReasonOfOthers(before.number), 0, closed);
      return(0);
   }
   if(IsPending(before.type))
      TellFilledBefore(before, closed);
   double left = before.lots - closed.lots;
   int rest = left > LOTS_EPSILON ? RestOf(closed) : 0;
   if(rest == 0)
   {
      Tell("closed", reason != "" ? reason : ReasonOfOthers(before.number), 0, closed);
      return(0);
   }
   KeepRest(rest, before, left);
   Tell("parted", ReasonOfOthers(before.number), rest, closed);
   return(FindNow(rest) < 0 ? rest : 0);
}

string ReasonOfOthers(const int number)
{
   if(g_doing != "" && g_doing_ticket == number)
      return("client");
   int count = ArraySize(g_operations);
   for(int i = count - 1; i >= 0 && i > count - 200; i--)
   {
      if(g_operations[i].state == STATE_BEGUN && g_operations[i].target == number)
         return("client");
   }
   return("terminal");
}

//--- It was filled and closed between two looks: both are told.
void TellFilledBefore(const Ticket &before, const Ticket &closed)
{
   Ticket filled = closed;
   filled.lots = before.lots;
   filled.comment = before.comment;
   filled.profit = 0.0;
   filled.close_price = 0.0;
   filled.closed = 0;
   Tell("filled", "", 0, filled);
}

//--- Whether the terminal has long been connected: lists that load late are there then.
bool IsSettledIn()
{
   return(g_was_connected && GetTickCount() - g_connected_since >= LOST_AFTER_MS);
}

//--- The history may come a moment after the order is gone; one that never comes is told all the
//--- same, without a price.
void LookAtMissing(const Ticket &before)
{
   int count = ArraySize(g_missing);
   for(int i = 0; i < count; i++)
   {
      if(g_missing[i] != before.number)
         continue;
      if(GetTickCount() - g_missing_since[i] < GONE_AFTER_MS || !IsSettledIn())
         return;
      DropMissing(i);
      Ticket lost = before;
      NoteError(StringFormat("ticket %d is gone and not in the history; show all of it there", lost.number));
      Tell(IsPending(lost.type) ? "deleted" : "closed", "unknown", 0, lost);
      return;
   }
   ArrayResize(g_missing, count + 1);
   ArrayResize(g_missing_since, count + 1);
   g_missing[count] = before.number;
   g_missing_since[count] = GetTickCount();
}

void DropMissing(const int place)
{
   int last = ArraySize(g_missing) - 1;
   g_missing[place] = g_missing[last];
   g_missing_since[place] = g_missing_since[last];
   ArrayResize(g_missing, last);
   ArrayResize(g_missing_since, last);
}

//--- What was missing and is there again has its time anew when it goes for good.
void ForgetFound()
{
   for(int i = ArraySize(g_missing) - 1; i >= 0; i--)
   {
      if(FindNow(g_missing[i]) >= 0)
         DropMissing(i);
   }
}

void LookAtAllGone()
{
   for(int i = ArraySize(g_known) - 1; i >= 0; i--)
   {
      if(i >= ArraySize(g_known) || FindNow(g_known[i].number) >= 0)
         continue;
      Ticket before = g_known[i];
      for(int step = 0; step < LONGEST_CHAIN; step++)
      {
         int rest = LookAtGone(before);
         int place = rest > 0 ? FindKnown(rest) : -1;
         if(place < 0)
            break;
         before = g_known[place];
      }
   }
}

bool IsGone(const int number)
{
   int count = ArraySize(g_gone);
   for(int i = 0; i < count; i++)
   {
      if(g_gone[i] == number)
         return(true);
   }
   return(false);
}

//--- Orders that came and went between two looks are in the history only. It is gone through when
//--- it has grown by more than what was told of.
void LookAtHistory(const int highest)
{
   int total = OrdersHistoryTotal();
   bool explained = (total == g_history_total + g_told_gone);
   for(int i = 0; i < total && !explained; i++)
   {
      if(!OrderSelect(i, SELECT_BY_POS, MODE_HISTORY))
         return;
      if(OrderTicket() <= highest || !IsOrder(OrderType()) || FindKnown(OrderTicket()) >= 0
         || IsGone(OrderTicket()))
         continue;
      Ticket closed;
      ReadSelected(closed);
      TellBriefLife(closed);
   }
   g_history_total = total;
   g_told_gone = 0;
}

void TellBriefLife(const Ticket &closed)
{
   // The rest of a part is told of when the part is.
   if(TicketBehind(closed.comment, "from #") > 0)
      return;
   Ticket opened = closed;
   Recognize(opened);
   opened.closed = 0;
   opened.close_price = 0.0;
   opened.profit = 0.0;
   CountOrder();
   Tell(IsPending(opened.type) ? "placed" : "opened", "", 0, opened);
   LookAtGone(opened);
}

//--- Compare all there is with what was there before, and tell the differences.
void Look()
{
   if(!ReadOpen())
      return;
   ArrayResize(g_gone, 0);
   int highest = g_highest;     // before this look: a newer ticket may have been seen first
   ForgetFound();
   LookAtAllGone();
   int count = ArraySize(g_now);
   for(int i = 0; i < count; i++)
   {
      int place = FindKnown(g_now[i].number);
      if(place >= 0)
         LookAtKnown(i, place);
      else
         LookAtNew(i);
   }
   LookAtHistory(highest);
}

//--- At the first start of all there is nothing to compare with: what is there is taken as known.
void TakeAsKnown()
{
   ReadOpen();
   int count = ArraySize(g_now);
   for(int i = 0; i < count; i++)
   {
      Recognize(g_now[i]);
      SetKnown(g_now[i]);
      WriteLine("T\t" + TicketLine(g_now[i]));
   }
   g_history_total = OrdersHistoryTotal();
   for(int i = 0; i < g_history_total; i++)
   {
      if(OrderSelect(i, SELECT_BY_POS, MODE_HISTORY) && OrderTicket() > g_highest)
         g_highest = OrderTicket();
   }
   WriteLine("G\t" + IntegerToString(g_highest));
}
//+------------------------------------------------------------------+
