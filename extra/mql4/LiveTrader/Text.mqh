//+------------------------------------------------------------------+
//| Text.mqh: reading arguments, and writing JSON.                   |
//| Part of livetrader, GPL-3.0-or-later.                            |
//+------------------------------------------------------------------+
#property strict

//--- Money has two decimals at every broker, lots at most two; more does no harm.
#define MONEY_DIGITS 2
#define LOT_DIGITS   4

//+------------------------------------------------------------------+
//| Reading. Each returns false for what is not exactly such a value.|
//+------------------------------------------------------------------+
bool ReadInteger(const string text, const long least, const long most, long &value)
{
   int length = StringLen(text);
   int first = 0;
   if(length > 0 && StringGetCharacter(text, 0) == '-')
      first = 1;
   if(length == first || length - first > 15)
      return(false);
   for(int i = first; i < length; i++)
   {
      ushort letter = StringGetCharacter(text, i);
      if(letter < '0' || letter > '9')
         return(false);
   }
   value = StringToInteger(text);
   return(value >= least && value <= most);
}

//--- A plain decimal: digits with at most one point between them; no sign, no exponent.
bool ReadDecimal(const string text, const double most, double &value)
{
   int length = StringLen(text);
   if(length == 0 || length > 20)
      return(false);
   int points = 0;
   for(int i = 0; i < length; i++)
   {
      ushort letter = StringGetCharacter(text, i);
      if(letter == '.' && i > 0 && i < length - 1)
         points++;
      else if(letter < '0' || letter > '9')
         return(false);
   }
   if(points > 1)
      return(false);
   value = StringToDouble(text);
   return(value <= most);
}

bool IsNameLetter(const ushort letter)
{
   if(letter >= 'a' && letter <= 'z')
      return(true);
   if(letter >= 'A' && letter <= 'Z')
      return(true);
   return(letter >= '0' && letter <= '9');
}

//--- The name of an operation: 1 to 31 characters, for it is an order's comment.
bool IsOperationName(const string text)
{
   int length = StringLen(text);
   if(length < 1 || length > 31)
      return(false);
   for(int i = 0; i < length; i++)
   {
      ushort letter = StringGetCharacter(text, i);
      if(!IsNameLetter(letter) && StringFind("._-/:", ShortToString(letter)) < 0)
         return(false);
   }
   return(true);
}

//--- What stands behind the last '#' of a comment such as "to #123"; 0 if that is no ticket.
int TicketBehind(const string comment, const string word)
{
   int place = StringFind(comment, word);
   if(place < 0)
      return(0);
   long ticket = 0;
   if(!ReadInteger(StringSubstr(comment, place + StringLen(word)), 1, INT_MAX, ticket))
      return(0);
   return((int)ticket);
}

//+------------------------------------------------------------------+
//| JSON. Members are appended to an object that begins with "{".    |
//+------------------------------------------------------------------+
string JsonText(const string text)
{
   string json = "\"";
   int length = StringLen(text);
   for(int i = 0; i < length; i++)
   {
      ushort letter = StringGetCharacter(text, i);
      if(letter == '"' || letter == '\\')
         json += "\\" + ShortToString(letter);
      else if(letter < 32 || letter > 126)
         json += StringFormat("\\u%04x", (int)letter);
      else
         json += ShortToString(letter);
   }
   return(json + "\"");
}

void AddRaw(string &json, const string name, const string value)
{
   if(StringLen(json) > 1)
      json += ",";
   json += "\"" + name + "\":" + value;
}

void AddText(string &json, const string name, const string value)
{
   AddRaw(json, name, JsonText(value));
}

void AddInteger(string &json, const string name, const long value)
{
   AddRaw(json, name, IntegerToString(value));
}

//--- JSON has no infinity; what a terminal can't tell is null.
string JsonNumber(const double value, const int digits)
{
   if(!MathIsValidNumber(value))
      return("null");
   return(DoubleToString(value, digits));
}

void AddNumber(string &json, const string name, const double value, const int digits)
{
   AddRaw(json, name, JsonNumber(value, digits));
}

void AddBool(string &json, const string name, const bool value)
{
   AddRaw(json, name, value ? "true" : "false");
}
//+------------------------------------------------------------------+
