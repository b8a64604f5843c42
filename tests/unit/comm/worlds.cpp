#include <thread>

#include "tests/unit/comm/conformance.h"

namespace troupe::parallel {
namespace {

void guarded(const std::function<void(Communicator&, Device&)>& body, Communicator& comm) {
  const auto device = kernels::make_cpu_device(1);
  try {
    body(comm, *device);
  } catch (const std::exception& error) {
    ADD_FAILURE() << "rank " << comm.rank() << " threw: " << error.what();
    comm.abort(error.what());
  }
}

class ThreadWorld final : public World {
 public:
  explicit ThreadWorld(int size) : size_(size) {}
  std::string name() const override { return "threads" + std::to_string(size_); }
  int size() const override { return size_; }
  void run(const std::function<void(Communicator&, Device&)>& body, CommunicatorOptions options) override {
    auto ends = make_thread_communicators(size_, "world", options);
    std::vector<std::thread> threads;
    for (auto& end : ends) {
      threads.emplace_back([&body, comm = std::move(end)] { guarded(body, *comm); });
    }
    for (auto& thread : threads) thread.join();
  }

 private:
  int size_;
};

class SelfWorld final : public World {
 public:
  std::string name() const override { return "self"; }
  int size() const override { return 1; }
  void run(const std::function<void(Communicator&, Device&)>& body, CommunicatorOptions) override {
    guarded(body, *make_self_communicator("world"));
  }
};

}  // namespace

std::shared_ptr<World> thread_world(int size) { return std::make_shared<ThreadWorld>(size); }
std::shared_ptr<World> self_world() { return std::make_shared<SelfWorld>(); }

uint64_t hash(uint64_t seed, int64_t rank, int64_t index) {
  uint64_t z = seed * 0x9E3779B97F4A7C15 + static_cast<uint64_t>(rank) * 0xD1B54A32D192ED03 +
               static_cast<uint64_t>(index) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

std::string error_of(const std::function<void()>& operation) {
  try {
    operation();
  } catch (const CommunicationError& error) {
    return error.what();
  }
  return "";
}

}  // namespace troupe::parallel
