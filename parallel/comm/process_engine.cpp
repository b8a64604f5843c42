#include "parallel/comm/process_engine.h"

#include <hwy/cache_control.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "runtime/base/thread_name.h"

namespace troupe::parallel {
namespace {

using namespace std::chrono_literals;
using Lock = std::unique_lock<std::mutex>;

// How long a waiter looks for progress before it sleeps: the other side is most often nearly done.
constexpr auto kSpin = 100us;
constexpr auto kSpinCrowded = 20us;
// Messages do not ring: whoever sleeps while some are under way looks again this soon.
constexpr auto kMessageNap = 100us;
constexpr auto kNap = 10ms;
// An operation waited for this long after its start runs beside computation.
constexpr auto kOverlap = 300us;

}  // namespace

struct ProcessEngine::Notice {
  explicit Notice(const MpiCalls& calls) : transfers(calls) {}
  Transfers transfers;
  char reason[1024] = {};
};

ProcessEngine::ProcessEngine(const MpiCalls& calls, int rank, std::vector<ProcessInfo> processes, int tag_limit)
    : calls_(calls), rank_(rank), processes_(std::move(processes)), context_limit_(MessageGroup::contexts(tag_limit)) {
  const int host = processes_[static_cast<size_t>(rank)].host;
  const auto here = std::ranges::count_if(processes_, [&](const ProcessInfo& info) {
    return info.host == host || info.node == processes_[static_cast<size_t>(rank)].node;
  });
  crowded_ = here > static_cast<int64_t>(std::thread::hardware_concurrency());
  thread_ = std::thread([this] {
    name_this_thread("comm");
    stand_in();
  });
}

ProcessEngine::~ProcessEngine() {
  {
    const Lock lock(mutex_);
    stopping_ = true;
  }
  stand_in_.notify_all();
  thread_.join();
  // What MPI has not given back stays for good: its tensors may be written to until the process ends.
  std::erase_if(abandoned_, [](const auto& operation) { return operation->release(); });
  for (auto& operation : abandoned_) new std::shared_ptr<ProcessOperation>(std::move(operation));
  const auto put_away = [](const std::shared_ptr<Notice>& notice) {
    if (notice && !notice->transfers.cancel()) new std::shared_ptr<Notice>(notice);
  };
  for (const Listening& listening : listening_) put_away(listening.notice);
  for (const auto& notice : sent_notices_) put_away(notice);
}

int ProcessEngine::take_contexts(int at_least, int count) {
  const int first = std::max(at_least, next_context_);
  if (first > context_limit_ - count) {
    throw CommunicationError(
        fmt::format("a group too many: this MPI's tags tell {} groups of one run apart, and no number is used twice",
                    context_limit_));
  }
  next_context_ = first + count;
  return first;
}

ProcessGroup::OperationPointer ProcessEngine::start(const std::shared_ptr<ProcessGroup>& group, Request&& request) {
  const Lock lock(mutex_);
  ProcessFamily& family = *group->link->family;
  if (group->link->several_hosts) advance_notices();
  const Signature signature = request.signature;
  if (family.aborted()) {
    throw CommunicationError(
        fmt::format("{} (in {} of group \"{}\")", family.reason(), describe(signature), group->messages.name));
  }
  if (std::ranges::none_of(groups_, [&](const auto& weak) { return weak.lock() == group; })) {
    std::erase_if(groups_, [](const auto& weak) { return weak.expired(); });
    groups_.push_back(group);
  }
  ProcessGroup::OperationPointer operation;
  if (signature.kind == OperationKind::send) {
    operation = group->pairs.emplace_back(make_message_send(group->messages, std::move(request)));
  } else if (signature.kind == OperationKind::receive) {
    operation = group->pairs.emplace_back(make_message_receive(group->messages, std::move(request)));
  } else {
    operation =
        group->queue.emplace_back(group->channel ? group->channel->make_operation(std::move(request))
                                                 : make_message_collective(group->messages, std::move(request)));
  }
  advance(*group);
  if (overlapping_ && !operation->complete) stand_in_.notify_one();
  return operation;
}

// True if anything moved. REQUIRES: mutex_ held.
bool ProcessEngine::advance(ProcessGroup& group) {
  ProcessFamily& family = *group.link->family;
  const auto step = [&](ProcessOperation& operation) {
    bool moved = true;
    try {
      moved = operation.advance();
    } catch (const MpiFailure& failure) {
      operation.problem = fmt::format("MPI failed in {} of group \"{}\": {}", describe(operation.request.signature),
                                      group.messages.name, failure.what());
    }
    if (!operation.problem.empty()) abort_locked(*group.link, operation.problem);
    return moved;
  };
  bool moved = false;
  while (!group.queue.empty() && !family.aborted()) {
    const ProcessGroup::OperationPointer head = group.queue.front();
    moved = step(*head) || moved;
    if (!head->complete) break;
    group.queue.pop_front();
  }
  for (size_t i = 0; i < group.pairs.size() && !family.aborted(); ++i) {
    const Request& mine = group.pairs[i]->request;
    const auto before = std::span(group.pairs).first(mine.signature.kind == OperationKind::receive ? i : 0);
    const bool held = std::ranges::any_of(before, [&](const auto& earlier) {
      return earlier->holds_order && earlier->request.peer == mine.peer && earlier->request.tag == mine.tag;
    });
    if (!held) moved = step(*group.pairs[i]) || moved;
  }
  std::erase_if(group.pairs, [](const auto& pair) { return pair->complete.load(); });
  if (family.aborted()) fail(group);
  return moved;
}

bool ProcessEngine::advance_all() {
  bool moved = advance_notices();
  for (size_t i = 0; i < groups_.size(); ++i) {
    if (const auto group = groups_[i].lock()) moved = advance(*group) || moved;
  }
  return moved;
}

// Takes the operations of an aborted group back from MPI as far as it lets go. REQUIRES: mutex_ held.
void ProcessEngine::fail(ProcessGroup& group) {
  any_aborted_ = true;
  const auto take = [&](auto& operations) {
    for (auto& operation : operations) {
      if (!operation->release()) abandoned_.push_back(operation);
    }
    operations.clear();
  };
  take(group.queue);
  take(group.pairs);
}

void ProcessEngine::listen(const std::shared_ptr<FamilyLink>& link) {
  if (!link->several_hosts) return;
  const Lock lock(mutex_);
  const auto notice = std::make_shared<Notice>(calls_);
  notice->transfers.receive_from_any(notice->reason, sizeof notice->reason, link->family->context() << 16);
  listening_.push_back({link, notice});
}

// REQUIRES: mutex_ held.
bool ProcessEngine::advance_notices() {
  bool moved = false;
  notices_due_ = false;
  std::erase_if(listening_, [&](Listening& listening) { return !hear(listening); });
  std::erase_if(sent_notices_, [&](const auto& notice) {
    try {
      return notice->transfers.settle(moved);
    } catch (const MpiFailure&) {
      return true;  // it was a courtesy: the receiver's deadline tells it the same
    }
  });
  return moved;
}

// False when there is nothing to listen for any more.
bool ProcessEngine::hear(Listening& listening) {
  const auto link = listening.link.lock();
  if (!link) return listening.notice && !listening.notice->transfers.cancel();
  try {
    bool moved = false;
    if (listening.notice && listening.notice->transfers.settle(moved)) {
      link->family->abort(listening.notice->reason);
      link->family->claim_forwarding();  // whoever sent it has told the other hosts
      listening.notice = nullptr;
    }
    if (link->family->claim_forwarding()) send_notices(*link);
  } catch (const MpiFailure& failure) {
    listening.notice = nullptr;
    link->family->abort(fmt::format("MPI failed: {}", failure.what()));
  }
  return true;
}

void ProcessEngine::send_notices(FamilyLink& link) {
  const auto notice = std::make_shared<Notice>(calls_);
  const std::string reason = link.family->reason();
  std::memcpy(notice->reason, reason.data(), std::min(reason.size(), sizeof notice->reason - 1));
  const int host = processes_[static_cast<size_t>(rank_)].host;
  for (size_t r = 0; r < processes_.size(); ++r) {
    if (processes_[r].host != host) {
      notice->transfers.send(notice->reason, sizeof notice->reason, static_cast<int>(r), link.family->context() << 16);
    }
  }
  sent_notices_.push_back(notice);
}

void ProcessEngine::abort(FamilyLink& link, std::string_view reason) noexcept {
  link.family->abort(reason);
  if (!link.several_hosts) return;
  const Lock lock(mutex_);  // stand_in() is not between its look and its sleep
  abort_locked(link, reason);
}

// REQUIRES: mutex_ held.
void ProcessEngine::abort_locked(FamilyLink& link, std::string_view reason) noexcept {
  link.family->abort(reason);
  if (!link.several_hosts) return;
  notices_due_ = true;
  stand_in_.notify_one();
}

bool ProcessEngine::anything_under_way() const {
  return std::ranges::any_of(groups_, [](const auto& weak) {
    const auto group = weak.lock();
    return group && (!group->queue.empty() || !group->pairs.empty());
  });
}

// How long to sleep at most between two looks. REQUIRES: mutex_ held.
std::chrono::microseconds ProcessEngine::nap() const {
  const bool messages = std::ranges::any_of(groups_, [](const auto& weak) {
    const auto group = weak.lock();
    return group && (!group->pairs.empty() || (!group->channel && !group->queue.empty()));
  });
  return messages || !listening_.empty() ? std::chrono::microseconds(kMessageNap) : std::chrono::microseconds(kNap);
}

std::chrono::nanoseconds ProcessEngine::wait(const std::shared_ptr<ProcessGroup>& group,
                                             const ProcessGroup::OperationPointer& operation) {
  ProcessFamily& family = *group->link->family;
  Clock::time_point last = Clock::now();
  Clock::time_point still = last;  // nothing had moved until then
  std::chrono::nanoseconds waited{0};
  const auto moved_on = [&] {
    waited += still - last;
    last = still = Clock::now();
  };
  overlapping_ = last - operation->begun > kOverlap;
  // Others of this process's operations may still be under way when this one is not.
  struct HandOver {
    ProcessEngine& engine;
    ~HandOver() {
      if (engine.overlapping_) engine.stand_in_.notify_one();
    }
  } hand_over{*this};
  struct Count {
    std::atomic<int>& count;
    explicit Count(std::atomic<int>& c) : count(c) { ++count; }
    ~Count() { --count; }
  } counted(waiters_);
  const auto look = [&](std::chrono::microseconds* most) {
    const Lock lock(mutex_);
    const bool moved = advance_all();
    if (most) *most = nap();
    return moved;
  };
  while (!operation->complete) {
    if (family.aborted()) give_up(*group, *operation);
    if (look(nullptr)) {
      moved_on();
      continue;
    }
    if (operation->complete) break;
    still = Clock::now();
    const auto idle = still - last;
    if (idle > group->options.deadline) {
      deadline_passed(*group, *operation);
    } else if (idle < (crowded_ ? kSpinCrowded : kSpin)) {
      crowded_ ? std::this_thread::yield() : hwy::Pause();
    } else {
      ProcessFamily::Sleep sleep(family);
      std::chrono::microseconds most{};
      if (look(&most)) {
        moved_on();
      } else if (!operation->complete && !family.aborted()) {
        const auto left = std::chrono::duration_cast<std::chrono::microseconds>(group->options.deadline - idle) + 1us;
        sleep.for_at_most(std::min(most, left));
        still = Clock::now();
      }
    }
  }
  return waited + (still - last);
}

// The ranks that it waits for: "rank 5 (node n3, pid 41)". REQUIRES: mutex_ held.
std::vector<std::string> ProcessEngine::absent(const ProcessGroup& group, const ProcessOperation& operation) const {
  std::vector<std::string> names;
  for (const int r : operation.absent()) {
    const ProcessInfo& info = processes_[static_cast<size_t>(group.messages.members[static_cast<size_t>(r)])];
    names.push_back(fmt::format("rank {} (node {}, pid {})", r, info.node, info.process_id));
  }
  return names;
}

std::string ProcessEngine::under_way(const ProcessGroup& group) {
  const Lock lock(mutex_);
  const ProcessOperation* operation = !group.queue.empty()   ? group.queue.front().get()
                                      : !group.pairs.empty() ? group.pairs.front().get()
                                                             : nullptr;
  if (operation == nullptr) return {};
  return parallel::under_way(operation->request.signature, group.messages.name, Clock::now() - operation->begun,
                             absent(group, *operation));
}

void ProcessEngine::deadline_passed(ProcessGroup& group, const ProcessOperation& operation) {
  std::string reason;
  {
    const Lock lock(mutex_);
    const std::vector<std::string> names = absent(group, operation);
    const Signature& signature = operation.request.signature;
    const int size = is_point_to_point(operation.request.signature.kind) ? 2 : group.messages.size();
    reason = names.empty() ? fmt::format("{} of group \"{}\" did not move for {} ms", describe(signature),
                                         group.messages.name, group.options.deadline.count())
                           : no_answer(names, group.options.deadline, signature, group.messages.name, size);
  }
  abort(*group.link, reason);
  group.link->family->abort_for_the_dead();
}

void ProcessEngine::give_up(ProcessGroup& group, const ProcessOperation& operation) {
  {
    const Lock lock(mutex_);
    advance_notices();
    fail(group);
  }
  throw CommunicationError(fmt::format("{} (in {} of group \"{}\")", group.link->family->reason(),
                                       describe(operation.request.signature), group.messages.name));
}

bool ProcessEngine::done(const ProcessGroup::OperationPointer& operation) {
  if (operation->complete) return true;
  const Lock lock(mutex_, std::try_to_lock);
  if (lock.owns_lock()) advance_all();
  return operation->complete;
}

void ProcessEngine::drop(const std::shared_ptr<ProcessGroup>& group,
                         const ProcessGroup::OperationPointer& operation) noexcept {
  if (operation->complete) return;
  try {
    if (!group->link->family->aborted()) {
      abort(*group->link, fmt::format("rank {} dropped {} of group \"{}\" before it was complete", group->messages.rank,
                                      describe(operation->request.signature), group->messages.name));
    }
    const Lock lock(mutex_);
    advance_notices();
    fail(*group);
  } catch (const std::exception& error) {
    group->link->family->abort(error.what());
  }
}

// Tells the others that this rank starts nothing any more in this group, where no channel does.
void ProcessEngine::leave(const std::shared_ptr<ProcessGroup>& group) noexcept {
  if (group->channel || group->link->family->aborted()) return;
  try {
    const Lock lock(mutex_);
    const auto notice = std::make_shared<Notice>(calls_);
    MessageHeader header;
    header.left = 1;
    std::memcpy(notice->reason, &header, sizeof header);
    for (const int world : group->messages.members) {
      if (world != rank_) {
        notice->transfers.send(notice->reason, sizeof header, world, group->messages.collective_tag());
      }
    }
    sent_notices_.push_back(notice);
  } catch (const std::exception& error) {
    group->link->family->abort(error.what());
  }
}

void ProcessEngine::stand_in() {
  Lock lock(mutex_);
  while (!stopping_) {
    const bool due = notices_due_ || (overlapping_ && waiters_ == 0 && anything_under_way());
    if (!due) {
      stand_in_.wait(lock);
      continue;
    }
    if (advance_all()) {
      lock.unlock();  // whoever came to wait goes first
      std::this_thread::yield();
      lock.lock();
      continue;
    }
    // Nothing to do before another process moves on; a look at intervals, because one bell serves one family.
    stand_in_.wait_for(lock, kMessageNap);
  }
}

}  // namespace troupe::parallel
