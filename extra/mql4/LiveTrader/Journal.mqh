//+------------------------------------------------------------------+
//| Journal.mqh: what outlives the expert advisor, in one file.      |
//| Part of livetrader, GPL-3.0-or-later.                            |
//|                                                                  |
//| Lines of fields between tabs; the last field of each is a point, |
//| so that a line that was cut short is known, and left out.        |
//|   H version account magic mark     the head                      |
//|   N number                         of the last event so far      |
//|   G number                         the highest ticket seen       |
//|   T ticket...                      a ticket as it was last seen  |
//|   E number gone ticket... json     an event; gone: no longer open|
//|   B op kind target lots            an operation is about to begin|
//|   D op state error ticket rest lots price time profit commission |
//|     swap                           what became of it             |
//+------------------------------------------------------------------+
#property strict

#define JOURNAL_VERSION "1"
#define EVENTS_KEPT     1000
#define OPERATIONS_KEPT 20000

#define STATE_BEGUN   0
#define STATE_DONE    1
#define STATE_REFUSED 2
#define STATE_LOST    3
#define STATE_VOID    4

struct Operation
{
   string   name;
   string   kind;
   int      target;
   double   wanted;       // lots that were asked for
   int      state;
   int      error;
   int      ticket;
   int      rest;
   double   lots;
   double   price;
   datetime moment;
   double   profit;
   double   commission;
   double   swap;
   uint     began;        // GetTickCount when it was begun, or read
};

Ticket    g_known[];            // open and pending orders as they were last seen
Operation g_operations[];
int       g_slots[];            // places of operations by the hash of their names, plus one
string    g_events[];           // JSON of the events that are kept, a ring
int       g_event = 0;          // number of the last event
int       g_first_event = 1;    // number of the oldest one that is kept
int       g_highest = 0;        // the highest ticket number that was seen
int       g_account = 0;        // whose journal it is
int       g_journal = INVALID_HANDLE;
bool      g_journal_ok = false;
string    g_journal_mark = "";  // tells this journal from another one of the same account
string    g_journal_name = "";

//+------------------------------------------------------------------+
//| Operations by name                                               |
//+------------------------------------------------------------------+
int SlotOf(const string name)
{
   uint hash = 2166136261;
   int length = StringLen(name);
   for(int i = 0; i < length; i++)
      hash = (hash ^ (uint)StringGetCharacter(name, i)) * 16777619;
   return((int)(hash % (uint)ArraySize(g_slots)));
}

//--- The place of an operation, -1 if it is not known.
int FindOperation(const string name)
{
   int size = ArraySize(g_slots);
   if(size == 0)
      return(-1);
   int slot = SlotOf(name);
   while(g_slots[slot] > 0)
   {
      if(g_operations[g_slots[slot] - 1].name == name)
         return(g_slots[slot] - 1);
      slot = (slot + 1) % size;
   }
   return(-1);
}

void PlaceOperation(const int place)
{
   int size = ArraySize(g_slots);
   int slot = SlotOf(g_operations[place].name);
   while(g_slots[slot] > 0)
      slot = (slot + 1) % size;
   g_slots[slot] = place + 1;
}

void SizeSlots(const int size)
{
   ArrayResize(g_slots, size);
   ArrayInitialize(g_slots, 0);
   int count = ArraySize(g_operations);
   for(int i = 0; i < count; i++)
      PlaceOperation(i);
}

int AddOperation(const string name, const string kind, const int target, const double lots)
{
   int count = ArraySize(g_operations);
   ArrayResize(g_operations, count + 1, 1000);
   g_operations[count].name = name;
   g_operations[count].kind = kind;
   g_operations[count].target = target;
   g_operations[count].wanted = lots;
   g_operations[count].state = STATE_BEGUN;
   g_operations[count].error = 0;
   g_operations[count].ticket = 0;
   g_operations[count].rest = 0;
   g_operations[count].lots = 0.0;
   g_operations[count].price = 0.0;
   g_operations[count].moment = 0;
   g_operations[count].profit = 0.0;
   g_operations[count].commission = 0.0;
   g_operations[count].swap = 0.0;
   g_operations[count].began = GetTickCount();
   if(ArraySize(g_slots) < 2 * (count + 1))
      SizeSlots(MathMax(1024, 4 * (count + 1)));
   else
      PlaceOperation(count);
   return(count);
}

//--- What became of it is not known any more.
void BeginAgain(const int place, const string kind, const int target, const double lots)
{
   g_operations[place].kind = kind;
   g_operations[place].target = target;
   g_operations[place].wanted = lots;
   g_operations[place].state = STATE_BEGUN;
   g_operations[place].error = 0;
   g_operations[place].began = GetTickCount();
}

//+------------------------------------------------------------------+
//| Known tickets                                                    |
//+------------------------------------------------------------------+
int FindKnown(const int number)
{
   int count = ArraySize(g_known);
   for(int i = 0; i < count; i++)
   {
      if(g_known[i].number == number)
         return(i);
   }
   return(-1);
}

void SetKnown(const Ticket &ticket)
{
   int place = FindKnown(ticket.number);
   if(place < 0)
   {
      place = ArraySize(g_known);
      ArrayResize(g_known, place + 1, 100);
   }
   g_known[place] = ticket;
   if(ticket.number > g_highest)
      g_highest = ticket.number;
}

void DropKnown(const int number)
{
   int place = FindKnown(number);
   if(place < 0)
      return;
   int last = ArraySize(g_known) - 1;
   if(place < last)
      g_known[place] = g_known[last];
   ArrayResize(g_known, last, 100);
}

void KeepEvent(const int number, const string json)
{
   if(ArraySize(g_events) < EVENTS_KEPT)
      ArrayResize(g_events, EVENTS_KEPT);
   g_events[number % EVENTS_KEPT] = json;
   g_event = number;
   if(number - g_first_event >= EVENTS_KEPT)
      g_first_event = number - EVENTS_KEPT + 1;
}

//+------------------------------------------------------------------+
//| Writing                                                          |
//+------------------------------------------------------------------+
string OperationLine(const Operation &operation)
{
   return("D\t" + operation.name + "\t"
          + StringFormat("%d\t%d\t%d\t%d\t", operation.state, operation.error,
                         operation.ticket, operation.rest)
          + DoubleToString(operation.lots, 8) + "\t" + DoubleToString(operation.price, 8) + "\t"
          + IntegerToString((long)operation.moment) + "\t" + DoubleToString(operation.profit, 8) + "\t"
          + DoubleToString(operation.commission, 8) + "\t" + DoubleToString(operation.swap, 8));
}

//--- Append one line and have it on disk. False: the journal can't be relied on from now on.
bool WriteLine(const string line)
{
   if(!g_journal_ok)
      return(false);
   string text = line + "\t.\r\n";
   if(FileWriteString(g_journal, text) < (uint)StringLen(text))
   {
      g_journal_ok = false;
      Print("LiveTrader: ", g_journal_name, " can't be written, error ", GetLastError(),
            "; no operation is done until the advisor is started anew");
      return(false);
   }
   FileFlush(g_journal);
   return(true);
}

//--- Write down that an operation begins; its place, or -1 if that failed and it must not begin.
int BeginOperation(const string name, const string kind, const int target, const double lots)
{
   if(!WriteLine("B\t" + name + "\t" + kind + "\t" + IntegerToString(target) + "\t"
                 + DoubleToString(lots, 8)))
      return(-1);
   int place = FindOperation(name);
   if(place < 0)
      return(AddOperation(name, kind, target, lots));
   // It was refused for a passing reason, and is tried again.
   BeginAgain(place, kind, target, lots);
   return(place);
}

//--- Write down what became of it. The terminal has done it already: it counts even if this fails.
void EndOperation(const int place)
{
   WriteLine(OperationLine(g_operations[place]));
}

//--- Write down an event and the ticket behind it in one line: both or none.
bool WriteEvent(const int number, const bool gone, const Ticket &ticket, const string json)
{
   return(WriteLine("E\t" + IntegerToString(number) + "\t" + (gone ? "1" : "0") + "\t"
             + TicketLine(ticket) + "\t" + json));
}

//+------------------------------------------------------------------+
//| Reading                                                          |
//+------------------------------------------------------------------+
void ReadOperationFields(const string &fields[])
{
   int place = FindOperation(fields[1]);
   if(place < 0)
      place = AddOperation(fields[1], "", 0, 0.0);
   g_operations[place].state = (int)StringToInteger(fields[2]);
   g_operations[place].error = (int)StringToInteger(fields[3]);
   g_operations[place].ticket = (int)StringToInteger(fields[4]);
   g_operations[place].rest = (int)StringToInteger(fields[5]);
   g_operations[place].lots = StringToDouble(fields[6]);
   g_operations[place].price = StringToDouble(fields[7]);
   g_operations[place].moment = (datetime)StringToInteger(fields[8]);
   g_operations[place].profit = StringToDouble(fields[9]);
   g_operations[place].commission = StringToDouble(fields[10]);
   g_operations[place].swap = StringToDouble(fields[11]);
}

void ReadEventFields(const string &fields[])
{
   Ticket ticket;
   ReadTicketFields(fields, 3, ticket);
   int number = (int)StringToInteger(fields[1]);
   if(g_event == 0)
      g_first_event = number;
   KeepEvent(number, fields[3 + TICKET_FIELDS]);
   SetKnown(ticket);
   if(fields[2] == "1")
      DropKnown(ticket.number);
}

void ReadLine(const string &fields[], const int count)
{
   string kind = fields[0];
   if(kind == "N" && count == 3)
   {
      g_event = (int)StringToInteger(fields[1]);
      g_first_event = g_event + 1;
   }
   else if(kind == "G" && count == 3)
      g_highest = MathMax(g_highest, (int)StringToInteger(fields[1]));
   else if(kind == "T" && count == TICKET_FIELDS + 2)
   {
      Ticket ticket;
      ReadTicketFields(fields, 1, ticket);
      SetKnown(ticket);
   }
   else if(kind == "E" && count == TICKET_FIELDS + 5)
      ReadEventFields(fields);
   else if(kind == "B" && count == 6)
   {
      int place = FindOperation(fields[1]);
      int target = (int)StringToInteger(fields[3]);
      double lots = StringToDouble(fields[4]);
      if(place < 0)
         AddOperation(fields[1], fields[2], target, lots);
      else
         BeginAgain(place, fields[2], target, lots);
   }
   else if(kind == "D" && count == 13)
      ReadOperationFields(fields);
}

//--- Read what an earlier run left. False: it is there and can't be read.
bool ReadJournal()
{
   int file = FileOpen(g_journal_name, FILE_READ | FILE_TXT | FILE_ANSI);
   if(file == INVALID_HANDLE)
      return(false);
   bool ours = false;
   while(!FileIsEnding(file))
   {
      string line = FileReadString(file);
      string fields[];
      int count = StringSplit(line, '\t', fields);
      if(count < 2 || fields[count - 1] != ".")
         continue;
      if(fields[0] == "H")
      {
         ours = (count == 6 && fields[1] == JOURNAL_VERSION);
         if(ours)
            g_journal_mark = fields[4];
      }
      else if(ours)
         ReadLine(fields, count);
   }
   FileClose(file);
   return(ours);
}

//--- The events that are kept begin with a number that the ones before them had.
void WriteKeptEvents()
{
   WriteLine("N\t" + IntegerToString(g_first_event - 1));
   Ticket none;
   ClearTicket(none);
   for(int number = g_first_event; number <= g_event; number++)
      WriteEvent(number, true, none, g_events[number % EVENTS_KEPT]);
}

void WriteAll()
{
   WriteKeptEvents();
   WriteLine("G\t" + IntegerToString(g_highest));
   int count = ArraySize(g_known);
   for(int i = 0; i < count; i++)
      WriteLine("T\t" + TicketLine(g_known[i]));
   count = ArraySize(g_operations);
   for(int i = MathMax(0, count - OPERATIONS_KEPT); i < count; i++)
   {
      WriteLine("B\t" + g_operations[i].name + "\t" + g_operations[i].kind + "\t"
                + IntegerToString(g_operations[i].target) + "\t"
                + DoubleToString(g_operations[i].wanted, 8));
      if(g_operations[i].state != STATE_BEGUN)
         WriteLine(OperationLine(g_operations[i]));
   }
}

//+------------------------------------------------------------------+
//| Life                                                             |
//+------------------------------------------------------------------+
void ForgetAll()
{
   ArrayResize(g_known, 0);
   ArrayResize(g_operations, 0);
   ArrayResize(g_slots, 0);
   ArrayResize(g_events, 0);
   g_event = 0;
   g_first_event = 1;
   g_highest = 0;
}

void CloseJournal()
{
   if(g_journal != INVALID_HANDLE)
      FileClose(g_journal);
   g_journal = INVALID_HANDLE;
   g_journal_ok = false;
}

//--- Read the journal of this account, write it anew without what is no longer needed, and leave it
//--- open. True: there was one.
bool OpenJournal(const int account, const int magic)
{
   CloseJournal();
   ForgetAll();
   g_journal_name = StringFormat("livetrader-%d-%d.journal", account, magic);
   g_journal_mark = "";
   bool found = FileIsExist(g_journal_name);
   if(found && !ReadJournal())
   {
      NoteError(g_journal_name + " can't be read: move it out of MQL4/Files, then attach the advisor again");
      return(true);
   }
   if(!found)
      g_journal_mark = NewStart();
   string fresh = g_journal_name + ".new";
   g_journal = FileOpen(fresh, FILE_WRITE | FILE_TXT | FILE_ANSI);
   g_journal_ok = (g_journal != INVALID_HANDLE);
   WriteLine(StringFormat("H\t%s\t%d\t%d\t%s", JOURNAL_VERSION, account, magic, g_journal_mark));
   WriteAll();
   if(!g_journal_ok)
      return(found);
   FileClose(g_journal);
   g_journal_ok = FileMove(fresh, 0, g_journal_name, FILE_REWRITE);
   g_journal = FileOpen(g_journal_name, FILE_READ | FILE_WRITE | FILE_TXT | FILE_ANSI);
   g_journal_ok = g_journal_ok && g_journal != INVALID_HANDLE && FileSeek(g_journal, 0, SEEK_END);
   return(found);
}
//+------------------------------------------------------------------+
