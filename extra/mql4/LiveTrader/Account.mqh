//+------------------------------------------------------------------+
//| Account.mqh: the account, the heartbeat, the greeting.           |
//| Part of livetrader, GPL-3.0-or-later.                            |
//+------------------------------------------------------------------+
#property strict

#define ADVISOR_VERSION  "1.0"
#define PROTOCOL_VERSION 1
#define QUARTER_SECONDS  900
#define FRESH_SECONDS    60
#define SECOND_MS        1000

datetime g_newest = 0;           // TimeCurrent when it last moved
uint     g_newest_at = 0;
uint     g_beat_at = 0;
string   g_account_told = "";

//--- How far the server's clock is ahead of UTC; false while no quote is fresh.
bool ReadOffset(int &offset)
{
   datetime now = TimeCurrent();
   if(now != g_newest)
   {
      // The first look says nothing: the quote may be from before the weekend.
      g_newest_at = g_newest == 0 ? 0 : GetTickCount();
      g_newest = now;
   }
   if(g_newest_at == 0 || GetTickCount() - g_newest_at > FRESH_SECONDS * SECOND_MS)
      return(false);
   double ahead = (double)((long)now - (long)TimeGMT());
   offset = (int)MathRound(ahead / QUARTER_SECONDS) * QUARTER_SECONDS;
   return(true);
}

void AddBeat(string &json)
{
   int offset = 0;
   AddInteger(json, "time", (long)TimeCurrent());
   if(ReadOffset(offset))
      AddInteger(json, "offset", offset);
   else
      AddRaw(json, "offset", "null");
   AddBool(json, "connected", IsConnected());
   AddBool(json, "trade_allowed", IsConnected() && IsExpertEnabled() && IsTradeAllowed() && g_journal_ok);
   AddInteger(json, "event", g_event);
   AddInteger(json, "clients", ClientCount());
   AddInteger(json, "watched", ArraySize(g_watched));
}

string BeatJson()
{
   string json = "{";
   AddBeat(json);
   return(json + "}");
}

string HelloJson()
{
   string json = "{";
   AddInteger(json, "protocol", PROTOCOL_VERSION);
   AddText(json, "version", ADVISOR_VERSION);
   AddText(json, "start", g_start);
   AddText(json, "server", AccountServer());
   AddText(json, "company", AccountCompany());
   AddInteger(json, "account", AccountNumber());
   AddText(json, "name", AccountName());
   AddText(json, "currency", AccountCurrency());
   AddInteger(json, "leverage", AccountLeverage());
   AddBool(json, "demo", IsDemo());
   AddInteger(json, "magic", Magic);
   AddBool(json, "read_only", ReadOnly);
   AddNumber(json, "max_lots", MaximumLots, LOT_DIGITS);
   AddInteger(json, "max_orders", MaximumOrders);
   AddInteger(json, "max_symbols", MaximumSymbols);
   AddInteger(json, "publications", PublicationPort);
   AddBeat(json);
   return(json + "}");
}

//--- Without the time, which changes always, and the profit, which changes with every quote.
string AccountState()
{
   string json = "";
   AddNumber(json, "balance", AccountBalance(), MONEY_DIGITS);
   AddNumber(json, "credit", AccountCredit(), MONEY_DIGITS);
   AddNumber(json, "margin", AccountMargin(), MONEY_DIGITS);
   AddText(json, "currency", AccountCurrency());
   AddInteger(json, "leverage", AccountLeverage());
   return(json);
}

string AccountJson()
{
   string json = "{" + AccountState();
   AddNumber(json, "equity", AccountEquity(), MONEY_DIGITS);
   AddNumber(json, "free_margin", AccountFreeMargin(), MONEY_DIGITS);
   AddNumber(json, "profit", AccountProfit(), MONEY_DIGITS);
   AddInteger(json, "time", (long)TimeCurrent());
   return(json + "}");
}

void Beat()
{
   if(g_beat_at != 0 && GetTickCount() - g_beat_at < SECOND_MS)
      return;
   g_beat_at = GetTickCount();
   Publish("beat|", BeatJson());
   string state = AccountState();
   if(state == g_account_told)
      return;
   g_account_told = state;
   Publish("account|", AccountJson());
}
//+------------------------------------------------------------------+
