// A handler has no argument of its own, so the living object's flag is found through one static pointer.
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
  std::atomic<int> first{0};
  std::atomic<int> interrupts{0};
};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<Flags*>::is_always_lock_free);

std::atomic<Flags*> living{nullptr};

// Async-signal-safe: lock-free atomics, write and _exit only.
void handle(int signal) {
  const int saved_errno = errno;
  Flags* flags = living.load();
  if (flags) {
    int none = 0;
    flags->first.compare_exchange_strong(none, signal);
    if (signal == SIGINT && flags->interrupts.fetch_add(1) > 0) {
      constexpr char kMessage[] = "\ntroupe: interrupted again: leaving at once, without saving\n";
      [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
      ::_exit(128 + SIGINT);
    }
  }
  errno = saved_errno;
}

std::atomic<sem_t*> reports{nullptr};

// Async-signal-safe: an atomic and sem_post.
void handle_report(int) {
  const int saved_errno = errno;
  if (sem_t* living_reports = reports.load()) ::sem_post(living_reports);
  errno = saved_errno;
}

}  // namespace

struct StopSignals::State {
  Flags flags;
  std::array<struct sigaction, kSignals.size()> before{};
};

StopSignals::StopSignals() : state_(std::make_unique<State>()) {
  Flags* none = nullptr;
  TROUPE_CHECK(living.compare_exchange_strong(none, &state_->flags), "two objects handle the process's signals");
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
  living.store(nullptr);
}

int StopSignals::signal() const { return state_->flags.first.load(std::memory_order_relaxed); }

std::string_view StopSignals::signal_name() const {
  switch (signal()) {
    case SIGINT: return "SIGINT";
    case SIGTERM: return "SIGTERM";
    case SIGUSR1: return "SIGUSR1";
    default: return "";
  }
}

struct ReportSignal::State {
  sem_t asked;
  std::atomic<bool> released{false};
  struct sigaction before{};
};

ReportSignal::ReportSignal() : state_(std::make_unique<State>()) {
  TROUPE_CHECK(::sem_init(&state_->asked, 0, 0) == 0);
  sem_t* none = nullptr;
  TROUPE_CHECK(reports.compare_exchange_strong(none, &state_->asked), "two objects handle SIGQUIT");
  struct sigaction action{};
  action.sa_handler = handle_report;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  TROUPE_CHECK(::sigaction(SIGQUIT, &action, &state_->before) == 0);
}

ReportSignal::~ReportSignal() {
  ::sigaction(SIGQUIT, &state_->before, nullptr);
  reports.store(nullptr);
  ::sem_destroy(&state_->asked);
}

bool ReportSignal::wait() {
  while (::sem_wait(&state_->asked) != 0) {
  }
  return !state_->released;
}

void ReportSignal::release() {
  state_->released = true;
  ::sem_post(&state_->asked);
}

}  // namespace troupe
