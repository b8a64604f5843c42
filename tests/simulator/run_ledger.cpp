#include "tests/simulator/run_ledger.h"

#include <algorithm>
#include <charconv>

namespace troupe::simulator {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kModel = 0x7120B9E;

// What was disturbed may be noticed so much later: a link is cut after 5 s of silence.
constexpr std::chrono::seconds kEcho{12};

// The number after `name` in a line of JSON; -1: there is none.
template <class T>
T field(std::string_view line, std::string_view name) {
  T value = -1;
  const size_t at = line.find(name);
  if (at != std::string_view::npos) std::from_chars(line.data() + at + name.size(), line.data() + line.size(), value);
  return value;
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

}  // namespace

uint64_t next_state(uint64_t state, int64_t step) { return random_u64(state ^ kModel, static_cast<uint64_t>(step)); }

uint64_t state_after(int64_t step) {
  static std::vector<uint64_t> states{0};
  for (auto next = static_cast<int64_t>(states.size()); next <= step; ++next)
    states.push_back(next_state(states.back(), next));
  return states[static_cast<size_t>(step)];
}

double loss_after(int64_t step) { return to_uniform_double(state_after(step)); }

Start& RunLedger::begin(train::HeadOptions options) {
  if (!starts_.empty()) starts_.back()->superseded = true;
  Start& start = *starts_.emplace_back(std::make_unique<Start>());
  start.number = static_cast<int>(starts_.size());
  start.options = options;
  return start;
}

void RunLedger::lease_taken(Start& start, int64_t generation) {
  simulation_.require(generation > lease_, "no two generations share a number", "{} after {}", generation, lease_);
  simulation_.require(!start.superseded || starts_.back()->generation < 0, "whose lease was taken begins nothing",
                      "start {} begins generation {}", start.number, generation);
  start.generation = lease_ = generation;
}

void RunLedger::published(int64_t step, int64_t generation, bool whole) {
  simulation_.require(generation == lease_, "only the newest generation commits",
                      "generation {} gives step {} its name, and generation {} has begun", generation, step, lease_);
  simulation_.require(whole, "what is published is whole", "step {} of generation {}", step, generation);
  published_.insert(step);
  whole_.insert(step);
}

void RunLedger::gang_begins(Start& start, int64_t generation, int left_of_others) {
  simulation_.require(left_of_others == 0, "a generation starts when nothing is left of the last",
                      "generation {}: {} ranks live", generation, left_of_others);
  begun_[generation] = simulation_.now();
  start.announced = false;
  start.running = false;
  harms_[generation];
}

void RunLedger::stepped(const Start& start, int64_t generation, int64_t step) {
  simulation_.require(generation == start.generation, "one generation works at a time",
                      "generation {} does step {}, and generation {} has begun", generation, step, start.generation);
}

void RunLedger::plan_given(Start& start, int64_t generation, const train::StepPlan& plan) {
  if (generation != start.generation || std::exchange(start.running, true)) return;
  const int64_t newest = whole_.empty() ? 0 : *whole_.rbegin();
  if (start.superseded) return;  // what others have saved since is theirs
  simulation_.require(plan.first_step == newest + 1, "a generation goes on from the newest checkpoint",
                      "generation {} begins with step {}, and step {} was saved", generation, plan.first_step, newest);
}

void RunLedger::started(Start& start, const train::RunStart& run) {
  simulation_.require(run.generation == start.generation, "a generation is announced under its number",
                      "generation {} as {}", start.generation, run.generation);
  start.told = run.first_step - 1;
  start.announced = true;
}

void RunLedger::counted(Start& start, const train::MetricsLine& line) {
  simulation_.require(line.generation == start.generation, "what an older generation says does not count",
                      "step {} of generation {} counts in generation {}", line.step, line.generation, start.generation);
  simulation_.require(line.step == start.told + 1, "every step counts once, in order", "step {} after step {}",
                      line.step, start.told);
  simulation_.require(line.loss == loss_after(line.step), "every step is that of the undisturbed run",
                      "step {} of generation {}", line.step, line.generation);
  start.told = line.step;
}

std::span<const Loss> RunLedger::recent(const Start& start, nanoseconds more) {
  const nanoseconds now = start.lost.back().at;
  const auto first =
      std::ranges::find_if(start.lost, [&](const Loss& lost) { return now - lost.at <= start.options.window + more; });
  return {first, start.lost.end()};
}

void RunLedger::warned(Start& start, const std::string& message) {
  const std::string next = fmt::format("; generation {} starts on ", start.generation + 1);
  const size_t end = message.find(next);
  if (end == std::string::npos) return;
  start.lost.push_back({simulation_.now(), message.substr(0, end)});
  start.announced = false;
  check_cause(start, start.lost.back().cause);
  simulation_.require(static_cast<int>(recent(start).size()) <= start.options.max_restarts,
                      "too many lost generations end the run", "{} within {} s are allowed, the last is: {}",
                      start.options.max_restarts, start.options.window / 1s, message);
}

// Who is named was hurt; where only one was, it is that one.
void RunLedger::check_cause(const Start& start, const std::string& cause) {
  const Harm& harm = harms_[start.generation];
  const bool disturbed = disturbed_until_ >= 0ns && disturbed_until_ + kEcho >= begun_[start.generation];
  simulation_.require(harm.victims > 0 || disturbed, "a generation is lost for a reason", "generation {}: {}",
                      start.generation, cause);
  if (harm.victims != 1 || disturbed || harm.first.empty()) return;
  simulation_.require(contains(cause, harm.first), "a lost generation's cause is the first one",
                      "generation {} was lost by \"{}\", and it says: {}", start.generation, harm.first, cause);
}

void RunLedger::ended(Start& start, const Result<train::RunEnd>& end) {
  simulation_.trace(end.ok() ? fmt::format("start {} ends after step {}", start.number, end->steps)
                             : fmt::format("start {} fails: {}", start.number, end.error().message()));
  if (!end.ok()) return check_failure(start, end.error().message());
  simulation_.require(end->interrupted == (end->steps < steps_), "a run says how it ended", "after step {} of {}",
                      end->steps, steps_);
  simulation_.require(!end->interrupted || start.stop_asked, "only who is asked stops", "after step {}", end->steps);
  simulation_.require(end->steps == 0 || published_.contains(end->steps), "what a run ends with is saved", "step {}",
                      end->steps);
  simulation_.require(!start.announced || start.told == end->steps, "every step is counted when the run ends",
                      "{} of {}", start.told, end->steps);
}

void RunLedger::check_failure(Start& start, const std::string& why) {
  if (contains(why, "another run has begun generation"))
    return simulation_.require(start.superseded, "a lease is lost only to others", "{}", why);
  if (contains(why, "No space left on device"))
    return simulation_.require(disk_was_full_, "a run fails for a reason", "{}", why);
  if (contains(why, "the loss is nan"))
    return simulation_.require(harms_[start.generation].answers_alone, "a run fails for a reason", "{}", why);
  if (contains(why, ", while the run was ending")) {
    return simulation_.require(start.stop_asked, "a run fails for a reason", "{}", why);
  }
  constexpr std::string_view kFirst = "too many; the first: ";
  const size_t at = why.find(kFirst);
  if (at == std::string::npos) {
    // Its checkpoints may be pruned by the one that has taken over.
    return simulation_.require(start.superseded && contains(why, "was not saved"), "a run fails for a reason", "{}",
                               why);
  }
  const std::string first = why.substr(at + kFirst.size());
  // The last one was not announced: where it is the first, too, its cause stands here.
  const int most = start.options.max_restarts;
  start.lost.push_back({simulation_.now(), most == 0 ? first : ""});
  if (most == 0) check_cause(start, first);
  // A slow head has counted a little earlier.
  const auto in_time = recent(start), at_most = recent(start, 50ms);
  simulation_.require(static_cast<int>(at_most.size()) > most, "lost generations outside the window are forgotten",
                      "{} within {} s are allowed, and the run ends: {}", most, start.options.window / 1s, why);
  simulation_.require(first == in_time.front().cause || first == at_most.front().cause,
                      "too many lost generations end the run with the first cause", "\"{}\", not \"{}\"", first,
                      in_time.front().cause);
}

void RunLedger::check_metrics(const std::string& text) {
  std::map<int64_t, std::pair<int64_t, double>> last;  // generation and loss, by step
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const auto step = field<int64_t>(line, "\"step\":"), generation = field<int64_t>(line, "\"generation\":");
    auto& of = last.try_emplace(step, -1, 0.0).first->second;
    simulation_.require(generation != of.first, "every step counts once, in order",
                        "step {} of generation {} is written twice", step, generation);
    if (generation > of.first) of = {generation, field<double>(line, "\"loss\":")};
  }
  simulation_.require(static_cast<int64_t>(last.size()) == steps_, "every step is written", "{} of {}", last.size(),
                      steps_);
  for (const auto& [step, line] : last) {
    simulation_.require(line.second == loss_after(step), "every step is that of the undisturbed run",
                        "step {} of generation {} in metrics.jsonl", step, line.first);
  }
}

}  // namespace troupe::simulator
