#include "tests/simulator/gang.h"

#include <signal.h>

#include <algorithm>

#include "tests/simulator/rank.h"

namespace troupe::simulator {

using actor::Task;
using namespace std::chrono_literals;

namespace {

// The node of a process, and back.
constexpr uint64_t kFirstPid = 100;
// A keeper has told the agent after so long.
constexpr std::chrono::milliseconds kReport{15};

// What the agent holds of a gang.
class Processes final : public train::GangProcesses {
 public:
  Processes(Host& host, std::shared_ptr<Gang> gang) : host_(host), gang_(std::move(gang)) {}
  ~Processes() override { kill(); }
  bool joined(int rank, pid_t pid) override {
    Gang::Member& member = gang_->ranks.at(static_cast<size_t>(rank));
    if (member.over || member.process + kFirstPid != static_cast<uint64_t>(pid)) return false;
    return member.joined = true;
  }
  std::optional<train::RankEnd> next_end() override {
    if (gang_->reports.empty()) return std::nullopt;
    train::RankEnd end = std::move(gang_->reports.front());
    gang_->reports.pop_front();
    return end;
  }
  std::optional<train::GangEnd> launcher_end() override {
    if (!gang_->launcher_end) return std::nullopt;
    return train::GangEnd{fmt::format("mpirun (host {}, pid {}) {}", host_.options().name, gang_->launcher,
                                      gang_->launcher_end->describe()),
                          "its output is in workers.log"};
  }
  void kill() override { host_.kill(gang_); }
  bool gone() override {
    return gang_->launcher_end &&
           std::ranges::all_of(gang_->ranks, [](const Gang::Member& member) { return !member.joined || member.over; });
  }

 private:
  Host& host_;
  const std::shared_ptr<Gang> gang_;
};

class Launcher final : public train::GangLauncher {
 public:
  explicit Launcher(Host& host) : host_(host) {}
  Result<std::unique_ptr<train::GangProcesses>> start(int ranks, int64_t generation) override {
    return std::unique_ptr<train::GangProcesses>(new Processes(host_, host_.start(ranks, generation)));
  }

 private:
  Host& host_;
};

}  // namespace

void Host::later(nanoseconds delay, std::function<void()> what) {
  simulation_.loop.post_after(delay, *new actor::CallbackJob(std::move(what)));
}

std::unique_ptr<train::GangLauncher> Host::launcher() { return std::make_unique<Launcher>(*this); }

int Host::at_work() const {
  int count = 0;
  for (const auto& gang : gangs_) {
    count += static_cast<int>(
        std::ranges::count_if(gang->ranks, [](const Gang::Member& member) { return member.joined && !member.over; }));
  }
  return count;
}

std::shared_ptr<Gang> Host::start(int ranks, int64_t generation) {
  ledger_.gang_begins(start_, generation, at_work());
  auto gang = std::make_shared<Gang>();
  gang->generation = generation;
  gang->launcher = static_cast<pid_t>(10'000 + generation);
  gang->ranks.resize(static_cast<size_t>(ranks));
  gangs_.push_back(gang);
  for (size_t rank = 0; rank < gang->ranks.size(); ++rank) later(soon(), [this, gang, rank] { boot(gang, rank); });
  return gang;
}

void Host::boot(const std::shared_ptr<Gang>& gang, size_t rank) {
  Gang::Member& member = gang->ranks[rank];
  if (member.over) return;
  if (gang->launcher_end) {
    member.over = true;
    return;
  }
  Process& process = simulation_.start(fmt::format("rank-{}.g{}", rank, gang->generation), options_.links,
                                       static_cast<uint64_t>(gang->generation));
  member.process = process.id();
  // Without its head a rank has nothing to do.
  process.on_link = [this, gang, rank](const net::Peer&, const actor::Cause& lost) {
    if (lost == nullptr) return;
    later(0ns, [this, gang, rank, lost] { end_rank(gang, rank, {1, 0}, "troupe: " + lost->message()); });
  };
  process.node().spawn<GangWorker>({.name = "worker"}, *this, gang, static_cast<int>(rank));
}

void Host::end_rank(const std::shared_ptr<Gang>& gang, size_t rank, ProcessEnd end, const std::string& last_words) {
  Gang::Member& member = gang->ranks[rank];
  if (std::exchange(member.over, true)) return;
  simulation_.trace(fmt::format("rank {} of generation {} {}", rank, gang->generation, end.describe()));
  simulation_.kill(member.process, Death::of_process);
  // Its keeper reports before mpirun can miss either.
  const nanoseconds reported = std::min<nanoseconds>(soon(), kReport);
  if (member.kept && member.process != 0) {
    const train::RankEnd report{static_cast<int>(rank), static_cast<pid_t>(member.process + kFirstPid), end,
                                simulation_.now(), last_words};
    later(reported, [gang, report] { gang->reports.push_back(report); });
  }
  later(reported + soon(), [this, gang, rank, end] { missed(gang, rank, end); });
}

void Host::missed(const std::shared_ptr<Gang>& gang, size_t gone, ProcessEnd end) {
  const bool well = end.signal == 0 && end.exit_code == 0;
  gang->ranks[gone].missed = true;
  gang->failed |= !well;
  if (gang->launcher_end) return;
  if (std::ranges::all_of(gang->ranks, [](const Gang::Member& member) { return member.missed; })) {
    gang->launcher_end = ProcessEnd{gang->failed ? 1 : 0, 0};
    simulation_.trace(fmt::format("mpirun of generation {} {}", gang->generation, gang->launcher_end->describe()));
  } else if (!well) {
    for (size_t rank = 0; rank < gang->ranks.size(); ++rank)
      later(soon(), [this, gang, rank] { end_rank(gang, rank, {0, SIGTERM}); });
  }
}

void Host::kill(const std::shared_ptr<Gang>& gang) {
  if (headless_) return;  // it did not live to do it
  for (size_t rank = 0; rank < gang->ranks.size(); ++rank) {
    if (!gang->ranks[rank].joined) continue;
    later(soon(), [this, gang, rank] { end_rank(gang, rank, {0, SIGKILL}); });
  }
  later(soon(), [this, gang] { kill_launcher(gang); });
}

void Host::kill_launcher(const std::shared_ptr<Gang>& gang) {
  if (gang->launcher_end) return;
  gang->launcher_end = ProcessEnd{0, SIGKILL};
  simulation_.trace(fmt::format("mpirun of generation {} was killed", gang->generation));
  // Keepers and ranks die with it.
  for (size_t rank = 0; rank < gang->ranks.size(); ++rank) {
    gang->ranks[rank].kept = false;
    later(soon(), [this, gang, rank] { end_rank(gang, rank, {0, SIGKILL}); });
  }
}

void Host::head_died() {
  headless_ = true;
  for (const auto& gang : gangs_) {
    if (options_.death_signals) later(soon(), [this, gang] { kill_launcher(gang); });
  }
}

void Host::crash() {
  headless_ = true;
  for (const auto& gang : gangs_) {
    if (!gang->launcher_end) gang->launcher_end = ProcessEnd{0, SIGKILL};
    for (Gang::Member& member : gang->ranks) {
      member.over = true;
      simulation_.kill(member.process, Death::of_machine);
    }
  }
}

bool Host::empty(nanoseconds patience) const {
  const bool told = options_.death_signals || patience < 0ns;
  return std::ranges::all_of(gangs_, [&](const auto& gang) {
    return std::ranges::all_of(gang->ranks, [&](const Gang::Member& member) {
      return member.over || (!told && simulation_.now() < member.deaf_until + patience);
    });
  });
}

Task<Result<Meeting>> Host::meet(std::shared_ptr<Gang> gang, bool stop) {
  gang->stop |= stop;
  const actor::Handoff<Meeting> all;
  gang->waiting.push_back(all.sender());
  if (++gang->arrived == gang->ranks.size()) {
    later(options_.step, [gang] {
      gang->arrived = 0;
      const Meeting meeting{std::exchange(gang->stop, false), gang->not_finite};
      for (const auto& waiting : std::exchange(gang->waiting, {})) waiting.set(meeting);
    });
  }
  co_return co_await all.wait(actor::kNever);
}

}  // namespace troupe::simulator
