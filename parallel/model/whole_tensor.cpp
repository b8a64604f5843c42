#include "parallel/model/whole_tensor.h"

#include "kernels/ops/kernels.h"

namespace troupe::parallel {

using kernels::MemoryKind;

namespace {

// Calls body(element of the piece, element of the whole) for what this rank has of a parameter.
template <class Body>
void for_elements(const Parameter& parameter, const Body& body) {
  for (const ParameterBucket::Segment& s : parameter.bucket().segments()) {
    if (s.parameter != &parameter) continue;
    for (int64_t i = s.begin; i < s.end; ++i) {
      const int64_t global = parameter.region().global_index(s.at + i - s.begin);
      if (global >= 0) body(i, global);
    }
  }
}

Tensor from_host(Device& device, DType dtype, const std::vector<double>& values, const Shape& shape) {
  if (dtype == DType::f64) return Tensor::from<double>(device, values, shape, MemoryKind::buffers);
  return Tensor::from<float>(device, std::vector<float>(values.begin(), values.end()), shape, MemoryKind::buffers);
}

}  // namespace

std::vector<ParameterSpec> parameter_specs(const DecoderConfig& config) {
  const auto device = kernels::make_cpu_device(1);
  ParameterSet parameters = ParameterSet::without_storage(*device);
  const Decoder model(config, parameters);
  std::vector<ParameterSpec> specs;
  for (const Parameter* p : parameters.all()) specs.push_back(p->spec());
  return specs;
}

Tensor whole_tensor(const ParameterSet& parameters, const ParameterSpec& spec, const PieceOf& piece_of) {
  std::vector<double> values(static_cast<size_t>(spec.shape.elements()), 0.0);
  const Parameter* p = parameters.find(spec.name);
  const bool second = spec.tied && parameters.mesh().rank(Axis::pipeline) > 0;
  if (p != nullptr && p->bucket().counts_piece() && !second) {
    const std::vector<double> piece = piece_of(p->bucket()).to_host<double>();
    for_elements(
        *p, [&](int64_t at, int64_t global) { values[static_cast<size_t>(global)] = piece[static_cast<size_t>(at)]; });
  }
  Tensor whole =
      from_host(parameters.device(), kernels::accumulator_of(parameters.numerics().compute), values, spec.shape);
  // One rank gives each element, the others zero.
  Communicator& world = parameters.groups()[Group::world];
  if (world.size() > 1) world.all_reduce(whole).wait();
  return whole;
}

void set_piece(const ParameterSet& parameters, const ParameterSpec& spec, const Tensor& whole,
               const PieceOf& piece_of) {
  const Parameter* p = parameters.find(spec.name);
  if (p == nullptr) return;
  TROUPE_CHECK(whole.shape() == spec.shape, "{}: {} for {}", spec.name, whole.shape().to_string(),
               spec.shape.to_string());
  const std::vector<double> values = whole.to_host<double>();
  Tensor piece = piece_of(p->bucket());
  std::vector<double> mine = piece.to_host<double>();
  for_elements(
      *p, [&](int64_t at, int64_t global) { mine[static_cast<size_t>(at)] = values[static_cast<size_t>(global)]; });
  piece.copy_from(from_host(parameters.device(), piece.dtype(), mine, piece.shape()));
}

}  // namespace troupe::parallel
