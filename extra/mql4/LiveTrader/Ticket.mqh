//+------------------------------------------------------------------+
//| Ticket.mqh: an order or a position, and how it is written.       |
//| Part of livetrader, GPL-3.0-or-later.                            |
//+------------------------------------------------------------------+
#property strict

#define TICKET_FIELDS 18

//--- Times are server time; close_time is 0 while it is open or pending.
struct Ticket
{
   int      number;
   int      root;
   string   symbol;
   int      type;
   double   lots;
   double   price;
   datetime opened;
   double   loss;
   double   gain;
   datetime expiration;
   int      magic;
   string   comment;
   string   operation;
   double   profit;
   double   commission;
   double   swap;
   double   close_price;
   datetime closed;
};

string TypeName(const int type)
{
   switch(type)
   {
      case OP_BUY:       return("buy");
      case OP_SELL:      return("sell");
      case OP_BUYLIMIT:  return("buy_limit");
      case OP_SELLLIMIT: return("sell_limit");
      case OP_BUYSTOP:   return("buy_stop");
      case OP_SELLSTOP:  return("sell_stop");
   }
   return("other");
}

//--- -1 if there is no such type.
int TypeOf(const string name)
{
   for(int type = OP_BUY; type <= OP_SELLSTOP; type++)
   {
      if(TypeName(type) == name)
         return(type);
   }
   return(-1);
}

bool IsPending(const int type)
{
   return(type >= OP_BUYLIMIT && type <= OP_SELLSTOP);
}

//--- Balance and credit entries of the history are no orders.
bool IsOrder(const int type)
{
   return(type >= OP_BUY && type <= OP_SELLSTOP);
}

int DigitsOf(const string symbol)
{
   int digits = (int)MarketInfo(symbol, MODE_DIGITS);
   return(digits < 0 || digits > 8 ? 8 : digits);
}

void ClearTicket(Ticket &ticket)
{
   ticket.number = 0;
   ticket.root = 0;
   ticket.symbol = "";
   ticket.type = -1;
   ticket.lots = 0.0;
   ticket.price = 0.0;
   ticket.opened = 0;
   ticket.loss = 0.0;
   ticket.gain = 0.0;
   ticket.expiration = 0;
   ticket.magic = 0;
   ticket.comment = "";
   ticket.operation = "";
   ticket.profit = 0.0;
   ticket.commission = 0.0;
   ticket.swap = 0.0;
   ticket.close_price = 0.0;
   ticket.closed = 0;
}

//--- The order that OrderSelect has selected; who opened it is for others to know.
void ReadSelected(Ticket &ticket)
{
   ticket.number = OrderTicket();
   ticket.root = ticket.number;
   ticket.symbol = OrderSymbol();
   ticket.type = OrderType();
   ticket.lots = OrderLots();
   ticket.price = OrderOpenPrice();
   ticket.opened = OrderOpenTime();
   ticket.loss = OrderStopLoss();
   ticket.gain = OrderTakeProfit();
   ticket.expiration = OrderExpiration();
   ticket.magic = OrderMagicNumber();
   ticket.comment = OrderComment();
   ticket.operation = "";
   ticket.profit = OrderProfit();
   ticket.commission = OrderCommission();
   ticket.swap = OrderSwap();
   ticket.closed = OrderCloseTime();
   ticket.close_price = ticket.closed > 0 ? OrderClosePrice() : 0.0;
}

string TicketJson(const Ticket &ticket)
{
   int digits = DigitsOf(ticket.symbol);
   string json = "{";
   AddInteger(json, "ticket", ticket.number);
   AddInteger(json, "root", ticket.root);
   AddText(json, "symbol", ticket.symbol);
   AddText(json, "type", TypeName(ticket.type));
   AddNumber(json, "lots", ticket.lots, LOT_DIGITS);
   AddNumber(json, "price", ticket.price, digits);
   AddInteger(json, "time", (long)ticket.opened);
   AddNumber(json, "sl", ticket.loss, digits);
   AddNumber(json, "tp", ticket.gain, digits);
   AddInteger(json, "expiration", (long)ticket.expiration);
   AddInteger(json, "magic", ticket.magic);
   AddText(json, "comment", ticket.comment);
   AddText(json, "op", ticket.operation);
   AddNumber(json, "profit", ticket.profit, MONEY_DIGITS);
   AddNumber(json, "commission", ticket.commission, MONEY_DIGITS);
   AddNumber(json, "swap", ticket.swap, MONEY_DIGITS);
   AddNumber(json, "close_price", ticket.close_price, digits);
   AddInteger(json, "close_time", (long)ticket.closed);
   return(json + "}");
}

//--- For the journal: no field may hold a tab or end a line.
string Plain(const string text)
{
   string plain = text;
   int length = StringLen(plain);
   for(int i = 0; i < length; i++)
   {
      ushort letter = StringGetCharacter(plain, i);
      if(letter < 32 || letter > 126)
         StringSetCharacter(plain, i, '?');
   }
   return(plain);
}

string TicketLine(const Ticket &ticket)
{
   return(StringFormat("%d\t%d\t%s\t%d\t", ticket.number, ticket.root, ticket.symbol, ticket.type)
          + DoubleToString(ticket.lots, 8) + "\t" + DoubleToString(ticket.price, 8) + "\t"
          + IntegerToString((long)ticket.opened) + "\t" + DoubleToString(ticket.loss, 8) + "\t"
          + DoubleToString(ticket.gain, 8) + "\t" + IntegerToString((long)ticket.expiration) + "\t"
          + IntegerToString(ticket.magic) + "\t" + Plain(ticket.comment) + "\t"
          + ticket.operation + "\t" + DoubleToString(ticket.profit, 8) + "\t"
          + DoubleToString(ticket.commission, 8) + "\t" + DoubleToString(ticket.swap, 8) + "\t"
          + DoubleToString(ticket.close_price, 8) + "\t" + IntegerToString((long)ticket.closed));
}

//--- The ticket whose fields begin at "first".
void ReadTicketFields(const string &fields[], const int first, Ticket &ticket)
{
   ticket.number = (int)StringToInteger(fields[first]);
   ticket.root = (int)StringToInteger(fields[first + 1]);
   ticket.symbol = fields[first + 2];
   ticket.type = (int)StringToInteger(fields[first + 3]);
   ticket.lots = StringToDouble(fields[first + 4]);
   ticket.price = StringToDouble(fields[first + 5]);
   ticket.opened = (datetime)StringToInteger(fields[first + 6]);
   ticket.loss = StringToDouble(fields[first + 7]);
   ticket.gain = StringToDouble(fields[first + 8]);
   ticket.expiration = (datetime)StringToInteger(fields[first + 9]);
   ticket.magic = (int)StringToInteger(fields[first + 10]);
   ticket.comment = fields[first + 11];
   ticket.operation = fields[first + 12];
   ticket.profit = StringToDouble(fields[first + 13]);
   ticket.commission = StringToDouble(fields[first + 14]);
   ticket.swap = StringToDouble(fields[first + 15]);
   ticket.close_price = StringToDouble(fields[first + 16]);
   ticket.closed = (datetime)StringToInteger(fields[first + 17]);
}
//+------------------------------------------------------------------+
