// How host.py reaches the advisor. Whatever ends it is caught here, and told.
#pragma once

namespace {
std::string why_dead;

template <typename Work>
int run(Work work) {
  if (mql::dead) return -1;
  try {
    return work();
  } catch (const std::exception &error) {
    mql::dead = true;
    why_dead = error.what();
    return -1;
  }
}
}  // namespace

extern "C" {
void ea_host(const mql::Host *host, const char *libzmq, const char *folder) {
  mql::host = *host;
  mql::folder = folder;
  zmq::load(libzmq);
}
int ea_input(const char *name, const char *value) { return set_input(name, value); }
int ea_init() {
  return run([] { return int(OnInit()); });
}
int ea_timer() {
  if (!mql::timer_on) return 0;
  return run([] {
    OnTimer();
    return 0;
  });
}
int ea_tick() {
  return run([] {
    OnTick();
    return 0;
  });
}
int ea_deinit(int reason) {
  int result = run([reason] {
    OnDeinit(reason);
    return 0;
  });
  g_context.end();
  return result;
}
// The terminal is killed: no OnDeinit, nothing is flushed, the system closes what was open.
void ea_kill() {
  mql::dead = true;
  why_dead = "killed";
  for (auto &one : mql::files) ::close(one.second->fd);
  mql::files.clear();
  for (void *socket : zmq::open_sockets)
    if (socket) {
      int linger = 0;
      zmq::setsockopt(socket, 17, &linger, sizeof linger);
      zmq::close(socket);
    }
  zmq::open_sockets.clear();
  g_context.end();
}
void ea_pass(int ms) { mql::passed += ms; }
int ea_timer_ms() { return mql::timer_ms; }
const char *ea_comment() { return mql::comment.c_str(); }
const char *ea_why_dead() { return why_dead.c_str(); }
void ea_fail(int what, int times) {
  int *counters[] = {&mql::failing_sends, &mql::failing_receives, &mql::failing_binds, &mql::failing_writes};
  *counters[what] = times;
}
}
