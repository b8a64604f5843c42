#include "actors/train/rank_activity.h"

#include <fmt/format.h>

namespace troupe::train {

void RankActivity::enter(const char* phase, std::chrono::nanoseconds now) {
  since_.store(now, std::memory_order_relaxed);
  phase_.store(phase, std::memory_order_relaxed);
}

std::string RankActivity::describe() const {
  const char* phase = phase_.load(std::memory_order_relaxed);
  const std::chrono::duration<double> lasts = clock_.now() - since_.load(std::memory_order_relaxed);
  if (phase == nullptr) return fmt::format("idle for {:.1f} s", lasts.count());
  return fmt::format("step {}: {} for {:.1f} s", step_.load(std::memory_order_relaxed), phase, lasts.count());
}

Phase::Phase(RankActivity* activity, const char* name) : activity_(activity), name_(name) {
  if (activity_ == nullptr) return;
  outer_ = activity_->phase_.load(std::memory_order_relaxed);
  begin_ = activity_->clock_.now();
  activity_->enter(name_, begin_);
}

Phase::~Phase() {
  if (activity_ == nullptr) return;
  const auto end = activity_->clock_.now();
  activity_->enter(outer_, end);
  if (activity_->trace_ == nullptr) return;
  const TraceArgument step[] = {{"step", activity_->step_.load(std::memory_order_relaxed)}};
  activity_->trace_->span({.category = "compute",
                           .name = name_,
                           .begin = begin_,
                           .duration = end - begin_,
                           .lane = kStepLane,
                           .arguments = step});
}

}  // namespace troupe::train
