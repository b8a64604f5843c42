#include "parallel/comm/traced_operation.h"

#include <algorithm>

namespace troupe::parallel {
namespace {

class Traced final : public Pending::Operation {
 public:
  Traced(TracedOperation traced, Pending pending) : traced_(std::move(traced)), pending_(std::move(pending)) {}

  std::chrono::nanoseconds wait() override {
    const auto waiting = steady_now();
    const auto idle = pending_.wait();
    tell(waiting, idle, steady_now());
    return idle;
  }
  bool done() override { return pending_.done(); }

 private:
  void tell(std::chrono::nanoseconds waiting, std::chrono::nanoseconds idle, std::chrono::nanoseconds end) {
    const auto begin = std::max(traced_.begun, *traced_.until);
    *traced_.until = end;
    const std::string_view name = name_of(traced_.signature.kind);
    const TraceArgument arguments[] = {{"group", std::string_view(traced_.group)},
                                       {"dtype", name_of(traced_.signature.dtype)},
                                       {"elements", traced_.signature.elements},
                                       {"bytes", traced_.bytes},
                                       {"wait_ns", idle.count()}};
    traced_.sink.span({.category = "communication",
                       .name = name,
                       .begin = begin,
                       .duration = end - begin,
                       .lane = kCommunicationLane,
                       .arguments = arguments});
    if (idle.count() == 0) return;
    const auto from = std::max(begin, waiting);
    traced_.sink.span({.category = "communication",
                       .name = "wait for other ranks",
                       .begin = from,
                       .duration = std::min(idle, end - from),
                       .lane = kCommunicationLane});
  }

  const TracedOperation traced_;
  Pending pending_;
};

}  // namespace

Pending trace_operation(TracedOperation traced, Pending pending) {
  return Pending(std::make_shared<Traced>(std::move(traced), std::move(pending)));
}

}  // namespace troupe::parallel
