#include "launcher/commands/measure_mesh.h"

#include <time.h>

#include <algorithm>
#include <chrono>

#include "launcher/commands/link_peer.h"
#include "runtime/actor/mesh_ref.h"
#include "runtime/actor/waiting.h"
#include "runtime/base/check.h"

namespace troupe::launcher {
namespace {

using actor::Task;

constexpr int kRanksOfANode = 8;

double thread_seconds() {
  timespec time{};
  TROUPE_CHECK(::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Asks all ranks at once, and adds up their answers.
class Root : public actor::Actor {
 public:
  explicit Root(actor::MeshRef<Answerer> ranks) : ranks_(std::move(ranks)) {}

  // Seconds of a round, on average: by the clock, or of this thread's processor time.
  Task<Result<double>> rounds(int64_t count, double (*clock)()) {
    const double start = clock();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t sum = TROUPE_CO_TRY(co_await ranks_.reduce<&Answerer::echo>(std::plus<>(), i, kLinkPatience));
      TROUPE_CHECK(sum == i * static_cast<int64_t>(ranks_.size()));
    }
    co_return (clock() - start) / static_cast<double>(count);
  }

 private:
  actor::MeshRef<Answerer> ranks_;
};

}  // namespace

Status measure_mesh(double scale, const std::vector<std::string>& peer, Figures& figures) {
  const auto rounds = static_cast<int64_t>(std::max(1.0, 200 * scale));
  for (const size_t nodes : {4, 16}) {
    const auto peers = TROUPE_TRY(LinkPeers::start({"tcp"}, nodes, kRanksOfANode, peer));
    std::vector<actor::Ref<Answerer>> ranks;
    for (size_t node = 0; node < nodes; ++node) {
      for (int i = 0; i < kRanksOfANode; ++i) ranks.push_back(TROUPE_TRY(peers->answerer(node, i)));
    }
    const auto root = peers->node().spawn<Root>({}, actor::MeshRef<Answerer>(std::move(ranks)));
    const auto us = [&](double (*clock)(), double share) -> Result<double> {
      return TROUPE_TRY(root.ask_blocking<&Root::rounds>(rounds, clock, kLinkPatience)) * share * 1e6;
    };
    const std::string name = fmt::format("broadcast and gather over tcp, {} nodes x {} ranks", nodes, kRanksOfANode);
    TROUPE_TRY(figures.add({name, "us"}, [&] { return us(wall_seconds, 1); }));
    TROUPE_TRY(figures.add({name + ": root's CPU a node", "us"},
                           [&] { return us(thread_seconds, 1 / static_cast<double>(nodes)); }));
  }
  return {};
}

}  // namespace troupe::launcher
