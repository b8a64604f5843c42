// Rotary position embedding: each pair (i, i + d/2) of a head is turned by position · frequency[i]. The
// "rotate half" pairing is that of Llama's and Hugging Face's weights.   Su et al. 2021, section 3.2.
// Longer contexts: position interpolation (Chen et al. 2023), NTK-aware base, YaRN (Peng et al. 2023), Llama 3.1.
#pragma once
#include <memory>
#include <vector>

#include "kernels/autograd/tape.h"

namespace troupe::kernels {

enum class RopeScaling : uint8_t { none, linear, ntk, yarn, llama3 };

struct RopeOptions {
  double theta = 10000;
  int64_t head_width = 0;  // d
  int64_t rotary = 0;      // elements of a head that turn, from the first; 0: all. Even.
  RopeScaling scaling = RopeScaling::none;
  double factor = 1;                 // context extension; all but none
  int64_t original_context = 0;      // tokens the model was trained on; yarn and llama3
  double beta_fast = 32;             // yarn: turns over original_context above which a pair is left alone
  double beta_slow = 1;              // yarn: turns below which a pair is interpolated by `factor`
  double attention_factor = 0;       // yarn: multiplies cos and sin; 0: 0.1 · ln(factor) + 1
  double low_frequency_factor = 1;   // llama3: wavelengths over original_context / this are divided by factor
  double high_frequency_factor = 4;  // llama3: wavelengths under original_context / this are left alone
};

// Radians per position of each pair [rotary / 2], scaling applied, in f64.
std::vector<double> rope_frequencies(const RopeOptions& options);
// What cos and sin are multiplied by (YaRN's temperature); 1 for all other scalings.
double rope_magnitude(const RopeOptions& options);

// cos and sin of every position below positions(). Immutable, so owners share it freely.
class RopeTable {
 public:
  // `dtype` f32 or f64; the angles are computed in f64 either way.
  RopeTable(Device&, const RopeOptions&, int64_t positions, DType dtype);

  const RopeOptions& options() const { return options_; }
  int64_t positions() const { return cos_.dim(0); }
  int64_t rotary() const { return 2 * cos_.dim(1); }
  const Tensor& cos() const { return cos_; }  // [positions, rotary / 2]
  const Tensor& sin() const { return sin_; }

 private:
  RopeOptions options_;
  Tensor cos_;
  Tensor sin_;
};

// Makes tables as long as they are needed and keeps the longest. Used by one thread.
class RopeTables {
 public:
  explicit RopeTables(RopeOptions options) : options_(options) {}
  const RopeOptions& options() const { return options_; }
  // A table of at least `positions`, for activations of `compute`. Grows by powers of two.
  std::shared_ptr<const RopeTable> get(Device&, int64_t positions, DType compute);

 private:
  RopeOptions options_;
  std::shared_ptr<const RopeTable> table_;
};

struct RopeKernels {
  // x, y [B, T, H, d]; positions i32 [B, T]; turned back where `inverse`. y may be x.
  void (*rotate)(Device&, const Tensor& x, const Tensor& positions, const RopeTable& table, bool inverse, Tensor& y);
};

// x [B, T, H, d]; positions i32 [B, T], each below the table's. Returns x's shape and dtype. Keeps the
// positions and the table. Backward turns the gradient back, in place where no one shares it.
// REQUIRES: the table is f64 exactly if x is.
Value rope(Tape&, const Value& x, const Tensor& positions, std::shared_ptr<const RopeTable> table);

}  // namespace troupe::kernels
