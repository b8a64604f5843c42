// The loss of a run as a picture: an SVG with axes, the training loss (thin, and its running mean) and
// the validation losses. No program is needed to make it and any browser shows it.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::train {

struct LossPoint {
  int64_t step = 0;
  double loss = 0;
};

// `training` and `validation` in ascending order of steps; either may be empty. Points that are not
// finite are left out.
std::string draw_loss_curve(std::string_view title, const std::vector<LossPoint>& training,
                            const std::vector<LossPoint>& validation);

}  // namespace troupe::train
