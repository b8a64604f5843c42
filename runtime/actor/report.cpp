#include "runtime/actor/report.h"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>

#include "runtime/actor/node.h"

namespace troupe::actor {
namespace {

const char* name_of(Cell::State state) {
  switch (state) {
    case Cell::State::starting: return "starting";
    case Cell::State::running: return "running";
    case Cell::State::stopping: return "stopping";
    case Cell::State::dead: return "dead";
  }
  return "";
}

// On the cell's loop.
ActorLine line_of(const Cell& cell) {
  ActorLine line{cell.node(), cell.id(), cell.name(), cell.executor().index(), cell.state(), cell.counters(), {}};
  const Time now = cell.executor().now();
  cell.for_each_running([&](const Message& message) {
    HandlerLine& handler = line.handlers.emplace_back();
    handler.method = message.method().name;
    for (const Wait& wait : message.scope.waits) {
      const Endpoint* whom = wait.awaited();
      handler.waits.push_back({wait.describe(), whom == nullptr ? 0 : whom->node(), whom == nullptr ? 0 : whom->id(),
                               now - wait.since(), wait.deadline() == kNever ? kNever : wait.deadline() - now});
    }
  });
  return line;
}

// Calls `take` on each loop with what its actors do.
template <class F>
void survey(const std::vector<Handle<Executor>>& executors, F take) {
  for (const Handle<Executor>& executor : executors) {
    executor->loop().post([executor, take] {
      std::vector<ActorLine> lines;
      if (executor->node() != nullptr) {
        for (const Handle<Cell>& cell : executor->node()->cells_of(*executor)) lines.push_back(line_of(*cell));
      }
      take(static_cast<size_t>(executor->index()), std::move(lines));
    });
  }
}

std::string text_of(const WaitLine& wait) { return fmt::format("{} ({})", wait.what, seconds_text(wait.waited)); }

std::string text_of(const ActorLine& actor) {
  std::string text = fmt::format("{} (loop {}) is {}", actor.name, actor.loop, name_of(actor.state));
  if (actor.counters.queued > 0) text += fmt::format(", {} messages wait", actor.counters.queued);
  for (const HandlerLine& handler : actor.handlers) {
    text += fmt::format("; in {}", handler.method);
    for (size_t i = 0; i < handler.waits.size(); ++i) {
      text += fmt::format("{} {}", i == 0 ? " waits for" : ",", text_of(handler.waits[i]));
    }
  }
  return text;
}

}  // namespace

std::string describe_blockers(const Cell& cell) {
  std::string text = text_of(line_of(cell));
  const Handle<Cell> child = cell.youngest();
  if (child == nullptr) return text;
  if (&child->executor() != &cell.executor()) return text + fmt::format("; waits for the end of {}", child->name());
  return text + "; " + describe_blockers(*child);
}

std::vector<std::string> NodeReport::cycles() const {
  using Key = std::pair<uint64_t, ActorId>;
  std::map<Key, const ActorLine*> lines;
  for (const ActorLine& actor : actors) lines[{actor.node, actor.actor}] = &actor;
  std::vector<std::string> found;
  std::map<Key, int> seen;  // 1: on the path, 2: done
  std::vector<std::pair<const ActorLine*, const WaitLine*>> path;
  const std::function<void(const ActorLine&)> visit = [&](const ActorLine& actor) {
    const Key key{actor.node, actor.actor};
    if (seen[key] == 2) return;
    if (seen[key] == 1) {
      auto step = std::find_if(path.begin(), path.end(), [&](const auto& p) { return p.first == &actor; });
      std::string text;
      for (; step != path.end(); ++step) {
        text += fmt::format("{} waits for {} → ", step->first->name, text_of(*step->second));
      }
      found.push_back(text + actor.name);
      return;
    }
    seen[key] = 1;
    for (const HandlerLine& handler : actor.handlers) {
      for (const WaitLine& wait : handler.waits) {
        const auto next = lines.find({wait.node, wait.actor});
        if (next == lines.end()) continue;
        path.emplace_back(&actor, &wait);
        visit(*next->second);
        path.pop_back();
      }
    }
    seen[key] = 2;
  };
  for (const ActorLine& actor : actors) visit(actor);
  return found;
}

std::string NodeReport::text() const {
  std::string text;
  for (const std::string& line : unanswered) text += line + "\n";
  std::vector<const ActorLine*> lines;
  for (const ActorLine& actor : actors) {
    const bool idle = actor.handlers.empty() && actor.counters.queued == 0 && actor.state == Cell::State::running;
    if (!idle) lines.push_back(&actor);
  }
  std::sort(lines.begin(), lines.end(), [](const ActorLine* a, const ActorLine* b) { return a->name < b->name; });
  for (const ActorLine* actor : lines) {
    text += text_of(*actor);
    text += "\n";
  }
  for (const std::string& cycle : cycles()) text += "in a circle: " + cycle + "\n";
  if (text.empty()) text = "all actors are idle\n";
  return text;
}

void Node::report(std::function<void(NodeReport)> done) {
  struct Gathering {
    std::mutex mutex;
    NodeReport report;
    size_t missing;
    std::function<void(NodeReport)> done;
  };
  auto gathering = std::make_shared<Gathering>();
  gathering->report.where = where_;
  gathering->missing = executors_.size();
  gathering->done = std::move(done);
  survey(executors_, [gathering](size_t, std::vector<ActorLine> lines) {
    const std::lock_guard lock(gathering->mutex);
    std::ranges::move(lines, std::back_inserter(gathering->report.actors));
    if (--gathering->missing == 0) gathering->done(std::move(gathering->report));
  });
}

NodeReport Node::report_blocking(std::chrono::nanoseconds timeout) {
  struct Answers {
    std::mutex mutex;
    std::condition_variable came;
    std::vector<std::optional<std::vector<ActorLine>>> lines;  // none: it has not answered
  };
  const auto answers = std::make_shared<Answers>();
  answers->lines.resize(executors_.size());
  survey(executors_, [answers](size_t loop, std::vector<ActorLine> lines) {
    const std::lock_guard lock(answers->mutex);
    answers->lines[loop] = std::move(lines);
    answers->came.notify_all();
  });
  NodeReport report;
  report.where = where_;
  std::unique_lock lock(answers->mutex);
  answers->came.wait_for(lock, std::min(timeout, kLongestWait), [&] {
    return std::ranges::all_of(answers->lines, [](const auto& lines) { return lines.has_value(); });
  });
  for (size_t i = 0; i < executors_.size(); ++i) {
    if (auto& lines = answers->lines[i]) {
      std::ranges::move(*lines, std::back_inserter(report.actors));
      continue;
    }
    const MethodInfo* method = executors_[i]->running_method.load(std::memory_order_relaxed);
    const Handle<Cell> cell = find(executors_[i]->running_actor.load(std::memory_order_relaxed));
    report.unanswered.push_back(fmt::format("loop {} does not answer within {}: it runs {} of {}", i,
                                            seconds_text(timeout), method == nullptr ? "no handler" : method->name,
                                            cell == nullptr ? "nobody" : cell->name()));
  }
  return report;
}

std::vector<Handle<Cell>> Node::cells_of(const Executor& executor) const {
  const std::lock_guard lock(mutex_);
  std::vector<Handle<Cell>> cells;
  for (const Place& place : places_) {
    if (place.cell != nullptr && &place.cell->executor() == &executor) cells.push_back(place.cell);
  }
  return cells;
}

}  // namespace troupe::actor
