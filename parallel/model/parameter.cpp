#include "parallel/model/parameter.h"

#include <cmath>
#include <utility>

#include "kernels/ops/kernels.h"
#include "parallel/model/parameter_bucket.h"
#include "runtime/base/random.h"

namespace troupe::parallel {

using kernels::MemoryKind;

Parameter::Parameter(ParameterSpec spec, const Mesh& mesh, Device& device)
    : spec_(std::move(spec)), region_(spec_.shape, spec_.placement, mesh), device_(device) {}

bool Parameter::trainable() const { return bucket_->training(); }

const Tensor& Parameter::value() const {
  TROUPE_CHECK(value_.defined(), "{} is used, but not at hand", spec_.name);
  return value_;
}

Tensor Parameter::master() const {
  TROUPE_CHECK(bucket_->piece() == bucket_->elements(), "{} is divided among replicas", spec_.name);
  return bucket_->masters().slice(offset_, offset_ + local_shape().elements()).reshape(local_shape());
}

kernels::GradientTarget Parameter::gradient() {
  TROUPE_CHECK(trainable(), "{} is not trained", spec_.name);
  if (!gradient_.defined()) bucket_->make_gradients();
  return {gradient_, std::exchange(filled_, true)};
}

void Parameter::initialize(uint64_t seed) {
  const Initializer init = spec_.initializer;
  const bool drawn = init.kind == Initializer::Kind::normal;
  const uint64_t key = derive_key(seed, hash_name(spec_.name));
  const int64_t count = local_shape().elements();
  std::vector<double> values(static_cast<size_t>(count));
  device_.threads().parallel_ranges(count, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t global = region_.global_index(i);
      double& value = values[static_cast<size_t>(i)];
      value = global < 0 ? 0 : static_cast<double>(init.value);
      if (drawn && global >= 0) value *= normal(key, static_cast<uint64_t>(global));
    }
  });
  set(values);
}

void Parameter::assign(const Tensor& values) {
  TROUPE_CHECK(values.shape() == spec_.shape, "{}: {} assigned to {}", spec_.name, values.shape().to_string(),
               spec_.shape.to_string());
  const std::vector<double> all = values.to_host<double>();
  std::vector<double> part(static_cast<size_t>(local_shape().elements()));
  for (size_t i = 0; i < part.size(); ++i) {
    const int64_t global = region_.global_index(static_cast<int64_t>(i));
    part[i] = global < 0 ? 0 : all[static_cast<size_t>(global)];
  }
  set(part);
}

// Every replica can tell its share of the local part without the others.
void Parameter::set(const std::vector<double>& values) {
  const auto count = static_cast<int64_t>(values.size());
  Tensor wide;
  if (kernels::accumulator_of(bucket_->dtype()) == DType::f64) {
    wide = Tensor::from<double>(device_, values, {count}, MemoryKind::buffers);
  } else {
    wide = Tensor::from<float>(device_, std::vector<float>(values.begin(), values.end()), {count}, MemoryKind::buffers);
  }
  if (value_.defined()) device_.kernels().tensor.convert(device_, wide, value_);
  if (bucket_->training()) {
    for (const ParameterBucket::Segment& s : bucket_->segments()) {
      if (s.parameter != this) continue;
      Tensor into = bucket_->masters().slice(s.begin, s.end);
      into.copy_from(wide.slice(s.at, s.at + s.end - s.begin));
    }
  }
  if (packed_.defined()) pack();
}

void Parameter::pack() {
  TROUPE_CHECK(!trainable() && spec_.shape.dims() == 2, "{} cannot be packed", spec_.name);
  packed_ = device_.kernels().matmul.pack(device_, value_, MemoryKind::parameters);
}

}  // namespace troupe::parallel
