// A trainer's state as named tensors, and to and from checkpoints.
#pragma once
#include "actors/train/trainer.h"
#include "checkpoint/checkpoint.h"

namespace troupe::train {

// Masters, states of layers and optimizer moments: "model/NAME", "optimizer/first_moment/NAME",
// "optimizer/second_moment/NAME".
std::vector<checkpoint::NamedTensor> state_tensors(Trainer& trainer);

// Fills the trainer from a checkpoint, step included. On an error (interrupted: `stop` said so) the trainer must not be
// used.
Status load_state(const checkpoint::Checkpoint& from, Trainer& trainer, const StopCheck& stop = {});

// Only the model's values, into parameters that are not trained.
Status load_model(const checkpoint::Checkpoint& from, parallel::ParameterSet& parameters);

}  // namespace troupe::train
