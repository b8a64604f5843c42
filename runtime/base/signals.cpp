// A handler has no argument of its own, and may still run on another thread when the object that wanted it has gone: so
// what handlers touch is static and never destroyed. An object owns it while it lives.
#include "runtime/base/signals.h"

#include <semaphore.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>

#include "runtime/base/check.h"

namespace troupe {
namespace {

constexpr std::array kSignals{SIGINT, SIGTERM, SIGUSR1};

struct Flags {
  std::atomic<bool> owned{false};
  std::atomic<int> first{0};
  std::atomic<int> interrupts{0};
};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

Flags flags;

// Async-signal-safe: lock-free atomics, write and _exit only.
void handle(int signal) {
  const int saved_errno = errno;
  if (flags.owned) {
    int none = 0;
    flags.first.compare_exchange_strong(none, signal);
    if (signal == SIGINT && flags.interrupts.fetch_add(1) > 0) {
      constexpr char kMessage[] = "\ntroupe: interrupted again: leaving at once, without saving\n";
      [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
      ::_exit(128 + SIGINT);
    }
  }
  errno = saved_errno;
}

struct Reports {
  Reports() { TROUPE_CHECK(::sem_init(&asked, 0, 0) == 0); }
  std::atomic<bool> owned{false};
  sem_t asked;
};

Reports& reports() {
  static Reports never_destroyed;  // a semaphore needs no end
  return never_destroyed;
}
std::atomic<sem_t*> report_asked{nullptr};  // for the handler, which must not initialise

// Async-signal-safe: an atomic and sem_post.
void handle_report(int) {
  const int saved_errno = errno;
  if (sem_t* asked = report_asked.load()) ::sem_post(asked);
  errno = saved_errno;
}

}  // namespace

struct StopSignals::State {
  std::array<struct sigaction, kSignals.size()> before{};
};

StopSignals::StopSignals() : state_(std::make_unique<State>()) {
  TROUPE_CHECK(!flags.owned.exchange(true), "two objects handle the process's signals");
  flags.first = flags.interrupts = 0;
  struct sigaction action{};
  action.sa_handler = handle;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : kSignals) sigaddset(&action.sa_mask, signal);
  for (size_t i = 0; i < kSignals.size(); ++i) {
    const int status = ::sigaction(kSignals[i], &action, &state_->before[i]);
    TROUPE_CHECK(status == 0, "sigaction({})", kSignals[i]);
  }
}

StopSignals::~StopSignals() {
  for (size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &state_->before[i], nullptr);
  flags.owned = false;
}

int StopSignals::signal() const { return flags.first.load(std::memory_order_relaxed); }

std::string_view StopSignals::signal_name() const {
  switch (signal()) {
    case SIGINT: return "SIGINT";
    case SIGTERM: return "SIGTERM";
    case SIGUSR1: return "SIGUSR1";
    default: return "";
  }
}

struct ReportSignal::State {
  std::atomic<bool> released{false};
  struct sigaction before{};
};

ReportSignal::ReportSignal() : state_(std::make_unique<State>()) {
  TROUPE_CHECK(!reports().owned.exchange(true), "two objects handle SIGQUIT");
  while (::sem_trywait(&reports().asked) == 0) {  // for one that has gone
  }
  report_asked = &reports().asked;
  struct sigaction action{};
  action.sa_handler = handle_report;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  TROUPE_CHECK(::sigaction(SIGQUIT, &action, &state_->before) == 0);
}

ReportSignal::~ReportSignal() {
  ::sigaction(SIGQUIT, &state_->before, nullptr);
  reports().owned = false;
}

bool ReportSignal::wait() {
  while (::sem_wait(&reports().asked) != 0) {
  }
  return !state_->released;
}

void ReportSignal::release() {
  state_->released = true;
  ::sem_post(&reports().asked);
}

}  // namespace troupe
