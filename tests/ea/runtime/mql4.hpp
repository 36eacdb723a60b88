// The part of MQL4 that the expert advisor uses, over a simulated terminal and real ZeroMQ.
//
// Stricter than MetaTrader where that finds mistakes: arrays are checked, what was not set has
// strange values, formats are checked against what they are given.
#pragma once

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef long long datetime;
typedef int color;

namespace mql {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What the simulated terminal offers; the layout is known to host.py too.
struct RawOrder {
  int ticket, type, magic, unused;
  double lots, open_price, stop_loss, take_profit, close_price, profit, commission, swap;
  long long open_time, close_time, expiration;
  char symbol[32];
  char comment[64];
};

struct RawTick {
  long long time;
  double bid, ask, last;
  unsigned long long volume;
};

struct RawRate {
  long long time;
  double open, high, low, close;
  long long tick_volume;
  int spread, unused;
  long long real_volume;
};

struct RawAccount {
  int number, leverage, demo, unused;
  double balance, credit, equity, margin, free_margin, profit;
  char name[64], server[64], company[64], currency[16];
};

struct RawSend {
  const char *symbol, *comment;
  int type, slippage, magic, unused;
  double lots, price, stop_loss, take_profit;
  long long expiration;
};

struct Host {
  int (*symbols_total)();
  int (*symbol_name)(int index, char *name, int size);
  int (*symbol_select)(const char *name);
  int (*tick)(const char *name, RawTick *tick);
  int (*market_info)(const char *name, int what, double *value);
  int (*rates)(const char *name, int minutes, long long from, long long to, int position,
               RawRate *rates, int size, int *error);
  int (*orders_total)(int pool);
  int (*order_at)(int position, int pool, RawOrder *order);
  int (*order_of)(int ticket, RawOrder *order);
  int (*order_send)(const RawSend *wish, int *error);
  int (*order_close)(int ticket, double lots, double price, int slippage, int *error);
  int (*order_modify)(int ticket, double price, double loss, double gain, long long expiration,
                      int *error);
  int (*order_delete)(int ticket, int *error);
  int (*account)(RawAccount *account);
  long long (*time_current)();
  long long (*time_gmt)();
  int (*state)(int what);  // 0 connected, 1 trade allowed, 2 expert enabled, 3 context busy
  void (*print)(int kind, const char *text);
};

inline Host host;
inline int last_error = 0;
inline long passed = 0;  // what GetTickCount is ahead, for tests that cannot wait
inline std::string folder, comment;
inline bool dead = false, timer_on = false;
inline int timer_ms = 0;
inline RawOrder selected;
inline int failing_sends = 0, failing_receives = 0, failing_binds = 0, failing_writes = 0;

[[noreturn]] inline void stop(const std::string &why) { throw Error(why); }

inline std::u16string widen(const std::string &utf8) {
  std::u16string wide;
  for (size_t i = 0; i < utf8.size();) {
    unsigned char c = utf8[i];
    int more = c < 0x80 ? 0 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
    uint32_t code = more == 0 ? c : c & (0x3F >> more);
    for (int k = 1; k <= more && i + k < utf8.size(); k++) code = code << 6 | (utf8[i + k] & 0x3F);
    i += more + 1;
    if (code >= 0x10000) {
      wide += char16_t(0xD800 + ((code - 0x10000) >> 10));
      wide += char16_t(0xDC00 + ((code - 0x10000) & 0x3FF));
    } else {
      wide += char16_t(code);
    }
  }
  return wide;
}

inline std::string narrow(const std::u16string &wide) {
  std::string utf8;
  for (size_t i = 0; i < wide.size(); i++) {
    uint32_t code = wide[i];
    if (code >= 0xD800 && code < 0xDC00 && i + 1 < wide.size())
      code = 0x10000 + ((code - 0xD800) << 10) + (wide[++i] - 0xDC00);
    if (code < 0x80) {
      utf8 += char(code);
    } else if (code < 0x800) {
      utf8 += char(0xC0 | code >> 6);
      utf8 += char(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
      utf8 += char(0xE0 | code >> 12);
      utf8 += char(0x80 | (code >> 6 & 0x3F));
      utf8 += char(0x80 | (code & 0x3F));
    } else {
      utf8 += char(0xF0 | code >> 18);
      utf8 += char(0x80 | (code >> 12 & 0x3F));
      utf8 += char(0x80 | (code >> 6 & 0x3F));
      utf8 += char(0x80 | (code & 0x3F));
    }
  }
  return utf8;
}

}  // namespace mql

// ---- strings

struct string {
  std::u16string text;
  string() {}
  string(const std::u16string &wide) : text(wide) {}
  explicit string(const char *utf8) : text(mql::widen(utf8)) {}
  std::string utf8() const { return mql::narrow(text); }
  bool operator==(const string &other) const { return text == other.text; }
  bool operator!=(const string &other) const { return text != other.text; }
  string &operator+=(const string &other) {
    text += other.text;
    return *this;
  }
};

inline string operator+(const string &one, const string &other) { return string(one.text + other.text); }
inline string _S(const char *literal) { return string(literal); }

inline int StringLen(const string &s) { return int(s.text.size()); }
inline ushort StringGetCharacter(const string &s, int i) {
  if (i < 0 || i >= StringLen(s)) mql::stop("StringGetCharacter beyond the string");
  return ushort(s.text[i]);
}
inline bool StringSetCharacter(string &s, int i, ushort c) {
  if (i < 0 || i >= StringLen(s)) mql::stop("StringSetCharacter beyond the string");
  s.text[i] = char16_t(c);
  return true;
}
inline string ShortToString(ushort c) { return string(std::u16string(1, char16_t(c))); }
inline int StringFind(const string &s, const string &what, int from = 0) {
  size_t at = s.text.find(what.text, from);
  return at == std::u16string::npos ? -1 : int(at);
}
inline string StringSubstr(const string &s, int from, int length = -1) {
  if (from < 0 || from > StringLen(s)) mql::stop("StringSubstr beyond the string");
  return string(s.text.substr(from, length <= 0 ? std::u16string::npos : size_t(length)));
}
inline long StringToInteger(const string &s) { return strtol(s.utf8().c_str(), nullptr, 10); }
inline double StringToDouble(const string &s) { return strtod(s.utf8().c_str(), nullptr); }
inline string IntegerToString(long long value, int = 0, ushort = ' ') {
  return string(std::to_string(value).c_str());
}
inline string DoubleToString(double value, int digits = 8) {
  char text[400];
  snprintf(text, sizeof text, "%.*f", digits, value);
  return string(text);
}

namespace mql {

inline std::string told(const string &s) { return s.utf8(); }
inline std::string told(bool b) { return b ? "true" : "false"; }
inline std::string told(double d) {
  char text[64];
  snprintf(text, sizeof text, "%.8g", d);
  return text;
}
template <typename T, typename = std::enable_if_t<std::is_integral_v<T>>>
std::string told(T value) {
  return std::to_string(value);
}

inline std::string one_format(const std::string &spec, const string &value) {
  if (spec.back() != 's') stop("StringFormat: " + spec + " was given a string");
  return value.utf8();
}
inline std::string one_format(const std::string &spec, double value) {
  if (!strchr("feEgG", spec.back())) stop("StringFormat: " + spec + " was given a double");
  char text[400];
  snprintf(text, sizeof text, spec.c_str(), value);
  return text;
}
template <typename T, typename = std::enable_if_t<std::is_integral_v<T>>>
std::string one_format(const std::string &spec, T value) {
  bool wide = spec.find("I64") != std::string::npos;
  if (!strchr("diuxXc", spec.back())) stop("StringFormat: " + spec + " was given a whole number");
  if (wide != (sizeof(T) == 8)) stop("StringFormat: " + spec + " was given another width");
  std::string plain = spec;
  if (wide) plain.replace(plain.find("I64"), 3, "ll");
  char text[64];
  if (wide)
    snprintf(text, sizeof text, plain.c_str(), (long long)value);
  else
    snprintf(text, sizeof text, plain.c_str(), int(value));
  return text;
}

inline std::string format(const std::string &text) {
  if (text.find('%') != std::string::npos) stop("StringFormat: too few values: " + text);
  return text;
}
template <typename First, typename... Rest>
std::string format(const std::string &text, const First &first, const Rest &...rest) {
  size_t at = text.find('%');
  if (at == std::string::npos) stop("StringFormat: too many values: " + text);
  size_t end = text.find_first_of("diuxXcfeEgGs", at + 1);
  if (end == std::string::npos) stop("StringFormat: not a format: " + text);
  if (text.compare(at + 1, 3, "I64") == 0) end = text.find_first_of("diuxX", at + 4);
  return text.substr(0, at) + one_format(text.substr(at, end - at + 1), first) +
         format(text.substr(end + 1), rest...);
}

}  // namespace mql

template <typename... Values>
string StringFormat(const string &text, const Values &...values) {
  return string(mql::format(text.utf8(), values...).c_str());
}

// ---- arrays

template <typename T>
class Array {
 public:
  Array() {}
  explicit Array(int size) { resize(size); }
  T &operator[](long long i) { return items_[checked(i)]; }
  const T &operator[](long long i) const { return items_[checked(i)]; }
  int size() const { return int(items_.size()); }
  void resize(int size) {
    if (size < 0) mql::stop("ArrayResize to a negative size");
    size_t before = items_.size();
    items_.resize(size);
    if constexpr (std::is_arithmetic_v<T>)
      for (size_t i = before; i < items_.size(); i++) memset((void *)&items_[i], 0x5a, sizeof(T));
  }
  T *data() { return items_.data(); }
  const T *data() const { return items_.data(); }

 private:
  size_t checked(long long i) const {
    if (i < 0 || i >= (long long)items_.size())
      mql::stop("array out of range: " + std::to_string(i) + " of " + std::to_string(items_.size()));
    return size_t(i);
  }
  std::vector<T> items_;
};

template <typename T>
int ArraySize(const Array<T> &a) {
  return a.size();
}
template <typename T>
int ArrayResize(Array<T> &a, int size, int = 0) {
  a.resize(size);
  return size;
}
template <typename T>
int ArrayInitialize(Array<T> &a, T value) {
  for (int i = 0; i < a.size(); i++) a[i] = value;
  return a.size();
}
const int WHOLE_ARRAY = -1;
template <typename T>
int ArrayCopy(Array<T> &to, const Array<T> &from, int to_start = 0, int from_start = 0,
              int count = WHOLE_ARRAY) {
  if (count == WHOLE_ARRAY) count = from.size() - from_start;
  if (to.size() < to_start + count) to.resize(to_start + count);
  for (int i = 0; i < count; i++) to[to_start + i] = from[from_start + i];
  return count;
}
const uint CP_ACP = 0, CP_UTF8 = 65001;
inline string CharArrayToString(const Array<uchar> &a, int start = 0, int count = -1, uint = CP_ACP) {
  std::string text;
  for (int i = start; i < (count < 0 ? a.size() : start + count) && a[i]; i++) text += char(a[i]);
  return string(text.c_str());
}
inline int StringSplit(const string &text, ushort separator, Array<string> &parts) {
  parts.resize(0);
  if (text.text.empty()) return 0;
  size_t from = 0;
  while (true) {
    size_t at = text.text.find(char16_t(separator), from);
    parts.resize(parts.size() + 1);
    parts[parts.size() - 1] = string(text.text.substr(from, at - from));
    if (at == std::u16string::npos) return parts.size();
    from = at + 1;
  }
}

// ---- mathematics

const int INT_MAX_MQL = 2147483647;
#undef INT_MAX
#define INT_MAX INT_MAX_MQL
const long UINT_MAX_MQL = 4294967295;
#undef UINT_MAX
#define UINT_MAX UINT_MAX_MQL
template <typename A, typename B>
std::common_type_t<A, B> MathMax(A a, B b) {
  using T = std::common_type_t<A, B>;
  return T(a) > T(b) ? T(a) : T(b);
}
template <typename A, typename B>
std::common_type_t<A, B> MathMin(A a, B b) {
  using T = std::common_type_t<A, B>;
  return T(a) < T(b) ? T(a) : T(b);
}
inline double MathAbs(double value) { return std::fabs(value); }
inline double MathRound(double value) { return std::round(value); }
inline bool MathIsValidNumber(double value) { return std::isfinite(value); }
inline double NormalizeDouble(double value, int digits) {
  double scale = std::pow(10.0, digits);
  return std::round(value * scale) / scale;
}
inline void MathSrand(int seed) { srand(unsigned(seed)); }
inline int MathRand() { return rand() & 32767; }

// ---- the terminal

struct MqlTick {
  datetime time;
  double bid, ask, last;
  ulong volume;
};
struct MqlRates {
  datetime time;
  double open, high, low, close;
  long tick_volume;
  int spread;
  long real_volume;
};
enum ENUM_TIMEFRAMES {
  PERIOD_M1 = 1, PERIOD_M5 = 5, PERIOD_M15 = 15, PERIOD_M30 = 30, PERIOD_H1 = 60, PERIOD_H4 = 240,
  PERIOD_D1 = 1440
};
const int OP_BUY = 0, OP_SELL = 1, OP_BUYLIMIT = 2, OP_SELLLIMIT = 3, OP_BUYSTOP = 4, OP_SELLSTOP = 5;
const int SELECT_BY_POS = 0, SELECT_BY_TICKET = 1, MODE_TRADES = 0, MODE_HISTORY = 1;
const int MODE_POINT = 11, MODE_DIGITS = 12, MODE_STOPLEVEL = 14, MODE_LOTSIZE = 15, MODE_TICKVALUE = 16,
          MODE_TICKSIZE = 17, MODE_SWAPLONG = 18, MODE_SWAPSHORT = 19, MODE_TRADEALLOWED = 22,
          MODE_MINLOT = 23, MODE_LOTSTEP = 24, MODE_MAXLOT = 25, MODE_SWAPTYPE = 26,
          MODE_PROFITCALCMODE = 27, MODE_MARGINCALCMODE = 28, MODE_MARGINREQUIRED = 32,
          MODE_FREEZELEVEL = 33;
const int INIT_SUCCEEDED = 0, INIT_FAILED = 1, INIT_PARAMETERS_INCORRECT = 32767;
const int TIME_DATE = 1, TIME_MINUTES = 2, TIME_SECONDS = 4;
const color clrNONE = -1;

inline int GetLastError() {
  int error = mql::last_error;
  mql::last_error = 0;  // as MQL4 does: it is told once
  return error;
}
inline void ResetLastError() { mql::last_error = 0; }
inline uint GetTickCount() {
  using namespace std::chrono;
  return uint(duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count() + mql::passed);
}
inline datetime TimeCurrent() { return mql::host.time_current(); }
inline datetime TimeGMT() { return mql::host.time_gmt(); }
inline datetime TimeLocal() { return ::time(nullptr); }
inline string TimeToString(datetime moment, int flags) {
  time_t seconds = time_t(moment);
  struct tm parts;
  gmtime_r(&seconds, &parts);
  char text[32];
  strftime(text, sizeof text, flags == TIME_SECONDS || flags == (TIME_MINUTES | TIME_SECONDS) ? "%H:%M:%S" : "%Y.%m.%d %H:%M", &parts);
  return string(text);
}
inline bool EventSetMillisecondTimer(int ms) {
  mql::timer_ms = ms;
  mql::timer_on = true;
  return true;
}
inline void EventKillTimer() { mql::timer_on = false; }
inline bool IsConnected() { return mql::host.state(0); }
inline bool IsTradeAllowed() { return mql::host.state(1) && !mql::host.state(3); }
inline bool IsExpertEnabled() { return mql::host.state(2); }
inline bool IsTradeContextBusy() { return mql::host.state(3); }
inline bool RefreshRates() { return true; }

template <typename... Values>
void Print(const Values &...values) {
  mql::host.print(0, (mql::told(values) + ...).c_str());
}
template <typename... Values>
void Alert(const Values &...values) {
  mql::host.print(1, (mql::told(values) + ...).c_str());
}
template <typename... Values>
void Comment(const Values &...values) {
  mql::comment = (mql::told(values) + ...);
}

namespace mql {
inline RawAccount account() {
  RawAccount raw;
  memset(&raw, 0, sizeof raw);
  host.account(&raw);
  return raw;
}
}  // namespace mql
inline int AccountNumber() { return mql::account().number; }
inline int AccountLeverage() { return mql::account().leverage; }
inline bool IsDemo() { return mql::account().demo != 0; }
inline double AccountBalance() { return mql::account().balance; }
inline double AccountCredit() { return mql::account().credit; }
inline double AccountEquity() { return mql::account().equity; }
inline double AccountMargin() { return mql::account().margin; }
inline double AccountFreeMargin() { return mql::account().free_margin; }
inline double AccountProfit() { return mql::account().profit; }
inline string AccountName() { return string(mql::account().name); }
inline string AccountServer() { return string(mql::account().server); }
inline string AccountCompany() { return string(mql::account().company); }
inline string AccountCurrency() { return string(mql::account().currency); }

inline int SymbolsTotal(bool) { return mql::host.symbols_total(); }
inline string SymbolName(int index, bool) {
  char name[64] = "";
  mql::host.symbol_name(index, name, sizeof name);
  return string(name);
}
inline bool SymbolSelect(const string &name, bool) {
  if (mql::host.symbol_select(name.utf8().c_str())) return true;
  mql::last_error = 4220;
  return false;
}
inline bool SymbolInfoTick(const string &name, MqlTick &tick) {
  mql::RawTick raw;
  if (!mql::host.tick(name.utf8().c_str(), &raw)) {
    mql::last_error = 4220;
    return false;
  }
  tick = {raw.time, raw.bid, raw.ask, raw.last, ulong(raw.volume)};
  return true;
}
inline double MarketInfo(const string &name, int what) {
  double value = 0;
  if (!mql::host.market_info(name.utf8().c_str(), what, &value)) mql::last_error = 4106;
  return value;
}

namespace mql {
inline int copy_rates(const string &name, int minutes, datetime from, datetime to, int position,
                      Array<MqlRates> &rates) {
  std::vector<RawRate> raw(5000);
  int error = 0;
  int count = host.rates(name.utf8().c_str(), minutes, from, to, position, raw.data(), int(raw.size()), &error);
  if (count < 0) {
    last_error = error;
    return -1;
  }
  rates.resize(count);
  for (int i = 0; i < count; i++)
    rates[i] = {raw[i].time, raw[i].open, raw[i].high, raw[i].low, raw[i].close,
                long(raw[i].tick_volume), raw[i].spread, long(raw[i].real_volume)};
  return count;
}
}  // namespace mql
inline int CopyRates(const string &name, ENUM_TIMEFRAMES period, int position, int count, Array<MqlRates> &rates) {
  if (position != 0) mql::stop("CopyRates from another position than 0 is not in this runtime");
  return mql::copy_rates(name, period, 0, 0, count, rates);
}
inline int CopyRates(const string &name, ENUM_TIMEFRAMES period, datetime from, datetime to, Array<MqlRates> &rates) {
  return mql::copy_rates(name, period, from, to, 0, rates);
}

// ---- orders

inline int OrdersTotal() { return mql::host.orders_total(MODE_TRADES); }
inline int OrdersHistoryTotal() { return mql::host.orders_total(MODE_HISTORY); }
inline bool OrderSelect(int which, int how, int pool = MODE_TRADES) {
  mql::RawOrder raw;
  int found = how == SELECT_BY_TICKET ? mql::host.order_of(which, &raw) : mql::host.order_at(which, pool, &raw);
  if (found)
    mql::selected = raw;
  else
    mql::last_error = 4108;
  return found;
}
inline int OrderTicket() { return mql::selected.ticket; }
inline int OrderType() { return mql::selected.type; }
inline int OrderMagicNumber() { return mql::selected.magic; }
inline double OrderLots() { return mql::selected.lots; }
inline double OrderOpenPrice() { return mql::selected.open_price; }
inline double OrderStopLoss() { return mql::selected.stop_loss; }
inline double OrderTakeProfit() { return mql::selected.take_profit; }
inline double OrderClosePrice() { return mql::selected.close_price; }
inline double OrderProfit() { return mql::selected.profit; }
inline double OrderCommission() { return mql::selected.commission; }
inline double OrderSwap() { return mql::selected.swap; }
inline datetime OrderOpenTime() { return mql::selected.open_time; }
inline datetime OrderCloseTime() { return mql::selected.close_time; }
inline datetime OrderExpiration() { return mql::selected.expiration; }
inline string OrderSymbol() { return string(mql::selected.symbol); }
inline string OrderComment() { return string(mql::selected.comment); }

inline int OrderSend(const string &symbol, int type, double lots, double price, int slippage, double loss,
                     double gain, const string &comment, int magic, datetime expiration, color) {
  std::string name = symbol.utf8(), text = comment.utf8();
  mql::RawSend wish = {name.c_str(), text.c_str(), type, slippage, magic, 0, lots, price, loss, gain, expiration};
  int error = 0;
  int ticket = mql::host.order_send(&wish, &error);
  if (ticket < 0) mql::last_error = error;
  return ticket;
}
inline bool OrderClose(int ticket, double lots, double price, int slippage, color) {
  int error = 0;
  if (mql::host.order_close(ticket, lots, price, slippage, &error)) return true;
  mql::last_error = error;
  return false;
}
inline bool OrderModify(int ticket, double price, double loss, double gain, datetime expiration, color) {
  int error = 0;
  if (mql::host.order_modify(ticket, price, loss, gain, expiration, &error)) return true;
  mql::last_error = error;
  return false;
}
inline bool OrderDelete(int ticket, color) {
  int error = 0;
  if (mql::host.order_delete(ticket, &error)) return true;
  mql::last_error = error;
  return false;
}

// ---- files: what was not flushed is lost when the terminal is killed

const int FILE_READ = 1, FILE_WRITE = 2, FILE_TXT = 16, FILE_ANSI = 32, FILE_REWRITE = 512;
const int INVALID_HANDLE = -1, SEEK_SET_MQL = 0, SEEK_END_MQL = 2;
#undef SEEK_END
#define SEEK_END SEEK_END_MQL

namespace mql {
struct File {
  int fd;
  bool writable;
  std::string content, pending;
  size_t at = 0;
};
inline std::map<int, std::unique_ptr<File>> files;
inline int next_file = 1;
inline std::string path_of(const string &name) {
  std::string plain = name.utf8();
  if (plain.empty() || plain[0] == '/' || plain.find("..") != std::string::npos) stop("a file outside the sandbox");
  return folder + "/" + plain;
}
inline File &file_of(int handle) {
  auto found = files.find(handle);
  if (found == files.end()) stop("a file that is not open");
  return *found->second;
}
inline void write_pending(File &file) {
  const char *from = file.pending.data();
  size_t left = file.pending.size();
  while (left > 0) {
    ssize_t done = ::write(file.fd, from, left);
    if (done <= 0) break;
    from += done;
    left -= size_t(done);
  }
  file.pending.clear();
}
}  // namespace mql

inline int FileOpen(const string &name, int flags) {
  if (!(flags & FILE_TXT) || !(flags & FILE_ANSI)) mql::stop("FileOpen: only FILE_TXT | FILE_ANSI is in this runtime");
  bool writes = flags & FILE_WRITE, reads = flags & FILE_READ;
  int mode = writes ? (reads ? O_RDWR | O_CREAT : O_RDWR | O_CREAT | O_TRUNC) : O_RDONLY;
  if (writes && mql::failing_writes > 0) return INVALID_HANDLE;
  int fd = ::open(mql::path_of(name).c_str(), mode, 0600);
  if (fd < 0) {
    mql::last_error = 5004;
    return INVALID_HANDLE;
  }
  auto file = std::make_unique<mql::File>();
  file->fd = fd;
  file->writable = writes;
  char part[65536];
  ssize_t got;
  while ((got = ::read(fd, part, sizeof part)) > 0) file->content.append(part, size_t(got));
  ::lseek(fd, 0, SEEK_SET);
  mql::files[mql::next_file] = std::move(file);
  return mql::next_file++;
}
inline void FileClose(int handle) {
  mql::File &file = mql::file_of(handle);
  mql::write_pending(file);
  ::close(file.fd);
  mql::files.erase(handle);
}
inline bool FileIsEnding(int handle) {
  mql::File &file = mql::file_of(handle);
  return file.at >= file.content.size();
}
inline string FileReadString(int handle) {
  mql::File &file = mql::file_of(handle);
  size_t end = file.content.find('\n', file.at);
  std::string line = file.content.substr(file.at, end == std::string::npos ? end : end - file.at);
  file.at = end == std::string::npos ? file.content.size() : end + 1;
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return string(line.c_str());
}
inline uint FileWriteString(int handle, const string &text) {
  mql::File &file = mql::file_of(handle);
  if (!file.writable) mql::stop("FileWriteString to a file that was opened to read");
  if (mql::failing_writes > 0) {
    mql::last_error = 5022;
    return 0;
  }
  std::string plain = text.utf8();
  file.pending += plain;
  return uint(plain.size());
}
inline void FileFlush(int handle) { mql::write_pending(mql::file_of(handle)); }
inline bool FileSeek(int handle, long offset, int origin) {
  if (offset != 0 || origin != SEEK_END) mql::stop("FileSeek: only to the end in this runtime");
  return ::lseek(mql::file_of(handle).fd, 0, 2) >= 0;
}
inline bool FileIsExist(const string &name, int = 0) {
  return std::filesystem::exists(mql::path_of(name));
}
inline bool FileMove(const string &from, int, const string &to, int flags) {
  if (!(flags & FILE_REWRITE)) mql::stop("FileMove without FILE_REWRITE fails where the file is there");
  return ::rename(mql::path_of(from).c_str(), mql::path_of(to).c_str()) == 0;
}

// ---- pointers

const int POINTER_INVALID = 0, POINTER_DYNAMIC = 1;
template <typename T>
int CheckPointer(T *pointer) {
  return pointer ? POINTER_DYNAMIC : POINTER_INVALID;
}

// ---- mql-zmq, over the real libzmq, with its traps

namespace zmq {
inline void *library = nullptr;
template <typename Function>
Function *function(const char *name) {
  if (!library) mql::stop("libzmq was not loaded");
  void *found = dlsym(library, name);
  if (!found) mql::stop(std::string("libzmq has no ") + name);
  return reinterpret_cast<Function *>(found);
}
inline void *(*ctx_new)();
inline int (*ctx_term)(void *);
inline void *(*socket)(void *, int);
inline int (*close)(void *);
inline int (*bind)(void *, const char *);
inline int (*setsockopt)(void *, int, const void *, size_t);
inline int (*msg_init)(void *);
inline int (*msg_init_size)(void *, size_t);
inline int (*msg_close)(void *);
inline int (*msg_send)(void *, void *, int);
inline int (*msg_recv)(void *, void *, int);
inline int (*msg_more)(const void *);
inline size_t (*msg_size)(const void *);
inline void *(*msg_data)(void *);
inline unsigned char *(*z85_decode)(unsigned char *, const char *);
inline void load(const char *path) {
  library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) mql::stop(dlerror());
  ctx_new = function<void *()>("zmq_ctx_new");
  ctx_term = function<int(void *)>("zmq_ctx_term");
  socket = function<void *(void *, int)>("zmq_socket");
  close = function<int(void *)>("zmq_close");
  bind = function<int(void *, const char *)>("zmq_bind");
  setsockopt = function<int(void *, int, const void *, size_t)>("zmq_setsockopt");
  msg_init = function<int(void *)>("zmq_msg_init");
  msg_init_size = function<int(void *, size_t)>("zmq_msg_init_size");
  msg_close = function<int(void *)>("zmq_msg_close");
  msg_send = function<int(void *, void *, int)>("zmq_msg_send");
  msg_recv = function<int(void *, void *, int)>("zmq_msg_recv");
  msg_more = function<int(const void *)>("zmq_msg_more");
  msg_size = function<size_t(const void *)>("zmq_msg_size");
  msg_data = function<void *(void *)>("zmq_msg_data");
  z85_decode = function<unsigned char *(unsigned char *, const char *)>("zmq_z85_decode");
}
inline std::vector<void *> open_sockets;
}  // namespace zmq

const int ZMQ_PUB = 1, ZMQ_REP = 4, ZMQ_ROUTER = 6;

// Made at the first use, for a library is loaded before the terminal can say where libzmq is.
class Context {
 public:
  void *ref() const {
    if (!context_) context_ = zmq::ctx_new();
    return context_;
  }
  void end() {
    if (context_) zmq::ctx_term(context_);
    context_ = nullptr;
  }

 private:
  mutable void *context_ = nullptr;
};

class ZmqMsg {
 public:
  alignas(8) unsigned char raw[64];
  ZmqMsg() { zmq::msg_init(raw); }
  explicit ZmqMsg(int size) { zmq::msg_init_size(raw, size_t(size)); }
  explicit ZmqMsg(const string &text) {
    std::string utf8 = text.utf8();
    utf8.resize(std::min(utf8.size(), text.text.size()));  // it takes characters for bytes
    zmq::msg_init_size(raw, utf8.size());
    memcpy(zmq::msg_data(raw), utf8.data(), utf8.size());
  }
  ~ZmqMsg() { zmq::msg_close(raw); }
  ZmqMsg(const ZmqMsg &) = delete;
  ZmqMsg &operator=(const ZmqMsg &) = delete;
  int size() { return int(zmq::msg_size(raw)); }
  bool more() { return zmq::msg_more(raw) == 1; }
  void getData(Array<uchar> &data) {
    if (ArraySize(data) < size()) data.resize(size());
    if (ArraySize(data) > size()) mql::stop("getData into a longer array reads beyond the message");
    memcpy(data.data(), zmq::msg_data(raw), size_t(size()));
  }
  string getData() {
    return string(std::string(static_cast<char *>(zmq::msg_data(raw)), size_t(size())).c_str());
  }
  void setData(const Array<uchar> &data) {
    if (ArraySize(data) < size()) mql::stop("setData from a shorter array reads beyond it");
    memcpy(zmq::msg_data(raw), data.data(), size_t(size()));
  }
};

class Socket {
 public:
  Socket(const Context &context, int type) : socket_(zmq::socket(context.ref(), type)) {
    zmq::open_sockets.push_back(socket_);
  }
  ~Socket() {
    for (auto &open : zmq::open_sockets)
      if (open == socket_) open = nullptr;
    zmq::close(socket_);
  }
  bool bind(const string &address) {
    if (mql::failing_binds > 0) {
      mql::failing_binds--;
      return false;
    }
    return zmq::bind(socket_, address.utf8().c_str()) == 0;
  }
  bool send(ZmqMsg &message, bool nowait = false, bool more = false) {
    if (!nowait) mql::stop("a send that waits stops the terminal");
    if (mql::failing_sends > 0) {
      mql::failing_sends--;
      return false;
    }
    return zmq::msg_send(message.raw, socket_, 1 | (more ? 2 : 0)) != -1;
  }
  bool recv(ZmqMsg &message, bool nowait = false) {
    if (!nowait) mql::stop("a recv that waits stops the terminal");
    if (mql::failing_receives > 0) {
      mql::failing_receives--;
      return false;
    }
    return zmq::msg_recv(message.raw, socket_, 1) != -1;
  }
  bool setLinger(int value) { return set(17, value); }
  bool setSendHighWaterMark(int value) { return set(23, value); }
  bool setReceiveHighWaterMark(int value) { return set(24, value); }
  bool setMaxMessageSize(long value) { return zmq::setsockopt(socket_, 22, &value, sizeof value) == 0; }
  bool setRouterMandatory(bool value) { return set(33, value); }
  bool setCurveServer(bool value) { return set(47, value); }
  bool setCurveSecretKey(const string &key) {
    std::string utf8 = key.utf8();
    return zmq::setsockopt(socket_, 49, utf8.c_str(), utf8.size() + 1) == 0;
  }

 private:
  bool set(int option, int value) { return zmq::setsockopt(socket_, option, &value, sizeof value) == 0; }
  void *socket_;
};

class Z85 {
 public:
  static bool decode(const string &secret, Array<uchar> &data) {
    int length = StringLen(secret);
    if (length % 5 != 0) return false;
    data.resize(int(0.8 * length));
    return zmq::z85_decode(data.data(), secret.utf8().c_str()) != nullptr;
  }
};

namespace mql {
inline bool read_input(const std::string &value, string &input) {
  input = string(value.c_str());
  return true;
}
inline bool read_input(const std::string &value, bool &input) {
  input = value == "true";
  return true;
}
inline bool read_input(const std::string &value, int &input) {
  input = atoi(value.c_str());
  return true;
}
inline bool read_input(const std::string &value, double &input) {
  input = strtod(value.c_str(), nullptr);
  return true;
}
}  // namespace mql
