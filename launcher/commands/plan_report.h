// What `troupe plan` prints.
#pragma once
#include <string>

#include "parallel/plan/plan.h"

namespace troupe::launcher {

struct PlanReport {
  std::string config;  // its path
  const parallel::PlanTask& task;
  const parallel::PlanSearch& found;      // with at least one valid plan
  std::optional<parallel::Plan> smaller;  // one that fits, where none of those does

  // The fastest plan that fits, or, where none does, the fastest. With `table`, the fastest ones of all meshes before
  // it.
  std::string text(bool table) const;
  std::string json(bool table) const;
  const parallel::Plan& chosen() const { return found.best.empty() ? *found.fastest : found.best.front(); }
};

}  // namespace troupe::launcher
