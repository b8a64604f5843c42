#include "actors/train/trainer_state.h"

#include "parallel/model/whole_tensor.h"

namespace troupe::train {

using kernels::Tensor;
using parallel::ParameterBucket;
using parallel::ParameterSpec;

namespace {

std::string model_name(std::string_view parameter) { return fmt::format("model/{}", parameter); }

struct Kept {
  std::string name;
  const ParameterSpec* spec;
  parallel::PieceOf piece_of;
};

// Everything that is saved, in one order on all ranks.
std::vector<Kept> kept_by(Trainer& trainer, const std::vector<ParameterSpec>& specs) {
  parallel::Optimizer& optimizer = trainer.optimizer();
  std::vector<Kept> all;
  for (const ParameterSpec& spec : specs)
    all.push_back({model_name(spec.name), &spec, [](const ParameterBucket& b) { return b.masters(); }});
  for (const ParameterSpec& spec : specs) {
    if (spec.state) continue;
    for (std::string_view state : optimizer.options().states()) {
      all.push_back({fmt::format("optimizer/{}/{}", state, spec.name), &spec,
                     [&optimizer, state](const ParameterBucket& b) { return optimizer.state(b, state); }});
    }
  }
  return all;
}

// A view of it, where this rank has all of it in one place.
Tensor local_view(const Trainer& trainer, const Kept& kept) {
  const parallel::Parameter* p = trainer.parameters().find(kept.spec->name);
  if (p == nullptr || !p->region().whole() || p->bucket().piece() != p->bucket().elements()) return {};
  return kept.piece_of(p->bucket()).slice(p->offset(), p->offset() + p->global_elements()).reshape(kept.spec->shape);
}

}  // namespace

std::vector<checkpoint::NamedTensor> state_tensors(Trainer& trainer) {
  const std::vector<ParameterSpec> specs = parallel::parameter_specs(trainer.config());
  const bool whole = trainer.has_whole_state();
  std::vector<checkpoint::NamedTensor> tensors;
  for (const Kept& kept : kept_by(trainer, specs)) {
    tensors.push_back({kept.name, whole ? local_view(trainer, kept)
                                        : parallel::whole_tensor(trainer.parameters(), *kept.spec, kept.piece_of)});
  }
  return tensors;
}

Status load_state(const checkpoint::Checkpoint& from, Trainer& trainer, const StopCheck& stop) {
  const std::vector<ParameterSpec> specs = parallel::parameter_specs(trainer.config());
  parallel::ParameterSet& parameters = trainer.parameters();
  for (const Kept& kept : kept_by(trainer, specs)) {
    if (parameters.find(kept.spec->name) == nullptr) continue;
    if (is_stopped(stop))
      return Error(ErrorKind::interrupted, fmt::format("{}: stopped while it was read", from.folder()));
    Tensor view = local_view(trainer, kept);
    if (view.defined()) {
      TROUPE_TRY(from.read(kept.name, view));
      continue;
    }
    Tensor whole = Tensor::empty(parameters.device(), kernels::accumulator_of(parameters.numerics().compute),
                                 kept.spec->shape, kernels::MemoryKind::buffers);
    TROUPE_TRY(from.read(kept.name, whole));
    parallel::set_piece(parameters, *kept.spec, whole, kept.piece_of);
  }
  trainer.masters_changed();
  trainer.set_completed(from.manifest().step);
  return {};
}

Status load_model(const checkpoint::Checkpoint& from, parallel::ParameterSet& parameters) {
  for (parallel::Parameter* parameter : parameters.all()) {
    const std::string name = model_name(parameter->name());
    const checkpoint::TensorRecord* record = from.manifest().find(name);
    if (record == nullptr) return damaged("{}: there is no tensor \"{}\"", from.folder(), name);
    if (record->shape != parameter->spec().shape) {
      return damaged("{}: \"{}\" is {}, the model's config makes it {}", from.folder(), record->name,
                     record->shape.to_string(), parameter->spec().shape.to_string());
    }
    Tensor values = Tensor::empty(parameters.device(), record->dtype, record->shape, kernels::MemoryKind::buffers);
    TROUPE_TRY(from.read(record->name, values));
    parameter->assign(values);
  }
  return {};
}

}  // namespace troupe::train
