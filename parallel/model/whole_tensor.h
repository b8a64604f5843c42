// Between the pieces that ranks keep of a parameter and the whole of it.
#pragma once
#include <functional>
#include <vector>

#include "parallel/model/decoder.h"

namespace troupe::parallel {

// What a bucket keeps a piece of: its masters, its gradients, an optimizer's moments.
using PieceOf = std::function<Tensor(const ParameterBucket& bucket)>;

// Every parameter of a model, in the order in which one rank alone builds it.
std::vector<ParameterSpec> parameter_specs(const DecoderConfig& config);

// The whole of it [spec.shape], in accumulator_of(compute), on every rank of the world, whether it has a part or not.
// All ranks call this in the same order. Throws CommunicationError.
Tensor whole_tensor(const ParameterSet& parameters, const ParameterSpec& spec, const PieceOf& piece_of);
// Writes this rank's piece, if it has one, from the whole in any floating dtype.
void set_piece(const ParameterSet& parameters, const ParameterSpec& spec, const Tensor& whole, const PieceOf& piece_of);

}  // namespace troupe::parallel
