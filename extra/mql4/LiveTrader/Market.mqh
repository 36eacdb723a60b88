//+------------------------------------------------------------------+
//| Market.mqh: quotes, closed bars, history, contracts.             |
//| Part of livetrader, GPL-3.0-or-later.                            |
//+------------------------------------------------------------------+
#property strict

#define WATCH_MS       120000
#define MARKET_TIME_MS 5           // in one call of the timer
#define LATE_TICKS    2            // seconds in which quotes of a bar that is over may still come
#define MOST_BARS     500
#define MOST_WINDOWS  4            // stretches of history that one request looks through
#define MOST_NAMES    100
#define NO_HISTORY    4073
#define HISTORY_LOADS 4066

struct Watched
{
   string   symbol;
   uint     named;          // when it was named last
   datetime tick_time;
   double   bid;
   double   ask;
   datetime last_bar;       // open of the last bar that was published; -1: not known yet
   datetime looked;         // TimeCurrent at the last look for bars
};

Watched g_watched[];
int     g_next_watched = 0;

int FindWatched(const string symbol)
{
   int count = ArraySize(g_watched);
   for(int i = 0; i < count; i++)
   {
      if(g_watched[i].symbol == symbol)
         return(i);
   }
   return(-1);
}

void DropWatched(const int place)
{
   int last = ArraySize(g_watched) - 1;
   if(place < last)
      g_watched[place] = g_watched[last];
   ArrayResize(g_watched, last, 64);
}

//--- False: the terminal has no such symbol. The caller has seen to it that there is room.
bool Watch(const string symbol)
{
   int place = FindWatched(symbol);
   if(place < 0)
   {
      if(!SymbolSelect(symbol, true))
         return(false);
      place = ArraySize(g_watched);
      ArrayResize(g_watched, place + 1, 64);
      g_watched[place].symbol = symbol;
      g_watched[place].tick_time = 0;
      g_watched[place].bid = 0.0;
      g_watched[place].ask = 0.0;
      g_watched[place].last_bar = -1;
      g_watched[place].looked = 0;
   }
   g_watched[place].named = GetTickCount();
   return(true);
}

//+------------------------------------------------------------------+
//| Bars                                                             |
//+------------------------------------------------------------------+
//--- "later": whether a later bar of the symbol has begun.
bool IsClosed(const datetime opened, const int minutes, const bool later)
{
   return(later || TimeCurrent() >= opened + minutes * 60 + LATE_TICKS);
}

string BarJson(const MqlRates &rate, const int digits, const bool closed)
{
   return("[" + IntegerToString((long)rate.time) + "," + DoubleToString(rate.open, digits) + ","
          + DoubleToString(rate.high, digits) + "," + DoubleToString(rate.low, digits) + ","
          + DoubleToString(rate.close, digits) + "," + IntegerToString((long)rate.tick_volume) + ","
          + IntegerToString((long)rate.spread) + (closed ? ",1]" : ",0]"));
}

//--- From which on bars are published: after those that are closed now. False: history still loads.
bool FindLastBar(const int place)
{
   MqlRates rates[];
   ArrayResize(rates, 0);
   int count = CopyRates(g_watched[place].symbol, PERIOD_M1, 0, 2, rates);
   if(count <= 0)
      return(false);
   g_watched[place].last_bar = 0;
   for(int i = 0; i < count; i++)
   {
      if(IsClosed(rates[i].time, 1, i < count - 1))
         g_watched[place].last_bar = rates[i].time;
   }
   return(true);
}

void PublishBars(const int place)
{
   datetime now = TimeCurrent();
   if(g_watched[place].looked == now)
      return;
   if(g_watched[place].last_bar < 0)
   {
      if(FindLastBar(place))
         g_watched[place].looked = now;
      return;
   }
   MqlRates rates[];
   ArrayResize(rates, 0);
   datetime from = g_watched[place].last_bar + 60;
   if(now - from > MOST_BARS * 60)
      from = now - MOST_BARS * 60;
   string symbol = g_watched[place].symbol;
   ResetLastError();
   int count = now < from ? 0 : CopyRates(symbol, PERIOD_M1, from, now, rates);
   if(count < 0 && GetLastError() != NO_HISTORY)
      return;
   int digits = DigitsOf(symbol);
   for(int i = 0; i < count; i++)
   {
      if(rates[i].time <= g_watched[place].last_bar || !IsClosed(rates[i].time, 1, i < count - 1))
         continue;
      g_watched[place].last_bar = rates[i].time;
      string json = "{";
      AddText(json, "symbol", symbol);
      AddRaw(json, "bar", BarJson(rates[i], digits, true));
      Publish("bar|" + symbol + "|", json + "}");
   }
   g_watched[place].looked = now;
}

//+------------------------------------------------------------------+
//| Ticks                                                            |
//+------------------------------------------------------------------+
string TickJson(const string symbol, const MqlTick &tick)
{
   int digits = DigitsOf(symbol);
   string json = "{";
   AddText(json, "symbol", symbol);
   AddInteger(json, "time", (long)tick.time);
   AddNumber(json, "bid", tick.bid, digits);
   AddNumber(json, "ask", tick.ask, digits);
   return(json + "}");
}

void PublishTick(const int place)
{
   MqlTick tick;
   string symbol = g_watched[place].symbol;
   if(!SymbolInfoTick(symbol, tick))
      return;
   if(tick.time == g_watched[place].tick_time && tick.bid == g_watched[place].bid
      && tick.ask == g_watched[place].ask)
      return;
   g_watched[place].tick_time = tick.time;
   g_watched[place].bid = tick.bid;
   g_watched[place].ask = tick.ask;
   Publish("tick|" + symbol + "|", TickJson(symbol, tick));
}

//--- Publish what is new of the watched symbols, one after the other; those that nobody names any
//--- more are left. What there is no time for now is next when the timer comes again.
void PublishMarket()
{
   uint begun = GetTickCount();
   int count = ArraySize(g_watched);
   for(int i = 0; i < count && GetTickCount() - begun < MARKET_TIME_MS; i++)
   {
      if(ArraySize(g_watched) == 0)
         return;
      g_next_watched = (g_next_watched + 1) % ArraySize(g_watched);
      if(GetTickCount() - g_watched[g_next_watched].named > WATCH_MS)
      {
         DropWatched(g_next_watched);
         continue;
      }
      PublishTick(g_next_watched);
      PublishBars(g_next_watched);
   }
}

//+------------------------------------------------------------------+
//| Requests                                                         |
//+------------------------------------------------------------------+
bool TellWatched(const Request &request, const bool add, string &json)
{
   string unknown = "";
   for(int i = 0; i < request.count; i++)
   {
      string symbol = request.arguments[i];
      int place = FindWatched(symbol);
      if(!add && place >= 0)
         DropWatched(place);
      if(!add)
         continue;
      if(place < 0 && ArraySize(g_watched) >= MaximumSymbols)
         return(Fail(json, "limit", 0, "more symbols than the input MaximumSymbols allows"));
      if(!Watch(symbol))
         unknown += (unknown == "" ? "" : ",") + JsonText(symbol);
   }
   json = "{";
   AddInteger(json, "watched", ArraySize(g_watched));
   if(add)
      AddRaw(json, "unknown", "[" + unknown + "]");
   json += "}";
   return(true);
}

bool TellTick(const string symbol, string &json)
{
   MqlTick tick;
   if(!SymbolSelect(symbol, true))
      return(Fail(json, "not_found", 4106, "no symbol " + symbol));
   if(!SymbolInfoTick(symbol, tick))
      return(Fail(json, "retry", 4066, "there is no quote of " + symbol + " yet"));
   json = TickJson(symbol, tick);
   return(true);
}

bool TellSymbols(const string text, string &json)
{
   long from = 0;
   if(!ReadInteger(text, 0, 1000000, from))
      return(Fail(json, "bad_request", 0, "from must be an index"));
   int total = SymbolsTotal(false);
   int last = MathMin(total, (int)from + MOST_NAMES);
   string names = "";
   for(int i = (int)from; i < last; i++)
      names += (names == "" ? "" : ",") + JsonText(SymbolName(i, false));
   json = "{";
   AddRaw(json, "symbols", "[" + names + "]");
   AddInteger(json, "next", last < total ? last : 0);
   AddInteger(json, "total", total);
   json += "}";
   return(true);
}

bool TellContract(const string symbol, string &json)
{
   if(!SymbolSelect(symbol, true))
      return(Fail(json, "not_found", 4106, "no symbol " + symbol));
   int digits = DigitsOf(symbol);
   json = "{";
   AddText(json, "symbol", symbol);
   AddInteger(json, "digits", digits);
   AddNumber(json, "point", MarketInfo(symbol, MODE_POINT), 8);
   AddNumber(json, "lot_size", MarketInfo(symbol, MODE_LOTSIZE), 2);
   AddNumber(json, "min_lot", MarketInfo(symbol, MODE_MINLOT), LOT_DIGITS);
   AddNumber(json, "lot_step", MarketInfo(symbol, MODE_LOTSTEP), LOT_DIGITS);
   AddNumber(json, "max_lot", MarketInfo(symbol, MODE_MAXLOT), LOT_DIGITS);
   AddInteger(json, "stop_level", (int)MarketInfo(symbol, MODE_STOPLEVEL));
   AddInteger(json, "freeze_level", (int)MarketInfo(symbol, MODE_FREEZELEVEL));
   AddNumber(json, "tick_value", MarketInfo(symbol, MODE_TICKVALUE), 8);
   AddNumber(json, "tick_size", MarketInfo(symbol, MODE_TICKSIZE), 8);
   AddNumber(json, "margin_required", MarketInfo(symbol, MODE_MARGINREQUIRED), MONEY_DIGITS);
   AddNumber(json, "swap_long", MarketInfo(symbol, MODE_SWAPLONG), LOT_DIGITS);
   AddNumber(json, "swap_short", MarketInfo(symbol, MODE_SWAPSHORT), LOT_DIGITS);
   AddInteger(json, "swap_type", (int)MarketInfo(symbol, MODE_SWAPTYPE));
   AddInteger(json, "profit_mode", (int)MarketInfo(symbol, MODE_PROFITCALCMODE));
   AddInteger(json, "margin_mode", (int)MarketInfo(symbol, MODE_MARGINCALCMODE));
   AddBool(json, "trade_allowed", MarketInfo(symbol, MODE_TRADEALLOWED) > 0.5);
   json += "}";
   return(true);
}

bool IsPeriod(const long minutes)
{
   return(minutes == 1 || minutes == 5 || minutes == 15 || minutes == 30 || minutes == 60
          || minutes == 240 || minutes == 1440);
}

struct BarsWanted
{
   string   symbol;
   int      minutes;
   datetime from;
   datetime to;
   int      most;
};

bool ReadBarsWanted(const Request &request, BarsWanted &wanted, string &json)
{
   long minutes = 0;
   long from = 0;
   long to = 0;
   long most = 0;
   wanted.symbol = request.arguments[0];
   if(!ReadInteger(request.arguments[1], 1, 1440, minutes) || !IsPeriod(minutes))
      return(Fail(json, "bad_request", 0, "minutes must be 1, 5, 15, 30, 60, 240 or 1440"));
   if(!ReadInteger(request.arguments[2], 0, UINT_MAX, from)
      || !ReadInteger(request.arguments[3], 0, UINT_MAX, to))
      return(Fail(json, "bad_request", 0, "from and to must be server times in seconds"));
   if(!ReadInteger(request.arguments[4], 1, MOST_BARS, most))
      return(Fail(json, "bad_request", 0, "most must be a number from 1 to 500"));
   if(!SymbolSelect(wanted.symbol, true))
      return(Fail(json, "not_found", 4106, "no symbol " + wanted.symbol));
   wanted.minutes = (int)minutes;
   wanted.from = (datetime)from;
   wanted.to = (datetime)to;
   wanted.most = (int)most;
   return(true);
}

//--- The bars of one stretch that holds no more than "most". -1: they can't be read, "error" says why.
int CopyStretch(const BarsWanted &wanted, const datetime from, const datetime to, MqlRates &rates[], int &error)
{
   ArrayResize(rates, 0);
   ResetLastError();
   int count = CopyRates(wanted.symbol, (ENUM_TIMEFRAMES)wanted.minutes, from, to - 1, rates);
   error = GetLastError();      // reading it clears it
   if(count < 0 && (error == NO_HISTORY || error == 0))
      return(0);
   return(count);
}

bool TellBars(const Request &request, string &json)
{
   BarsWanted wanted;
   if(!ReadBarsWanted(request, wanted, json))
      return(false);
   int digits = DigitsOf(wanted.symbol);
   long length = (long)wanted.most * wanted.minutes * 60;
   datetime from = wanted.from;
   // Beyond now there is nothing, and nothing is promised.
   datetime end = MathMin(wanted.to, TimeCurrent() + 1);
   string bars = "";
   for(int window = 0; window < MOST_WINDOWS && from < end && bars == ""; window++)
   {
      datetime to = (datetime)MathMin((long)end, (long)from + length);
      MqlRates rates[];
      int error = 0;
      int count = CopyStretch(wanted, from, to, rates, error);
      if(count < 0)
         return(Fail(json, error == HISTORY_LOADS ? "retry" : "refused", error, "the history can't be read now"));
      bars = JoinBars(wanted, rates, count, from, to, digits);
      from = to;
   }
   json = "{";
   AddText(json, "symbol", wanted.symbol);
   AddInteger(json, "minutes", wanted.minutes);
   AddRaw(json, "bars", "[" + bars + "]");
   AddInteger(json, "next", from < end ? (long)from : 0);
   json += "}";
   return(true);
}

//--- A later bar than the last one may have begun outside the stretch; only a bar whose time may not
//--- be over is worth the question.
bool HasLater(const BarsWanted &wanted, const datetime opened)
{
   if(TimeCurrent() >= opened + wanted.minutes * 60 + LATE_TICKS)
      return(true);
   MqlRates rates[];
   ArrayResize(rates, 0);
   int count = CopyRates(wanted.symbol, (ENUM_TIMEFRAMES)wanted.minutes, 0, 1, rates);
   return(count > 0 && rates[0].time > opened);
}

string JoinBars(const BarsWanted &wanted, const MqlRates &rates[], const int count,
                const datetime from, const datetime to, const int digits)
{
   string bars = "";
   for(int i = 0; i < count; i++)
   {
      if(rates[i].time < from || rates[i].time >= to)
         continue;
      bool later = (i < count - 1) || HasLater(wanted, rates[i].time);
      bars += (bars == "" ? "" : ",") + BarJson(rates[i], digits, IsClosed(rates[i].time, wanted.minutes, later));
   }
   return(bars);
}
//+------------------------------------------------------------------+
