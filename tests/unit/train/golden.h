// Golden: the file of named arrays that make_torch_golden.py writes: what PyTorch computes for a tiny
// decoder. A file is the line "troupe golden 1", then a line "NAME DTYPE DIM DIM…" for each array (no
// DIM: a scalar; DTYPE f32, f64 or i32), an empty line, and the arrays' values in the same order, row
// by row, little-endian, nothing between them. Numbers are handed out as f64, which holds all three.
//
// gpt2.golden: LayerNorm, learned positions, tanh-GELU, biases, tied head.
// llama.golden: RMSNorm, RoPE (feature i turns with i + d/2), grouped-query attention, SwiGLU, own head.
//
//   config.layers|width|heads|kv_heads|hidden|vocabulary|context|tied, config.norm_epsilon|rope_theta
//   optimizer.learning_rate|beta1|beta2|epsilon|weight_decay|clip_norm   decay for tensors of ≥ 2 dims only;
//                       gradients are multiplied by min(1, clip_norm / (global norm + 1e-6))
//   tokens, labels      [B, T] i32; labels[b, t] is the target of position t, -100 where ignored
//   parameter.NAME      f32, before the first step
//   KIND.logits         [B, T, V]; KIND is f32 or f64: the dtype of the whole computation
//   KIND.loss           mean over the labels that count
//   KIND.gradient.NAME  of that loss, not clipped. A key bias has none in theory, so it holds rounding errors
//   KIND.adamw_losses   [10] losses on that one batch, each before its update
//   KIND.adamw_gradient_norms [10] global norms before clipping
//   batches.tokens, batches.labels [16, B, T], batches.f64_losses [16]: the first is the batch above
//   MODE.error.logits|loss|gradients|gradient.NAME   PyTorch's own error against f64 on the first batch;
//                       MODE is f32, bf16_pure (parameters too) or bf16_autocast (parameters f32)
//   MODE.typical_error. the same keys: root mean square of the error over the 16 batches
//
// Errors are what relative_error and gradient_error below compute; of "loss": |difference| / |loss|; of
// "gradients": all gradients as one vector. A loss's error on one batch is a matter of luck: judge ours
// by its root mean square over the 16 batches.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/base/result.h"

namespace troupe {

struct GoldenArray {
  std::vector<int64_t> shape;  // empty: a scalar
  std::vector<double> values;  // row by row
};

class Golden {
 public:
  // Reads the whole file. Errors name the file and the line or array that is wrong.
  static Result<Golden> read(const std::string& path);

  const std::map<std::string, GoldenArray>& arrays() const { return arrays_; }
  bool has(const std::string& name) const { return arrays_.contains(name); }

  // REQUIRES: has(name).
  const GoldenArray& operator[](const std::string& name) const {
    auto found = arrays_.find(name);
    TROUPE_CHECK(found != arrays_.end(), "no array \"{}\"", name);
    return found->second;
  }
  // REQUIRES: has(name), and it is a scalar.
  double scalar(const std::string& name) const {
    const GoldenArray& array = (*this)[name];
    TROUPE_CHECK(array.shape.empty(), "\"{}\" is not a scalar", name);
    return array.values[0];
  }
  int64_t integer(const std::string& name) const { return static_cast<int64_t>(scalar(name)); }

  // Names of the arrays called PREFIX + name, without the prefix, in alphabetical order.
  std::vector<std::string> names(const std::string& prefix) const {
    std::vector<std::string> result;
    for (auto it = arrays_.lower_bound(prefix); it != arrays_.end() && it->first.starts_with(prefix); ++it) {
      result.push_back(it->first.substr(prefix.size()));
    }
    return result;
  }

 private:
  std::map<std::string, GoldenArray> arrays_;
};

// Euclidean norm of all values of the arrays called PREFIX + anything, as one vector.
inline double norm_of_all(const Golden& golden, const std::string& prefix) {
  double sum = 0;
  for (const std::string& name : golden.names(prefix)) {
    for (double v : golden[prefix + name].values) sum += v * v;
  }
  return std::sqrt(sum);
}

// ‖got − reference‖ / max(‖reference‖, floor). REQUIRES: equal sizes.
inline double relative_error(const std::vector<double>& got, const std::vector<double>& reference, double floor = 0) {
  TROUPE_CHECK(got.size() == reference.size(), "{} values against {}", got.size(), reference.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    difference += (got[i] - reference[i]) * (got[i] - reference[i]);
    norm += reference[i] * reference[i];
  }
  return std::sqrt(difference) / std::max(std::sqrt(norm), floor);
}

// The error of one gradient tensor. The floor is for gradients that are zero in theory.
inline double gradient_error(const std::vector<double>& got, const std::vector<double>& reference,
                             double norm_of_all_references) {
  return relative_error(got, reference, 1e-3 * norm_of_all_references);
}

namespace golden_detail {

template <class T>
bool read_values(std::istream& in, std::vector<double>& out) {
  static_assert(std::endian::native == std::endian::little, "golden files are little-endian");
  std::vector<T> raw(out.size());
  in.read(reinterpret_cast<char*>(raw.data()), static_cast<std::streamsize>(raw.size() * sizeof(T)));
  out.assign(raw.begin(), raw.end());
  return in.good();
}

}  // namespace golden_detail

inline Result<Golden> Golden::read(const std::string& path) {
  constexpr int64_t kMostValues = 1 << 24;
  std::ifstream in(path, std::ios::binary);
  if (!in) return failed("{}: cannot be opened", path);
  std::string line;
  if (!std::getline(in, line) || line != "troupe golden 1") return damaged("{}:1: is not a golden file", path);

  struct Entry {
    std::string name, dtype;
  };
  std::vector<Entry> order;
  Golden golden;
  while (std::getline(in, line) && !line.empty()) {
    const size_t number = order.size() + 2;
    std::istringstream words(line);
    Entry entry;
    GoldenArray array;
    if (!(words >> entry.name >> entry.dtype)) return damaged("{}:{}: wants a name and a dtype", path, number);
    int64_t count = 1;
    for (int64_t size; words >> size;) {
      if (size < 0 || size > kMostValues || (count *= size) > kMostValues) {
        return damaged("{}:{}: \"{}\" has an impossible shape", path, number, entry.name);
      }
      array.shape.push_back(size);
    }
    if (!words.eof()) return damaged("{}:{}: \"{}\" has an impossible shape", path, number, entry.name);
    array.values.resize(static_cast<size_t>(count));
    if (!golden.arrays_.emplace(entry.name, std::move(array)).second) {
      return damaged("{}:{}: \"{}\" is there twice", path, number, entry.name);
    }
    order.push_back(std::move(entry));
  }
  for (const Entry& entry : order) {
    std::vector<double>& values = golden.arrays_[entry.name].values;
    bool whole = false;
    if (entry.dtype == "f32") {
      whole = golden_detail::read_values<float>(in, values);
    } else if (entry.dtype == "f64") {
      whole = golden_detail::read_values<double>(in, values);
    } else if (entry.dtype == "i32") {
      whole = golden_detail::read_values<int32_t>(in, values);
    } else {
      return damaged("{}: \"{}\" has the unknown dtype {}", path, entry.name, entry.dtype);
    }
    if (!whole) return damaged("{}: ends inside \"{}\"", path, entry.name);
  }
  if (in.peek() != std::ifstream::traits_type::eof()) return damaged("{}: has bytes after the last array", path);
  return golden;
}

}  // namespace troupe
