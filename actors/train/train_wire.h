// The bytes of what head, agent and ranks say to each other: train.capnp.
#pragma once
#include "actors/train/train_messages.h"
#include "runtime/wire/body.h"

namespace troupe::train {

wire::Body encode(const RankAssignment&);
wire::Body encode(const RankReady&);
wire::Body encode(const RankLoaded&);
wire::Body encode(const CheckpointFolder&);
wire::Body encode(const StepPlan&);
wire::Body encode(const PlanReport&);
wire::Body encode(const RankJoined&);
wire::Body encode(const MetricsLine&);
wire::Body encode(const StagedCheckpoint&);
wire::Body encode(const TracePiece&);

// Errors (failed): the bytes are no such message. T is one of the above.
template <class T>
Result<T> decode(const wire::Body& body);

}  // namespace troupe::train
