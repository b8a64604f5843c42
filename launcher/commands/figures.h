// Figures of a benchmark: measured several times, held against a goal, printed as they come or kept for JSON.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "runtime/base/result.h"

namespace troupe {
class JsonWriter;
}

namespace troupe::launcher {

struct Goal {
  enum class Kind { none, at_most, at_least };
  Kind kind = Kind::none;
  double value = 0;
};
constexpr Goal kNoGoal{};
constexpr Goal at_most(double value) { return {Goal::Kind::at_most, value}; }
constexpr Goal at_least(double value) { return {Goal::Kind::at_least, value}; }

struct Figure {
  std::string name;  // "same-thread message"
  std::string unit;  // "ns", "us", "ms", "bytes", "messages/s", "GB/s", "x": ours to theirs
  double median = 0;
  double best = 0;
  Goal goal;
  int repetitions = 0;

  bool met() const;  // by the median
};

// What could not be measured.
struct Skipped {
  std::string name;
  std::string why;
};

class Figures {
 public:
  // One repetition, in the figure's unit. An error of kind environment: the machine lacks what it takes.
  using Measure = std::function<Result<double>()>;
  // Smaller is better for times and sizes, larger for rates.
  struct What {
    std::string name;
    std::string unit;
    Goal goal = {};
    bool is_rate = false;
  };
  // The same done by somebody else.
  struct Peer {
    std::string name;  // "CAF"
    Measure measure;
    Goal goal;  // of the ratio, which says how many times better ours is
  };

  explicit Figures(int repetitions, bool prints) : repetitions_(repetitions), prints_(prints) {}

  // Once to warm up, then `repetitions`. Errors: the measurement's, but for those of kind environment, which are kept
  // among what was skipped.
  Status add(const What& what, const Measure& measure) { return add(what, repetitions_, measure); }
  Status add(const What& what, int repetitions, const Measure& measure);
  // In turn with a peer, so that both see the same machine; the ratio is the median of the pairs'.
  Status compare(const What& what, const Measure& ours, const Peer& peer);
  void skip(std::string name, std::string why);

  const std::vector<Figure>& all() const { return figures_; }
  // {"figures": […], "skipped": […]}
  void write(JsonWriter& out) const;

 private:
  void keep(const What& what, std::vector<double> values);

  const int repetitions_;
  const bool prints_;
  std::vector<Figure> figures_;
  std::vector<Skipped> skipped_;
};

}  // namespace troupe::launcher
