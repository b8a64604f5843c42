#include "tests/simulator/training.h"

#include <signal.h>

#include <algorithm>
#include <filesystem>

#include "actors/train/process_agent_actor.h"
#include "tests/simulator/head.h"
#include "tests/simulator/rank.h"

namespace troupe::simulator {
namespace {

using namespace std::chrono_literals;

// So long a rank may stand still before it is lost, and a little less.
constexpr std::chrono::seconds kNoticed{4};

class Training {
 public:
  explicit Training(Simulation& simulation)
      : simulation_(simulation),
        random_(simulation.random("training")),
        steps_(static_cast<int64_t>(1050 + random_.below(250))),
        ledger_(simulation, steps_) {
    train::RunConfig& config = recipe().setup.options;
    good_ = {.delay = draw(20us, 300us), .jitter = draw(0us, 1ms)};
    simulation_.network.set(good_);
    shape_ = {.out = fmt::format("run-{}", simulation.seed()),
              .links = train::kRankLinks,
              .ranks = static_cast<int>(1 + random_.below(4)),
              .step = draw(300us, 3ms),
              .staging = draw(0us, 30ms),
              .slowest = draw(1ms, 80ms),
              .death_signals = random_.below(3) > 0};
    shape_.head.max_restarts = static_cast<int>(random_.below(4));
    shape_.head.window = random_.below(2) == 0 ? nanoseconds(10min) : draw(500ms, 10s);
    config.train.steps = steps_;
    config.checkpoint.every = random_.below(8) == 0 ? 0 : static_cast<int64_t>(60 + random_.below(300));
    config.checkpoint.keep = static_cast<int64_t>(random_.below(4));
    for (uint64_t i = 3 + random_.below(5); i > 0; --i)
      faults_.push_back(static_cast<int64_t>(1 + random_.below(static_cast<uint64_t>(steps_ - 1))));
    std::ranges::sort(faults_, std::greater());
  }
  ~Training() {
    simulation_.kill_all();
    std::error_code ignored;
    std::filesystem::remove_all(shape_.out, ignored);
  }

  void run() {
    while (simulation_.holds() && !done_) {
      simulation_.require(heads_.size() < 25, "a run ends", "not after {} starts", heads_.size());
      start();
      const bool came = simulation_.run_until([&] { return !simulation_.holds() || given_up_ || head().over(); }, 900s);
      simulation_.require(came, "a run ends", "start {} has not within 900 s", heads_.size());
      if (!given_up_) finish(head());
    }
    // Who was given up too early finds out.
    for (const auto& head : heads_) {
      if (!simulation_.holds()) return;
      if (head->process() == nullptr) continue;
      const bool came = simulation_.run_until([&] { return !simulation_.holds() || head->over(); }, 900s);
      simulation_.require(came, "a run whose lease was taken ends", "start {}", head->start().number);
      finish(*head);
    }
    if (!simulation_.holds()) return;
    const auto empty = [this] {
      return std::ranges::all_of(heads_, [](const auto& head) { return head->host().empty(); });
    };
    simulation_.require(simulation_.run_until(empty, 20s), "nothing is left", "ranks of some generation");
    simulation_.run_for(3s);
    check();
  }

 private:
  nanoseconds draw(nanoseconds least, nanoseconds most) {
    return least + nanoseconds(static_cast<int64_t>(random_.uniform() * static_cast<double>((most - least).count())));
  }
  Head& head() { return *heads_.back(); }
  void later(nanoseconds delay, std::function<void()> what) {
    simulation_.loop.post_after(delay, *new actor::CallbackJob(std::move(what)));
  }

  void start() {
    (void)simulation_.run_until([&] { return !disk_.full; }, 60s);  // as an operator would
    given_up_ = false;
    const bool resume = !heads_.empty();
    heads_.push_back(std::make_unique<Head>(simulation_, ledger_, disk_, shape_, resume, [this](int64_t step) {
      if (faults_.empty() || step < faults_.back()) return;
      faults_.pop_back();
      later(0ns, [this] { go_wrong(); });
    }));
  }
  void finish(Head& head) {
    if (!head.over() || !simulation_.holds()) return;
    done_ |= head.finish();
  }

  struct Victim {
    std::shared_ptr<Gang> gang;
    size_t rank = 0;
    uint64_t process = 0;
  };
  std::optional<Victim> any_rank() {
    const auto gang = head().host().newest();
    if (gang == nullptr || gang->launcher_end) return std::nullopt;
    std::vector<Victim> alive;
    for (size_t rank = 0; rank < gang->ranks.size(); ++rank) {
      if (!gang->ranks[rank].over && gang->ranks[rank].process != 0)
        alive.push_back({gang, rank, gang->ranks[rank].process});
    }
    if (alive.empty()) return std::nullopt;
    return alive[random_.below(alive.size())];
  }
  // What can be done to a rank; false: there is none.
  bool harm_rank(uint64_t what);
  bool harm_head(uint64_t what);
  void harm_links(nanoseconds a_while);
  void go_wrong();
  void check();

  // `how`: in part, how the head would name it.
  void hurt(const Victim& victim, const std::string& how) {
    Harm& harm = ledger_.harm(victim.gang->generation);
    if (harm.victims++ == 0) harm.first = how;
  }

  Simulation& simulation_;
  RandomStream random_;
  const int64_t steps_;
  RunLedger ledger_;
  RunShape shape_;
  net::SimulatedConditions good_;
  Disk disk_;
  std::vector<int64_t> faults_;  // the steps after which something goes wrong, the last first
  std::vector<std::unique_ptr<Head>> heads_;
  bool given_up_ = false;  // the head at hand, which may go on
  bool done_ = false;
  size_t done_wrong_ = 0;  // faults
};

bool Training::harm_rank(uint64_t what) {
  const auto victim = any_rank();
  if (!victim) return false;
  const auto& [gang, rank, id] = *victim;
  Process& process = *simulation_.find(id);
  const std::string pid = fmt::format("pid {})", process.local().self().pid);
  nanoseconds a_while = random_.below(2) == 0 ? draw(1ms, 500ms) : draw(kNoticed, 9s);
  switch (what) {
    default: {
      const ProcessEnd end = random_.below(2) == 0 ? ProcessEnd{0, SIGKILL} : ProcessEnd{139, 0};
      simulation_.fault(fmt::format("{} {}", process.name(), end.describe()));
      hurt(*victim, fmt::format("{} {}", pid, end.describe()));
      head().host().end_rank(gang, rank, end);
      return true;
    }
    case 3:
      simulation_.fault(fmt::format("{} and its keeper are killed", process.name()));
      hurt(*victim, "");
      gang->ranks[rank].kept = false;
      head().host().end_rank(gang, rank, {0, SIGKILL});
      return true;
    case 4:
      simulation_.fault(fmt::format("mpirun of generation {} is killed", gang->generation));
      hurt(*victim,
           fmt::format("mpirun (host {}, pid {}) was killed by SIGKILL", head().host().options().name, gang->launcher));
      head().host().kill_launcher(gang);
      return true;
    case 5:
    case 6:
      // For ever, where somebody is there to kill it.
      if (shape_.death_signals && random_.below(4) == 0) a_while = 1h;
      simulation_.fault(fmt::format("{} stands still for {} ms", process.name(), a_while / 1ms));
      // Who has not come up yet is not known by name.
      if (a_while >= kNoticed) hurt(*victim, gang->ranks[rank].joined ? pid : "");
      gang->ranks[rank].deaf_until = simulation_.now() + a_while;
      process.hold();
      later(a_while, [this, id] {
        if (Process* held = simulation_.find(id)) held->go_on();
      });
      return true;
    case 7: {
      const nanoseconds pace = draw(5us, 200us);
      simulation_.fault(fmt::format("{} takes {} µs for everything", process.name(), pace / 1us));
      process.slow_down(pace);
      later(a_while, [this, id] {
        if (Process* slow = simulation_.find(id)) slow->slow_down(0ns);
      });
      return true;
    }
    case 8: {
      if (head().process() == nullptr) return false;
      simulation_.fault(fmt::format("{} and its head do not hear each other for {} ms", process.name(), a_while / 1ms));
      if (a_while >= kNoticed) hurt(*victim, "");
      gang->ranks[rank].deaf_until = simulation_.now() + std::min<nanoseconds>(a_while, shape_.links.silence_limit);
      const uint64_t other = head().process()->id();
      simulation_.network.cut(id, other);
      if (random_.below(2) == 0) simulation_.network.cut(other, id);
      later(a_while, [this, id, other] {
        simulation_.network.mend(id, other);
        simulation_.network.mend(other, id);
      });
      return true;
    }
    case 9:
      simulation_.fault(fmt::format("the next loss of generation {} is not finite", gang->generation));
      ledger_.harm(gang->generation).answers_alone = true;
      gang->not_finite = true;
      return true;
  }
}

bool Training::harm_head(uint64_t what) {
  Process* process = head().process();
  if (process == nullptr || head().over() || given_up_) return false;
  const uint64_t id = process->id();
  const nanoseconds a_while = random_.below(2) == 0 ? draw(1ms, 500ms) : draw(kNoticed, 9s);
  switch (what) {
    case 0: {
      const Death death = random_.below(3) > 0 ? Death::of_process : Death::of_machine;
      simulation_.fault(death == Death::of_process ? "the head is killed" : "the head's host crashes");
      head().kill(death);
      return true;
    }
    case 1:
      simulation_.fault(fmt::format("the head stands still for {} ms", a_while / 1ms));
      ledger_.disturbed(simulation_.now() + a_while);
      process->hold();
      later(a_while, [this, id] {
        if (Process* held = simulation_.find(id)) held->go_on();
      });
      return true;
    case 2: {
      const nanoseconds pace = draw(5us, 100us);
      simulation_.fault(fmt::format("the head takes {} µs for everything", pace / 1us));
      ledger_.disturbed(simulation_.now() + a_while);
      process->slow_down(pace);
      later(a_while, [this, id] {
        if (Process* slow = simulation_.find(id)) slow->slow_down(0ns);
      });
      return true;
    }
    case 3:
      simulation_.fault("the run is asked to stop");
      head().stop();
      return true;
    case 4:
      simulation_.fault("the head is given up, and another one started");
      std::filesystem::remove(shape_.out + "/.lock");  // which its file system does not share between hosts
      given_up_ = true;
      return true;
    case 5: {
      const auto gang = head().host().newest();
      if (gang == nullptr || gang->generation == 0) return false;
      simulation_.fault(fmt::format("a worker of generation {} comes back", gang->generation - 1));
      Process& stray = simulation_.start("stray", shape_.links, static_cast<uint64_t>(gang->generation - 1));
      stray.node().spawn<Stray>({}, head().host());
      later(3s, [this, stray = stray.id()] { simulation_.kill(stray, Death::of_process); });
      return true;
    }
    case 6:
      simulation_.fault(fmt::format("the disk is full for {} ms", a_while / 1ms));
      ledger_.disk_is_full();
      disk_.full = true;
      later(a_while, [this] { disk_.full = false; });
      return true;
    default:
      if (ledger_.whole().size() < 2) return false;
      const int64_t step = *ledger_.whole().rbegin();
      simulation_.fault(fmt::format("the checkpoint of step {} is damaged, and the head killed", step));
      damage(fmt::format("{}/checkpoints/step-{:08}", shape_.out, step));
      ledger_.damaged(step);
      head().kill(Death::of_process);
      return true;
  }
}

void Training::harm_links(nanoseconds a_while) {
  simulation_.fault("the network loses, doubles and reorders frames");
  net::SimulatedConditions bad = good_;
  bad.dropped = bad.doubled = bad.overtaken = 0.02 * random_.uniform();
  ledger_.disturbed(simulation_.now() + a_while);
  simulation_.network.set(bad);
  later(a_while, [this] { simulation_.network.set(good_); });
}

void Training::go_wrong() {
  if (done_ || !simulation_.holds()) return;
  ++done_wrong_;
  const uint64_t what = random_.below(20);
  const bool done = what < 10 ? harm_rank(what) : what < 19 && harm_head(what - 10);
  if (!done) harm_links(draw(5ms, 50ms));
  // Troubles come in company, and find the next generation on its way up.
  if (!faults_.empty() && done_wrong_ + faults_.size() > 3 && random_.below(3) == 0) {
    faults_.pop_back();
    later(random_.below(2) == 0 ? draw(0ms, 30ms) : draw(0ms, 600ms), [this] { go_wrong(); });
  }
}

// Every step and every checkpoint is that of a run to which nothing happened.
void Training::check() {
  for (const auto& process : simulation_.processes())
    simulation_.require(process->name() == "stray", "nothing is left", "{}", process->name());
  const auto text = read_file(shape_.out + "/metrics.jsonl");
  simulation_.require(text.ok(), "metrics are written", "");
  if (text.ok()) ledger_.check_metrics(*text);
  PosixFileSystem files;
  for (const std::string& folder : checkpoint::CheckpointStore(files, shape_.out + "/checkpoints").list()) {
    const int64_t step = step_of(folder);
    simulation_.require(!ledger_.whole().contains(step) || holds_state_after(folder, step),
                        "what is published is whole", "{}", folder);
  }
}

}  // namespace

void run_generations(Simulation& simulation) {
  Training training(simulation);
  training.run();
}

}  // namespace troupe::simulator
