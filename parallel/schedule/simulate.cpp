#include "parallel/schedule/simulate.h"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <tuple>

#include "parallel/schedule/rank_rules.h"

namespace troupe::parallel {
namespace {

constexpr size_t kMostNamed = 8;  // ranks that a deadlock names

// An operation under way between ranks.
struct Exchange {
  struct Starter {
    int rank;
    size_t index;  // in its list
  };
  std::vector<int> ranks;          // that take part; a message: sender, receiver
  std::vector<Starter> started;    // a message: the first of them, then the other
  std::vector<int> waiting;        // ranks in its `finish`
  double ready = 0, duration = 0;  // when the last of them started it, how long it takes
  bool complete = false;
  double end = 0;
};

class Simulator {
 public:
  Simulator(const StepPlan& plan, std::span<const Program> programs, const Duration& duration)
      : plan_(plan), duration_(duration) {
    for (size_t rank = 0; rank < programs.size(); ++rank)
      ranks_.emplace_back(plan, static_cast<int>(rank), programs[rank]);
  }

  Result<Simulation> run() {
    for (int rank = 0; rank < static_cast<int>(ranks_.size()); ++rank) awake_.push_back(rank);
    while (!awake_.empty()) {
      const int rank = awake_.front();
      awake_.pop_front();
      advance(rank);
      if (!wrong_.empty()) return failed("{}", wrong_);
    }
    for (const Rank& rank : ranks_) {
      if (!rank.ended()) return failed("{}", deadlock());
    }
    for (const Rank& rank : ranks_) {
      if (const std::string missing = rank.rules.missing(); !missing.empty())
        return failed("rank {} {} after its last instruction", rank.number, missing);
    }
    return result();
  }

 private:
  struct Rank {
    Rank(const StepPlan& plan, int number, const Program& program)
        : number(number), program(program), rules(plan, number) {}
    bool ended() const { return next == program.size(); }

    int number;
    const Program& program;
    RankRules rules;
    size_t next = 0;
    double clock = 0, busy = 0;
    std::map<Group, std::vector<int>> groups;       // ranks_of(), once asked for
    std::map<Group, size_t> collectives;            // started in each of its groups
    std::deque<std::shared_ptr<Exchange>> channel;  // collectives that it has started, until they are complete
    double channel_free = 0;
    std::vector<std::pair<Instruction, std::shared_ptr<Exchange>>> under_way;
  };

  Rank& at(int rank) { return ranks_[static_cast<size_t>(rank)]; }
  const Rank& at(int rank) const { return ranks_[static_cast<size_t>(rank)]; }
  std::string name(int rank, size_t index) const {
    return fmt::format("instruction {} of rank {} ({})", index, rank, at(rank).program[index].to_string());
  }
  const std::vector<int>& group_of(Rank& rank, Group group) const {
    const auto [entry, first] = rank.groups.try_emplace(group);
    if (first) entry->second = ranks_of(group, plan_.mesh, rank.number);
    return entry->second;
  }
  double duration(int rank, const Instruction& i) const { return duration_ ? duration_(rank, i) : 0; }

  // Until the rank ends, waits, or does something wrong.
  void advance(int number) {
    Rank& rank = at(number);
    while (!rank.ended() && wrong_.empty()) {
      const Instruction& i = rank.program[rank.next];
      const auto under_way =
          std::ranges::find_if(rank.under_way, [&](const auto& e) { return e.first == i.started(); });
      if (under_way != rank.under_way.end() && i.phase != Phase::start) {
        const std::shared_ptr<Exchange> exchange = under_way->second;
        if (!exchange->complete) {
          exchange->waiting.push_back(number);
          return;
        }
        rank.clock = std::max(rank.clock, exchange->end);
        rank.under_way.erase(under_way);
        if (i.phase == Phase::finish && refused(rank, i)) return;
        ++rank.next;
        continue;
      }
      if (refused(rank, i)) return;
      if (i.communicates()) {
        start(rank, i);
        if (i.action != Action::inside) ++rank.next;  // it is waited for here, the next time round
        continue;
      }
      compute(rank, i);
      ++rank.next;
    }
  }

  bool refused(Rank& rank, const Instruction& i) {
    if (const std::string why = rank.rules.take(i); !why.empty())
      wrong_ = fmt::format("{} {}", name(rank.number, rank.next), why);
    return !wrong_.empty();
  }

  void compute(Rank& rank, const Instruction& i) {
    const double time = duration(rank.number, i);
    if (time <= 0) return;
    const double begin = rank.clock;
    rank.clock += time;
    if (i.action == Action::update) {
      spans_.push_back({rank.number, SpanKind::update, begin, rank.clock});
      return;
    }
    rank.busy += time;
    SpanKind kind = i.action == Action::forward ? SpanKind::forward : SpanKind::backward;
    if (i.action == Action::backward && i.part == GradientPart::weights) kind = SpanKind::weights;
    spans_.push_back({rank.number, kind, begin, rank.clock, std::to_string(i.microbatch), i.virtual_stage});
  }

  void start(Rank& rank, const Instruction& i) {
    const std::shared_ptr<Exchange> exchange = i.is_message() ? message(rank, i) : collective(rank, i);
    if (!exchange) return;
    exchange->started.push_back({rank.number, rank.next});
    exchange->ready = std::max(exchange->ready, rank.clock);
    exchange->duration = std::max(exchange->duration, duration(rank.number, i));
    rank.under_way.emplace_back(i.started(), exchange);
    if (!i.is_message()) {
      rank.channel.push_back(exchange);
      settle(rank);
    } else if (exchange->started.size() == 2) {
      complete(*exchange, exchange->ready);
    }
  }

  std::shared_ptr<Exchange> message(Rank& rank, const Instruction& i) {
    const bool send = i.operation == OperationKind::send;
    const std::vector<int>& line = group_of(rank, i.group);
    if (i.peer < 0 || i.peer >= static_cast<int>(line.size())) {
      wrong_ = fmt::format("{} names a peer that does not exist", name(rank.number, rank.next));
      return nullptr;
    }
    const int peer = line[static_cast<size_t>(i.peer)];
    const auto key = send ? std::tuple(rank.number, peer, i.tag) : std::tuple(peer, rank.number, i.tag);
    Letterbox& box = letters_[key];
    std::deque<std::shared_ptr<Exchange>>& theirs = send ? box.received : box.sent;
    if (theirs.empty()) {
      auto exchange = std::make_shared<Exchange>();
      exchange->ranks = {std::get<0>(key), std::get<1>(key)};
      (send ? box.sent : box.received).push_back(exchange);
      return exchange;
    }
    const std::shared_ptr<Exchange> exchange = theirs.front();
    theirs.pop_front();
    const Exchange::Starter& other = exchange->started.front();
    const Instruction& o = at(other.rank).program[other.index];
    const Pipeline pipeline = plan_.pipeline();
    const auto chunk = [&](int of, const Instruction& m) {
      return pipeline.chunk(Mesh(plan_.mesh, of).rank(Axis::pipeline), m.virtual_stage);
    };
    const bool forward = i.action == Action::send_activation || i.action == Action::receive_activation;
    const bool other_forward = o.action == Action::send_activation || o.action == Action::receive_activation;
    const int step = forward == send ? 1 : -1;
    if (forward != other_forward || i.microbatch != o.microbatch || i.elements != o.elements ||
        chunk(rank.number, i) + step != chunk(other.rank, o)) {
      wrong_ = fmt::format("{} meets {}: they do not mean the same message", name(rank.number, rank.next),
                           name(other.rank, other.index));
    }
    return exchange;
  }

  std::shared_ptr<Exchange> collective(Rank& rank, const Instruction& i) {
    const std::vector<int>& ranks = group_of(rank, i.group);
    if (ranks.empty()) {
      wrong_ = fmt::format("{} is of a group that the rank is not in", name(rank.number, rank.next));
      return nullptr;
    }
    std::deque<std::shared_ptr<Exchange>>& all = collectives_[{i.group, ranks.front()}];
    const size_t number = rank.collectives[i.group]++;
    if (number == all.size()) {
      all.push_back(std::make_shared<Exchange>());
      all.back()->ranks = ranks;
      return all.back();
    }
    const std::shared_ptr<Exchange> exchange = all[number];
    const Exchange::Starter& other = exchange->started.front();
    if (at(other.rank).program[other.index] != i) {
      wrong_ = fmt::format("group \"{}\" of ranks {}: {} meets {}", name_of(i.group), fmt::join(exchange->ranks, ", "),
                           name(rank.number, rank.next), name(other.rank, other.index));
    }
    return exchange;
  }

  // Completes collectives from the rank's first on, as long as all ranks of each have come to it.
  void settle(Rank& rank) {
    while (!rank.channel.empty()) {
      const std::shared_ptr<Exchange> first = rank.channel.front();
      if (first->started.size() < first->ranks.size()) return;
      double begin = first->ready;
      for (int member : first->ranks) {
        if (at(member).channel.front() != first) return;
        begin = std::max(begin, at(member).channel_free);
      }
      complete(*first, begin);
      for (int member : first->ranks) {
        at(member).channel.pop_front();
        at(member).channel_free = first->end;
      }
      for (int member : first->ranks) {
        if (member != rank.number) settle(at(member));
      }
    }
  }

  void complete(Exchange& exchange, double begin) {
    exchange.complete = true;
    exchange.end = begin + exchange.duration;
    for (int rank : exchange.ranks) {
      if (exchange.duration > 0) spans_.push_back({rank, SpanKind::communication, begin, exchange.end});
    }
    awake_.insert(awake_.end(), exchange.waiting.begin(), exchange.waiting.end());
    exchange.waiting.clear();
  }

  // Who waits for whom, and what is left over.
  std::string deadlock() const {
    std::vector<std::string> waits;
    for (const Rank& rank : ranks_) {
      if (rank.ended()) continue;
      const Instruction& i = rank.program[rank.next];
      const auto entry = std::ranges::find_if(rank.under_way, [&](const auto& e) { return e.first == i.started(); });
      waits.push_back(fmt::format("rank {} in instruction {} ({}) for {}", rank.number, rank.next, i.to_string(),
                                  awaited(*entry->second)));
    }
    if (waits.size() > kMostNamed) {
      const size_t more = waits.size() - kMostNamed;
      waits.resize(kMostNamed);
      waits.push_back(fmt::format("{} more", more));
    }
    std::string text = fmt::format("these wait for ever: {}", fmt::join(waits, "; "));
    for (const auto& [key, box] : letters_) {
      for (const auto& letter : box.sent) {
        const Exchange::Starter& sender = letter->started.front();
        if (!receives(at(std::get<1>(key)), at(sender.rank).program[sender.index].tag))
          text += fmt::format("; nobody receives {}", name(sender.rank, sender.index));
      }
    }
    return text;
  }

  // Whether a rank has still to receive something with that tag.
  static bool receives(const Rank& rank, int tag) {
    return std::any_of(rank.program.begin() + static_cast<std::ptrdiff_t>(rank.next), rank.program.end(),
                       [&](const Instruction& i) {
                         return i.phase == Phase::start && i.operation == OperationKind::receive && i.tag == tag;
                       });
  }

  using Exchanges = std::set<const Exchange*>;
  std::string awaited(const Exchange& exchange, Exchanges seen = {}) const {
    std::vector<std::string> absent;
    for (int member : exchange.ranks) {
      const bool came = std::ranges::any_of(exchange.started, [&](const auto& s) { return s.rank == member; });
      if (came) continue;
      const Rank& rank = at(member);
      absent.push_back(rank.ended() ? fmt::format("rank {}, which has ended", member)
                                    : fmt::format("rank {}, which is at instruction {}", member, rank.next));
    }
    if (!absent.empty()) return fmt::format("{}", fmt::join(absent, " and "));
    // All have come: one of them is busy with a collective that it started earlier, and that waits for others in turn.
    for (int member : exchange.ranks) {
      const std::shared_ptr<Exchange>& first = at(member).channel.front();
      if (first.get() == &exchange) continue;
      const auto mine = std::ranges::find(first->started, member, &Exchange::Starter::rank);
      std::string text = fmt::format("rank {}, which has {} under way", member, name(member, mine->index));
      if (seen.insert(first.get()).second) text += fmt::format(" and waits in it for {}", awaited(*first, seen));
      return text;
    }
    return "nobody";
  }

  Simulation result() {
    Simulation simulation;
    for (const Rank& rank : ranks_) {
      simulation.makespan = std::max(simulation.makespan, rank.clock);
      simulation.busy.push_back(rank.busy);
      simulation.peak_live_passes.push_back(rank.rules.peak_live_passes());
    }
    simulation.spans = std::move(spans_);
    return simulation;
  }

  struct Letterbox {
    std::deque<std::shared_ptr<Exchange>> sent, received;  // one of the two is empty
  };

  const StepPlan& plan_;
  const Duration& duration_;
  std::vector<Rank> ranks_;
  std::deque<int> awake_;
  std::map<std::tuple<int, int, int>, Letterbox> letters_;                              // from, to, tag
  std::map<std::pair<Group, int>, std::deque<std::shared_ptr<Exchange>>> collectives_;  // of a group's first rank
  std::vector<TimelineSpan> spans_;
  std::string wrong_;  // the first thing that is
};

}  // namespace

Duration pass_durations(const StepPlan& plan, double forward, double backward, double transfer) {
  return [&plan, forward, backward, transfer](int rank, const Instruction& i) {
    if (i.is_message()) return transfer;
    if (!i.computes()) return 0.0;
    const int stage = Mesh(plan.mesh, rank).rank(Axis::pipeline);
    const auto [first, last] = plan.units_of(plan.pipeline().chunk(stage, i.virtual_stage));
    if (i.action == Action::forward) return i.unit == first ? forward : 0;
    return i.unit == last ? backward : 0;
  };
}

double Simulation::bubble_fraction() const {
  const double all = makespan * static_cast<double>(busy.size());
  return all > 0 ? 1 - std::accumulate(busy.begin(), busy.end(), 0.0) / all : 0;
}

Result<Simulation> simulate(const StepPlan& plan, std::span<const Program> programs, const Duration& duration) {
  TROUPE_CHECK(static_cast<int>(programs.size()) == plan.mesh.ranks(), "{} lists for {} ranks", programs.size(),
               plan.mesh.ranks());
  return Simulator(plan, programs, duration).run();
}

Result<Simulation> simulate(const StepPlan& plan, std::span<const Program> programs) {
  return simulate(plan, programs, Duration());
}

}  // namespace troupe::parallel
