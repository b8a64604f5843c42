#include "parallel/model/parameter.h"

#include <cmath>
#include <utility>

#include "kernels/ops/kernels.h"
#include "runtime/base/random.h"

namespace troupe::parallel {
namespace {

using kernels::MemoryKind;

// Local element → its index in the global tensor, for the one dimension that `placement` splits.
struct GlobalIndex {
  int64_t inner = 1, local_split = 1, global_split = 1, offset = 0;

  int64_t operator()(int64_t local) const {
    const int64_t in = local % inner, split = local / inner % local_split, outer = local / inner / local_split;
    return (outer * global_split + split + offset) * inner + in;
  }
};

Shape local_shape_of(const ParameterSpec& spec, const Mesh& mesh) {
  std::vector<int64_t> sizes(spec.shape.sizes().begin(), spec.shape.sizes().end());
  for (int a = 0; a < kAxes; ++a) {
    const Axis axis = static_cast<Axis>(a);
    const int dimension = spec.placement.on(axis);
    if (dimension < 0) continue;
    int64_t& size = sizes[static_cast<size_t>(dimension)];
    TROUPE_CHECK(size % mesh.size(axis) == 0, "{}: dimension {} of {} over {} {} ranks", spec.name, dimension,
                 spec.shape.to_string(), mesh.size(axis), name_of(axis));
    size /= mesh.size(axis);
  }
  return Shape(sizes);
}

GlobalIndex global_index_of(const ParameterSpec& spec, const Mesh& mesh) {
  GlobalIndex index;
  for (int a = 0; a < kAxes; ++a) {
    const Axis axis = static_cast<Axis>(a);
    const int dimension = spec.placement.on(axis);
    if (dimension < 0 || mesh.size(axis) == 1) continue;
    TROUPE_CHECK(index.global_split == 1, "{}: split over more than one axis", spec.name);
    for (int i = dimension + 1; i < spec.shape.dims(); ++i) index.inner *= spec.shape[i];
    index.global_split = spec.shape[dimension];
    index.local_split = index.global_split / mesh.size(axis);
    index.offset = mesh.rank(axis) * index.local_split;
  }
  return index;
}

}  // namespace

Parameter::Parameter(ParameterSpec spec, const Mesh& mesh, Device& device, Numerics numerics, bool training)
    : spec_(std::move(spec)), mesh_(mesh), device_(device), training_(training) {
  const Shape local = local_shape_of(spec_, mesh);
  const DType accumulator = kernels::accumulator_of(numerics.compute);
  const DType dtype = spec_.multiplied ? numerics.compute : accumulator;
  value_ = Tensor::empty(device, dtype, local, MemoryKind::parameters);
  if (!training) return;
  if (accumulator != dtype) master_ = Tensor::empty(device, accumulator, local, MemoryKind::parameters);
  gradient_ = Tensor::empty(device, accumulator, local, MemoryKind::gradients);
}

kernels::GradientTarget Parameter::gradient() {
  TROUPE_CHECK(training_, "{} is not trained", spec_.name);
  return {gradient_, std::exchange(filled_, true)};
}

void Parameter::initialize(uint64_t seed) {
  const GlobalIndex global = global_index_of(spec_, mesh_);
  const Initializer init = spec_.initializer;
  const uint64_t key = derive_key(seed, hash_name(spec_.name));
  const int64_t count = value_.elements();
  std::vector<double> values(static_cast<size_t>(count), static_cast<double>(init.value));
  if (init.kind == Initializer::Kind::normal) {
    device_.threads().parallel_ranges(count, 4096, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        values[static_cast<size_t>(i)] =
            static_cast<double>(init.value) * normal(key, static_cast<uint64_t>(global(i)));
      }
    });
  }
  Tensor& target = master();
  if (target.dtype() == DType::f64) {
    target.copy_from(Tensor::from<double>(device_, values, target.shape(), MemoryKind::buffers));
  } else {
    const std::vector<float> narrow(values.begin(), values.end());
    const Tensor source = Tensor::from<float>(device_, narrow, target.shape(), MemoryKind::buffers);
    device_.kernels().tensor.convert(device_, source, target);
  }
  master_changed();
}

void Parameter::assign(const Tensor& values) {
  TROUPE_CHECK(values.shape() == spec_.shape, "{}: {} assigned to {}", spec_.name, values.shape().to_string(),
               spec_.shape.to_string());
  TROUPE_CHECK(local_shape() == spec_.shape, "{}: assigned whole to a shard", spec_.name);
  device_.kernels().tensor.convert(device_, values, master());
  master_changed();
}

void Parameter::master_changed() {
  if (master_.defined()) device_.kernels().tensor.convert(device_, master_, value_);
  if (packed_.defined()) pack();
}

void Parameter::pack() {
  TROUPE_CHECK(!training_ && spec_.shape.dims() == 2, "{} cannot be packed", spec_.name);
  packed_ = device_.kernels().matmul.pack(device_, value_, MemoryKind::parameters);
}

Parameter& ParameterSet::add(ParameterSpec spec) {
  TROUPE_CHECK(find(spec.name) == nullptr, "two parameters are called {}", spec.name);
  parameters_.push_back(std::make_unique<Parameter>(std::move(spec), mesh_, device_, numerics_, training_));
  return *parameters_.back();
}

Parameter* ParameterSet::find(std::string_view name) const {
  for (const auto& parameter : parameters_) {
    if (parameter->name() == name) return parameter.get();
  }
  return nullptr;
}

std::vector<Parameter*> ParameterSet::all() const {
  std::vector<Parameter*> result;
  for (const auto& parameter : parameters_) result.push_back(parameter.get());
  return result;
}

int64_t ParameterSet::global_elements() const {
  int64_t total = 0;
  for (const auto& parameter : parameters_) total += parameter->global_elements();
  return total;
}

}  // namespace troupe::parallel
