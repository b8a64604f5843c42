#include "parallel/comm/thread_group.h"

namespace troupe::parallel {
namespace {

class ThreadPending final : public Pending::Operation {
 public:
  ThreadPending(std::shared_ptr<ThreadGroup> group, std::shared_ptr<ThreadOperation> operation, int rank, size_t part)
      : group_(std::move(group)), operation_(std::move(operation)), rank_(rank), part_(part) {}

  ~ThreadPending() override {
    if (!waited_) group_->drop(rank_, *operation_);
    release();
  }

  std::chrono::nanoseconds wait() override {
    const auto idle = group_->wait(*operation_);
    waited_ = true;
    return idle;
  }

  bool done() override { return operation_->complete.load(std::memory_order_acquire); }

 private:
  // Nobody reads this rank's part any more, whether it was carried out or not: let go of its tensors here, on
  // their own thread. (A part that others may still look at keeps its peer and tag.)
  void release() noexcept {
    Request& part = operation_->requests[part_];
    part.in_tensor = {};
    part.out_tensor = {};
  }

  std::shared_ptr<ThreadGroup> group_;
  std::shared_ptr<ThreadOperation> operation_;
  int rank_;
  size_t part_;  // of operation_->requests
  bool waited_ = false;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<ThreadGroup> group, int rank)
      : Communicator(rank, group->size(), group->name()), group_(std::move(group)) {}
  ~ThreadCommunicator() override { group_->leave(rank()); }

  std::unique_ptr<Communicator> split(int color, int key, std::string name) override {
    Request request{.signature = {.kind = OperationKind::split}, .color = color, .key = key, .name = std::move(name)};
    const auto operation = group_->start(rank(), std::move(request));
    group_->wait(*operation);
    const auto r = static_cast<size_t>(rank());
    if (!operation->groups[r]) return nullptr;
    return std::make_unique<ThreadCommunicator>(operation->groups[r], operation->ranks[r]);
  }

  void abort(std::string_view reason) noexcept override { group_->family().abort(reason); }
  std::string under_way() const override { return group_->under_way(rank()); }

 protected:
  Pending start(Request&& request) override {
    const size_t part = request.signature.kind == OperationKind::send      ? 0
                        : request.signature.kind == OperationKind::receive ? 1
                                                                           : static_cast<size_t>(rank());
    return Pending(std::make_shared<ThreadPending>(group_, group_->start(rank(), std::move(request)), rank(), part));
  }

 private:
  std::shared_ptr<ThreadGroup> group_;
};

}  // namespace

// One thread alone: every operation is complete as soon as it is waited for, a send as soon as it is received.
std::unique_ptr<Communicator> make_self_communicator(std::string name) {
  return std::move(make_thread_communicators(1, std::move(name))[0]);
}

std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int size, std::string name,
                                                                     CommunicatorOptions options) {
  TROUPE_CHECK(size >= 1, "a group of {} ranks", size);
  const auto family = std::make_shared<ThreadFamily>();
  const auto group = std::make_shared<ThreadGroup>(size, std::move(name), options, family);
  family->add(group);
  std::vector<std::unique_ptr<Communicator>> ends;
  for (int rank = 0; rank < size; ++rank) ends.push_back(std::make_unique<ThreadCommunicator>(group, rank));
  return ends;
}

}  // namespace troupe::parallel
