#include "kernels/ops/rope.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "kernels/ops/kernels.h"

namespace troupe::kernels {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

int64_t rotary_of(const RopeOptions& options) { return options.rotary == 0 ? options.head_width : options.rotary; }

// YaRN (section 3.2): the pair, as a real number, that turns `turns` times over the original context.
double pair_of_turns(const RopeOptions& options, double turns) {
  return static_cast<double>(rotary_of(options)) *
         std::log(static_cast<double>(options.original_context) / (turns * kTwoPi)) / (2 * std::log(options.theta));
}

// Share of interpolation of pair i: 0 below the pair of beta_fast, 1 above that of beta_slow, linear between.
double yarn_ramp(const RopeOptions& options, int64_t pair) {
  const double low = std::max(std::floor(pair_of_turns(options, options.beta_fast)), 0.0);
  double high =
      std::min(std::ceil(pair_of_turns(options, options.beta_slow)), static_cast<double>(rotary_of(options) - 1));
  if (high <= low) high = low + 0.001;
  return std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0, 1.0);
}

double llama3_frequency(const RopeOptions& options, double frequency) {
  const double turns = static_cast<double>(options.original_context) * frequency / kTwoPi;  // over the original context
  const double share = std::clamp(
      (turns - options.low_frequency_factor) / (options.high_frequency_factor - options.low_frequency_factor), 0.0,
      1.0);
  return (1 - share) * frequency / options.factor + share * frequency;
}

}  // namespace

std::vector<double> rope_frequencies(const RopeOptions& options) {
  const int64_t rotary = rotary_of(options);
  TROUPE_CHECK(rotary > 0 && rotary % 2 == 0 && rotary <= options.head_width,
               "rope: {} rotary elements of a head of {}", rotary, options.head_width);
  TROUPE_CHECK(options.factor > 0, "rope: a scaling factor of {}", options.factor);
  TROUPE_CHECK(
      (options.scaling != RopeScaling::yarn && options.scaling != RopeScaling::llama3) || options.original_context > 0,
      "rope: this scaling needs original_context, it is {}", options.original_context);
  double theta = options.theta;
  const auto width = static_cast<double>(rotary);
  if (options.scaling == RopeScaling::ntk && rotary > 2) theta *= std::pow(options.factor, width / (width - 2));
  std::vector<double> result;
  for (int64_t pair = 0; pair < rotary / 2; ++pair) {
    double frequency = std::pow(theta, -static_cast<double>(2 * pair) / width);
    switch (options.scaling) {
      case RopeScaling::none:
      case RopeScaling::ntk: break;
      case RopeScaling::linear: frequency /= options.factor; break;
      case RopeScaling::yarn: {
        const double ramp = yarn_ramp(options, pair);
        frequency = ramp * frequency / options.factor + (1 - ramp) * frequency;
        break;
      }
      case RopeScaling::llama3: frequency = llama3_frequency(options, frequency); break;
    }
    result.push_back(frequency);
  }
  return result;
}

double rope_magnitude(const RopeOptions& options) {
  if (options.scaling != RopeScaling::yarn) return 1;
  if (options.attention_factor > 0) return options.attention_factor;
  return options.factor <= 1 ? 1 : 0.1 * std::log(options.factor) + 1;
}

RopeTable::RopeTable(Device& device, const RopeOptions& options, int64_t positions, DType dtype) : options_(options) {
  TROUPE_CHECK(dtype == DType::f32 || dtype == DType::f64, "rope: a table in {}", name_of(dtype));
  const std::vector<double> frequencies = rope_frequencies(options);
  const double magnitude = rope_magnitude(options);
  const auto pairs = static_cast<int64_t>(frequencies.size());
  const auto fill = [&]<class T>(T) {
    std::vector<T> cos, sin;
    for (int64_t position = 0; position < positions; ++position) {
      for (double frequency : frequencies) {
        const double angle = static_cast<double>(position) * frequency;
        cos.push_back(static_cast<T>(std::cos(angle) * magnitude));
        sin.push_back(static_cast<T>(std::sin(angle) * magnitude));
      }
    }
    cos_ = Tensor::from<T>(device, cos, {positions, pairs}, MemoryKind::buffers);
    sin_ = Tensor::from<T>(device, sin, {positions, pairs}, MemoryKind::buffers);
  };
  if (dtype == DType::f64) fill(double{});
  else fill(float{});
}

std::shared_ptr<const RopeTable> RopeTables::get(Device& device, int64_t positions, DType compute) {
  const DType dtype = accumulator_of(compute);
  if (table_ && table_->positions() >= positions && table_->cos().dtype() == dtype &&
      &table_->cos().device() == &device) {
    return table_;
  }
  const auto length = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(positions, 64))));
  table_ = std::make_shared<RopeTable>(device, options_, length, dtype);
  return table_;
}

Value rope(Tape& tape, const Value& x, const Tensor& positions, std::shared_ptr<const RopeTable> table) {
  TROUPE_CHECK(
      x.shape().dims() == 4 && positions.dtype() == DType::i32 && positions.shape() == Shape({x.dim(0), x.dim(1)}),
      "rope: x {}, positions {} {}", x.shape().to_string(), name_of(positions.dtype()), positions.shape().to_string());
  TROUPE_CHECK(table && table->options().head_width == x.dim(3), "rope: x {}, a table for heads of {}",
               x.shape().to_string(), table ? table->options().head_width : 0);
  TROUPE_CHECK(table->cos().dtype() == accumulator_of(x.dtype()), "rope: x {}, table {}", name_of(x.dtype()),
               name_of(table->cos().dtype()));
  Device& device = tape.device();
  Tensor y = Tensor::empty(device, x.dtype(), x.shape());
  device.kernels().rope.rotate(device, x.tensor(), positions, *table, false, y);
  return tape.record("rope", std::move(y), {x}, [positions, table](Backward& back) {
    if (!back.wants(0)) return;
    Device& on = back.device();
    const Tensor& dy = back.output_gradient();
    Tensor dx = dy.unique() ? dy : Tensor::empty(on, dy.dtype(), dy.shape());
    on.kernels().rope.rotate(on, dy, positions, *table, true, dx);
    back.give(0, std::move(dx));
  });
}

}  // namespace troupe::kernels
