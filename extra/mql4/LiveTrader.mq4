//+------------------------------------------------------------------+
//| LiveTrader.mq4: market data and trading for livetrader.          |
//| Part of livetrader, GPL-3.0-or-later.                            |
//|                                                                  |
//| Speaks the protocol of PROTOCOL.md over ZeroMQ. Needs mql-zmq    |
//| (github.com/dingmaotu/mql-zmq) in MQL4/Include and its DLLs in   |
//| MQL4/Libraries, and "Allow DLL imports".                         |
//+------------------------------------------------------------------+
#property copyright "livetrader contributors, GPL-3.0-or-later"
#property version   "1.00"
#property strict

input string BindAddress     = "127.0.0.1";  // Address to listen on: 127.0.0.1 is this computer only
input int    RequestPort     = 28282;        // Port of requests
input int    PublicationPort = 28283;        // Port of publications
input string CurveSecretKey  = "";           // Secret key of this advisor (40 characters), needed beyond 127.0.0.1
input string ClientKeys      = "";           // Public keys that may connect, with commas between; none: all
input string Token           = "";           // What every request must carry
input int    Magic           = 77201;        // Magic number of our orders
input bool   ReadOnly        = false;        // Market data only, no orders
input double MaximumLots     = 1.0;          // Most lots of one order
input int    MaximumOrders   = 50;           // Most orders and positions in the account
input int    MaximumSymbols  = 100;          // Most symbols that are watched
input int    TimerMs         = 10;           // Milliseconds between two looks

#include "LiveTrader/Text.mqh"
#include "LiveTrader/Ticket.mqh"
#include "LiveTrader/Journal.mqh"
#include "LiveTrader/Wire.mqh"
#include "LiveTrader/Orders.mqh"
#include "LiveTrader/Trading.mqh"
#include "LiveTrader/Market.mqh"
#include "LiveTrader/Account.mqh"
#include "LiveTrader/Requests.mqh"

#define KEY_LENGTH   40
#define BIND_EVERY   500
#define STATUS_EVERY 1000

bool g_ready = false;            // the account is known, and its journal is open
uint g_bound_at = 0;
uint g_status_at = 0;

//+------------------------------------------------------------------+
//| Inputs                                                           |
//+------------------------------------------------------------------+
bool IsWrong(const string input_name, const string why)
{
   Alert("LiveTrader: ", input_name, ": ", why);
   return(true);
}

bool ReadClientKeys()
{
   ArrayResize(g_client_keys, 0);
   if(ClientKeys == "")
      return(true);
   string keys[];
   int count = StringSplit(ClientKeys, ',', keys);
   for(int i = 0; i < count; i++)
   {
      uchar key[];
      if(StringLen(keys[i]) != KEY_LENGTH || !Z85::decode(keys[i], key) || ArraySize(key) != KEY_BYTES)
         return(false);
      ArrayCopy(g_client_keys, key, i * KEY_BYTES, 0, KEY_BYTES);
   }
   return(true);
}

bool AreInputsWrong()
{
   bool loopback = (StringFind(BindAddress, "127.") == 0 || BindAddress == "localhost");
   if(CurveSecretKey != "" && StringLen(CurveSecretKey) != KEY_LENGTH)
      return(IsWrong("CurveSecretKey", "must have 40 characters; livetrader keys new makes one"));
   if(!loopback && CurveSecretKey == "")
      return(IsWrong("BindAddress", "beyond this computer CurveSecretKey must be set"));
   if(ClientKeys != "" && CurveSecretKey == "")
      return(IsWrong("ClientKeys", "needs CurveSecretKey"));
   if(!ReadClientKeys())
      return(IsWrong("ClientKeys", "must be public keys of 40 characters with commas between"));
   if(RequestPort < 1 || RequestPort > 65535 || PublicationPort < 1 || PublicationPort > 65535
      || RequestPort == PublicationPort)
      return(IsWrong("RequestPort, PublicationPort", "must be two ports from 1 to 65535"));
   if(MaximumLots <= 0.0 || MaximumOrders < 1 || MaximumSymbols < 1 || MaximumSymbols > 1000)
      return(IsWrong("MaximumLots, MaximumOrders, MaximumSymbols", "must be above 0 (symbols: to 1000)"));
   if(TimerMs < 1 || TimerMs > 1000)
      return(IsWrong("TimerMs", "must be from 1 to 1000"));
   return(false);
}

//+------------------------------------------------------------------+
//| The account's journal                                            |
//+------------------------------------------------------------------+
//--- The account is 0 until the terminal has logged in, and may change while we run.
void KeepAccount()
{
   int account = AccountNumber();
   if(g_ready && account == g_account)
      return;
   g_ready = false;
   if(account == 0 || !IsConnected())
      return;
   g_account = account;
   g_start = NewStart();
   ArrayResize(g_topic_names, 0);
   ArrayResize(g_topic_numbers, 0);
   ArrayResize(g_missing, 0);
   ArrayResize(g_missing_since, 0);
   g_history_total = -1;
   g_told_gone = 0;
   if(!OpenJournal(account, Magic))
      TakeAsKnown();
   g_ready = true;
   Look();
}

//+------------------------------------------------------------------+
//| What the user sees                                               |
//+------------------------------------------------------------------+
void ShowStatus()
{
   if(g_status_at != 0 && GetTickCount() - g_status_at < STATUS_EVERY)
      return;
   g_status_at = GetTickCount();
   string state = !g_requests_bound || !g_topics_bound ? "waiting for its ports"
                  : (!g_ready ? "waiting for the account" : "ready");
   if(g_ready && ReadOnly)
      state += ", market data only";
   if(g_ready && !g_journal_ok)
      state += ", NO ORDERS: its journal can't be written";
   Comment("LiveTrader ", ADVISOR_VERSION, " on ", g_requests_address, ": ", state,
           "\nclients: ", ClientCount(), "   symbols: ", ArraySize(g_watched),
           "   orders today: ", g_orders_today,
           "\nlast heartbeat: ", TimeToString(TimeLocal(), TIME_SECONDS),
           "\nlast error: ", g_last_error == "" ? "none" : g_last_error);
}

//+------------------------------------------------------------------+
//| Life                                                             |
//+------------------------------------------------------------------+
int OnInit()
{
   if(AreInputsWrong())
      return(INIT_PARAMETERS_INCORRECT);
   g_ready = false;
   g_start = NewStart();
   if(!OpenSockets(BindAddress, RequestPort, PublicationPort, CurveSecretKey))
   {
      Alert("LiveTrader: ZeroMQ refused the sockets; is CurveSecretKey a key, and are the DLLs in MQL4/Libraries?");
      return(INIT_FAILED);
   }
   if(!EventSetMillisecondTimer(TimerMs))
   {
      Alert("LiveTrader: the terminal gave no timer");
      return(INIT_FAILED);
   }
   KeepAccount();
   KeepBound();
   ShowStatus();
   return(INIT_SUCCEEDED);
}

void OnDeinit(const int reason)
{
   EventKillTimer();
   CloseSockets();
   CloseJournal();
   Comment("");
}

//--- All that there is to do, in small steps: nothing here waits.
void Work()
{
   if((!g_requests_bound || !g_topics_bound) && GetTickCount() - g_bound_at >= BIND_EVERY)
   {
      g_bound_at = GetTickCount();
      KeepBound();
   }
   if(g_zap != NULL)
      AnswerZap();
   KeepAccount();
   if(g_ready)
   {
      AnswerRequests();
      Look();
      GiveUpBegun();
      PublishMarket();
      Beat();
   }
   ShowStatus();
}

void OnTimer()
{
   Work();
}

void OnTick()
{
   Work();
}
//+------------------------------------------------------------------+
