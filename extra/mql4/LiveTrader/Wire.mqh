//+------------------------------------------------------------------+
//| Wire.mqh: the sockets: requests and replies, publications, keys. |
//| Part of livetrader, GPL-3.0-or-later.                            |
//+------------------------------------------------------------------+
#property strict

#include <Zmq/Zmq.mqh>

#define PROTOCOL_NAME    "LT1"
#define MOST_ARGUMENTS   64
#define MOST_FRAMES      100     // more of one message are left out, some at a time
#define LONGEST_ARGUMENT 128
#define LONGEST_FRAME    4096
#define LONGEST_ID       64
#define HIGH_WATER       10000
#define ZAP_ADDRESS      "inproc://zeromq.zap.01"
#define KEY_BYTES        32
#define CLIENT_GONE_MS   10000

struct Request
{
   uchar  client[];
   uchar  id[];
   int    frames;
   bool   plain;          // all text frames are printable ASCII of a fair length
   string version;
   string token;
   string method;
   string arguments[];
   int    count;
};

Context g_context;
Socket *g_requests = NULL;
Socket *g_topics = NULL;
Socket *g_zap = NULL;
string  g_requests_address = "";
string  g_topics_address = "";
bool    g_requests_bound = false;
bool    g_topics_bound = false;
uchar   g_client_keys[];       // 32 bytes each
string  g_start = "";
string  g_last_error = "";
bool    g_leaving_out = false;  // the rest of a message that is too long
ulong   g_dropped = 0;         // messages that no reply could be made to
ulong   g_unsent = 0;          // replies and publications that nobody took
string  g_topic_names[];
ulong   g_topic_numbers[];
string  g_client_names[];      // who asked lately, and when
uint    g_client_seen[];

void NoteError(const string text)
{
   g_last_error = TimeToString(TimeLocal(), TIME_MINUTES | TIME_SECONDS) + " " + text;
   Print("LiveTrader: ", text);
}

//+------------------------------------------------------------------+
//| Life                                                             |
//+------------------------------------------------------------------+
void CloseSockets()
{
   if(CheckPointer(g_requests) == POINTER_DYNAMIC)
      delete g_requests;
   if(CheckPointer(g_topics) == POINTER_DYNAMIC)
      delete g_topics;
   if(CheckPointer(g_zap) == POINTER_DYNAMIC)
      delete g_zap;
   g_requests = NULL;
   g_topics = NULL;
   g_zap = NULL;
   g_requests_bound = false;
   g_topics_bound = false;
   g_leaving_out = false;
}

//--- High-water marks before the bind: libzmq 4.2.1 takes no notice of later ones.
bool SetUp(Socket *socket, const string secret)
{
   bool done = socket.setLinger(0) && socket.setSendHighWaterMark(HIGH_WATER)
               && socket.setReceiveHighWaterMark(HIGH_WATER)
               && socket.setMaxMessageSize(LONGEST_FRAME);
   if(!done || secret == "")
      return(done);
   return(socket.setCurveServer(true) && socket.setCurveSecretKey(secret));
}

bool OpenZap()
{
   g_zap = new Socket(g_context, ZMQ_REP);
   return(g_zap.setLinger(0) && g_zap.bind(ZAP_ADDRESS));
}

//--- Make the sockets; they are bound by KeepBound. False: the DLL refused, or a key is no key.
bool OpenSockets(const string address, const int port, const int topics_port, const string secret)
{
   CloseSockets();
   if(ArraySize(g_client_keys) > 0 && !OpenZap())
      return(false);
   g_requests_address = StringFormat("tcp://%s:%d", address, port);
   g_topics_address = StringFormat("tcp://%s:%d", address, topics_port);
   g_requests = new Socket(g_context, ZMQ_ROUTER);
   g_topics = new Socket(g_context, ZMQ_PUB);
   return(SetUp(g_requests, secret) && SetUp(g_topics, secret)
          && g_requests.setRouterMandatory(true));
}

//--- A port may still be taken for a moment after a restart, or by another terminal.
void KeepBound()
{
   if(!g_requests_bound)
   {
      g_requests_bound = g_requests.bind(g_requests_address);
      if(!g_requests_bound)
         NoteError(g_requests_address + " can't be bound; is another terminal's advisor on it?");
   }
   if(!g_topics_bound)
   {
      g_topics_bound = g_topics.bind(g_topics_address);
      if(!g_topics_bound)
         NoteError(g_topics_address + " can't be bound; is another terminal's advisor on it?");
   }
}

string NewStart()
{
   MathSrand((int)GetTickCount());
   uint clock = (uint)TimeLocal();
   uint chance = GetTickCount() * 32768 + (uint)MathRand();
   return(StringFormat("%08x%08x", clock, chance));
}

//+------------------------------------------------------------------+
//| Keys: ZAP (rfc.zeromq.org/spec/27) asks for each new connection. |
//+------------------------------------------------------------------+
bool IsClientKey(const uchar &key[])
{
   int keys = ArraySize(g_client_keys) / KEY_BYTES;
   if(ArraySize(key) != KEY_BYTES)
      return(false);
   for(int i = 0; i < keys; i++)
   {
      int same = 0;
      for(int j = 0; j < KEY_BYTES; j++)
      {
         if(g_client_keys[i * KEY_BYTES + j] == key[j])
            same++;
      }
      if(same == KEY_BYTES)
         return(true);
   }
   return(false);
}

void AnswerZap()
{
   ZmqMsg frame;
   if(!g_zap.recv(frame, true))
      return;
   string id = "";
   string mechanism = "";
   uchar key[];
   for(int place = 0; place < 16; place++)
   {
      if(place == 1)
         id = frame.getData();
      else if(place == 5)
         mechanism = frame.getData();
      else if(place == 6)
         FrameBytes(frame, key);
      if(!frame.more() || !g_zap.recv(frame, true))
         break;
   }
   bool known = (mechanism == "CURVE" && IsClientKey(key));
   if(!known)
      NoteError("a client with a key that is not in ClientKeys was turned away");
   SendText(g_zap, "1.0", true);
   SendText(g_zap, id, true);
   SendText(g_zap, known ? "200" : "400", true);
   SendText(g_zap, known ? "OK" : "unknown key", true);
   SendText(g_zap, "", true);
   SendText(g_zap, "", false);
}

//+------------------------------------------------------------------+
//| Frames                                                           |
//+------------------------------------------------------------------+
//--- getData copies as many bytes as the array has, so that it must be empty before.
void FrameBytes(ZmqMsg &frame, uchar &bytes[])
{
   ArrayResize(bytes, 0);
   if((int)frame.size() > 0)
      frame.getData(bytes);
}

//--- False: it is too long, or has what is not printable ASCII.
bool FrameText(ZmqMsg &frame, const int longest, string &text)
{
   text = "";
   int size = (int)frame.size();
   if(size > longest)
      return(false);
   if(size == 0)
      return(true);
   uchar bytes[];
   FrameBytes(frame, bytes);
   for(int i = 0; i < size; i++)
   {
      if(bytes[i] < 32 || bytes[i] > 126)
         return(false);
   }
   text = CharArrayToString(bytes, 0, size);
   return(true);
}

//--- Text must be ASCII: mql-zmq takes the number of characters for that of bytes.
bool SendText(Socket *socket, const string text, const bool more)
{
   ZmqMsg frame(text);
   bool sent = socket.send(frame, true, more);
   if(!sent)
      g_unsent++;
   return(sent);
}

bool SendBytes(Socket *socket, const uchar &bytes[], const bool more)
{
   ZmqMsg frame(ArraySize(bytes));
   if(ArraySize(bytes) > 0)
      frame.setData(bytes);
   bool sent = socket.send(frame, true, more);
   if(!sent)
      g_unsent++;
   return(sent);
}

//+------------------------------------------------------------------+
//| Requests and replies                                             |
//+------------------------------------------------------------------+
void TakeFrame(ZmqMsg &frame, Request &request)
{
   int place = request.frames;
   request.frames++;
   if(place == 0)
      FrameBytes(frame, request.client);
   else if(place == 1)
      request.plain = FrameText(frame, LONGEST_ARGUMENT, request.version) && request.plain;
   else if(place == 2)
      request.plain = FrameText(frame, LONGEST_ARGUMENT, request.token) && request.plain;
   else if(place == 3)
      FrameBytes(frame, request.id);
   else if(place == 4)
      request.plain = FrameText(frame, LONGEST_ARGUMENT, request.method) && request.plain;
   else if(request.count < MOST_ARGUMENTS)
   {
      request.plain = FrameText(frame, LONGEST_ARGUMENT, request.arguments[request.count]) && request.plain;
      request.count++;
   }
   else
      request.plain = false;
}

//--- Leave out more of a message that is too long. False: there is still more of it.
bool IsLeftOut(ZmqMsg &frame)
{
   for(int i = 0; i < MOST_FRAMES && g_leaving_out; i++)
      g_leaving_out = g_requests.recv(frame, true) && frame.more();
   return(!g_leaving_out);
}

//--- The next message of a client, whatever it is; false if there is none.
bool NextRequest(Request &request)
{
   ZmqMsg frame;
   if(!IsLeftOut(frame) || !g_requests.recv(frame, true))
      return(false);
   request.frames = 0;
   request.plain = true;
   request.version = "";
   request.token = "";
   request.method = "";
   request.count = 0;
   ArrayResize(request.arguments, MOST_ARGUMENTS);
   ArrayResize(request.id, 0);
   TakeFrame(frame, request);
   while(frame.more())
   {
      if(request.frames >= MOST_FRAMES)
      {
         g_leaving_out = true;
         request.plain = false;
         break;
      }
      if(!g_requests.recv(frame, true))
      {
         request.plain = false;
         break;
      }
      TakeFrame(frame, request);
   }
   return(true);
}

//--- Whether a reply can be attributed to it.
bool CanBeAnswered(const Request &request)
{
   int length = ArraySize(request.id);
   return(request.frames >= 4 && length >= 1 && length <= LONGEST_ID);
}

void Reply(const Request &request, const bool done, const string json)
{
   if(!SendBytes(g_requests, request.client, true))
      return;
   SendBytes(g_requests, request.id, true);
   SendText(g_requests, done ? "ok" : "error", true);
   SendText(g_requests, json, false);
}

string ErrorJson(const string code, const int number, const string message)
{
   string json = "{";
   AddText(json, "code", code);
   AddInteger(json, "number", number);
   AddText(json, "message", message);
   return(json + "}");
}

//+------------------------------------------------------------------+
//| Who is there                                                     |
//+------------------------------------------------------------------+
void NoteClient(const uchar &client[])
{
   string name = "";
   int size = MathMin(ArraySize(client), 32);
   for(int i = 0; i < size; i++)
      name += StringFormat("%02x", (int)client[i]);
   int count = ArraySize(g_client_names);
   int free = count;
   for(int i = 0; i < count; i++)
   {
      if(g_client_names[i] == name)
      {
         g_client_seen[i] = GetTickCount();
         return;
      }
      if(GetTickCount() - g_client_seen[i] > CLIENT_GONE_MS)
         free = i;
   }
   if(free >= 256)
      return;
   if(free == count)
   {
      ArrayResize(g_client_names, count + 1);
      ArrayResize(g_client_seen, count + 1);
   }
   g_client_names[free] = name;
   g_client_seen[free] = GetTickCount();
}

int ClientCount()
{
   int found = 0;
   int count = ArraySize(g_client_seen);
   for(int i = 0; i < count; i++)
   {
      if(GetTickCount() - g_client_seen[i] <= CLIENT_GONE_MS)
         found++;
   }
   return(found);
}

//+------------------------------------------------------------------+
//| Publications                                                     |
//+------------------------------------------------------------------+
ulong NextNumber(const string topic)
{
   int count = ArraySize(g_topic_names);
   for(int i = 0; i < count; i++)
   {
      if(g_topic_names[i] == topic)
      {
         g_topic_numbers[i]++;
         return(g_topic_numbers[i]);
      }
   }
   ArrayResize(g_topic_names, count + 1, 64);
   ArrayResize(g_topic_numbers, count + 1, 64);
   g_topic_names[count] = topic;
   g_topic_numbers[count] = 1;
   return(1);
}

void PublishNumbered(const string topic, const ulong number, const string json)
{
   if(!SendText(g_topics, topic, true))
      return;
   SendText(g_topics, g_start, true);
   SendText(g_topics, StringFormat("%I64u", number), true);
   SendText(g_topics, json, false);
}

void Publish(const string topic, const string json)
{
   PublishNumbered(topic, NextNumber(topic), json);
}
//+------------------------------------------------------------------+
