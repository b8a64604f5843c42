#include "actors/train/trainer_state.h"

namespace troupe::train {
namespace {

std::string model_name(const parallel::Parameter& parameter) { return "model/" + std::string(parameter.name()); }

}  // namespace

std::vector<checkpoint::NamedTensor> state_tensors(Trainer& trainer) {
  std::vector<checkpoint::NamedTensor> tensors;
  for (auto& state : trainer.optimizer().state())
    tensors.push_back({model_name(*state.parameter), state.parameter->master()});
  for (auto& state : trainer.optimizer().state()) {
    const std::string name(state.parameter->name());
    tensors.push_back({"optimizer/first_moment/" + name, state.first_moment});
    tensors.push_back({"optimizer/second_moment/" + name, state.second_moment});
  }
  return tensors;
}

Status load_state(const checkpoint::Checkpoint& from, Trainer& trainer, const StopCheck& stop) {
  for (auto& [name, tensor] : state_tensors(trainer)) {
    if (is_stopped(stop))
      return Error(ErrorKind::interrupted, fmt::format("{}: stopped while it was read", from.folder()));
    TROUPE_TRY(from.read(name, tensor));
  }
  for (parallel::Parameter* parameter : trainer.parameters().all()) parameter->master_changed();
  trainer.set_completed(from.manifest().step);
  return {};
}

Status load_model(const checkpoint::Checkpoint& from, parallel::ParameterSet& parameters) {
  for (parallel::Parameter* parameter : parameters.all()) {
    const checkpoint::TensorRecord* record = from.manifest().find(model_name(*parameter));
    if (record == nullptr) return damaged("{}: there is no tensor \"{}\"", from.folder(), model_name(*parameter));
    if (record->shape != parameter->spec().shape) {
      return damaged("{}: \"{}\" is {}, the model's config makes it {}", from.folder(), record->name,
                     record->shape.to_string(), parameter->spec().shape.to_string());
    }
    kernels::Tensor values =
        kernels::Tensor::empty(parameters.device(), record->dtype, record->shape, kernels::MemoryKind::buffers);
    TROUPE_TRY(from.read(record->name, values));
    parameter->assign(values);
  }
  return {};
}

}  // namespace troupe::train
