// Moves the operations of one process: of all its groups, under one lock, so that a rank that waits for one
// operation also carries on with every other that it has started. All calls to MPI are made under that lock.
//
// Who does the work: a caller in wait(), at full speed. A thread of the engine stands in while nobody waits, for
// callers that let operations run beside computation (it notices by how late they come to wait); it sleeps
// otherwise, and between looks: it costs a compute thread what the copying costs and no spinning.
#pragma once
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "parallel/comm/host_channel.h"
#include "parallel/comm/message_operation.h"
#include "parallel/comm/transfers.h"

namespace troupe::parallel {

// Who the ranks of the job are, by world rank.
struct ProcessInfo {
  int host = 0;        // lowest rank of its host
  int local_rank = 0;  // among those of its host
  int64_t process_id = 0;
  std::string node;
};

// A family and how its aborts travel between hosts.
struct FamilyLink {
  std::shared_ptr<ProcessFamily> family;
  bool several_hosts = false;
};

class ProcessGroup {
 public:
  using OperationPointer = std::shared_ptr<ProcessOperation>;

  ProcessGroup(const MpiCalls& calls, std::string name, int rank, std::vector<int> members, int context,
               CommunicatorOptions o, std::shared_ptr<FamilyLink> l)
      : messages{calls, std::move(name), rank, std::move(members), context}, options(o), link(std::move(l)) {}

  MessageGroup messages;
  const CommunicatorOptions options;
  const std::shared_ptr<FamilyLink> link;
  std::unique_ptr<HostChannel> channel;  // where all members share a host
  // Guarded by the engine's lock.
  std::deque<OperationPointer> queue;   // collectives: the first is advanced
  std::vector<OperationPointer> pairs;  // sends and receives: all are
};

class ProcessEngine {
 public:
  // tag_limit: the greatest tag of this MPI.
  ProcessEngine(const MpiCalls& calls, int rank, std::vector<ProcessInfo> processes, int tag_limit);
  ~ProcessEngine();

  // Throws CommunicationError if the group is aborted.
  ProcessGroup::OperationPointer start(const std::shared_ptr<ProcessGroup>&, Request&&);
  // Returns how long of that nothing moved.
  std::chrono::nanoseconds wait(const std::shared_ptr<ProcessGroup>&, const ProcessGroup::OperationPointer&);
  bool done(const ProcessGroup::OperationPointer&);
  // Unfinished, it ends the group.
  void drop(const std::shared_ptr<ProcessGroup>&, const ProcessGroup::OperationPointer&) noexcept;
  void leave(const std::shared_ptr<ProcessGroup>&) noexcept;
  // Communicator::under_way(). Any thread.
  std::string under_way(const ProcessGroup&);
  // Any thread.
  void abort(FamilyLink&, std::string_view reason) noexcept;  // waits for the lock where there are several hosts

  // Listens for aborts from other hosts, if there are any.
  void listen(const std::shared_ptr<FamilyLink>&);

  const MpiCalls& calls() const { return calls_; }
  int rank() const { return rank_; }
  const std::vector<ProcessInfo>& processes() const { return processes_; }
  std::mutex& mutex() { return mutex_; }
  // The first of `count` numbers, ≥ at_least, never given before. Throws CommunicationError: they are used up.
  int take_contexts(int at_least, int count);
  int next_context() const { return next_context_; }
  bool any_aborted() const { return any_aborted_; }

 private:
  using Clock = std::chrono::steady_clock;

  bool advance_all();
  bool advance(ProcessGroup&);
  bool advance_notices();
  struct Notice;  // the message that tells of an abort
  struct Listening {
    std::weak_ptr<FamilyLink> link;
    std::shared_ptr<Notice> notice;
  };
  bool hear(Listening&);
  void send_notices(FamilyLink&);
  void abort_locked(FamilyLink&, std::string_view reason) noexcept;
  void fail(ProcessGroup&);
  bool anything_under_way() const;
  std::chrono::microseconds nap() const;
  [[noreturn]] void give_up(ProcessGroup&, const ProcessOperation&);
  std::vector<std::string> absent(const ProcessGroup&, const ProcessOperation&) const;
  void deadline_passed(ProcessGroup&, const ProcessOperation&);
  void stand_in();

  const MpiCalls& calls_;
  const int rank_;
  const std::vector<ProcessInfo> processes_;
  const int context_limit_;
  bool crowded_ = false;  // more processes than cores here: whoever waits gives way

  std::mutex mutex_;
  std::vector<std::weak_ptr<ProcessGroup>> groups_;
  std::vector<Listening> listening_;  // of families over several hosts
  std::vector<std::shared_ptr<Notice>> sent_notices_;
  std::vector<ProcessGroup::OperationPointer> abandoned_;  // MPI may still touch their tensors
  int next_context_ = 0;
  std::atomic<bool> any_aborted_{false};

  std::condition_variable stand_in_;
  std::atomic<bool> overlapping_{false};  // the last operation was waited for long after its start
  std::atomic<int> waiters_{0};
  std::atomic<bool> notices_due_{false};
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace troupe::parallel
