// Parameter: a named tensor of the model, its place on the mesh, its master value and its gradient.
// Gradient norm, optimizers, checkpoints and export read only this.
//
// Bytes per element while training: 4 master + 4 gradient, + 2 for the copy that bf16 products read. In f32 and f64 the
// master itself is computed with, and so it is where no product needs a copy: norm weights, biases, tables that are
// only looked up. The optimizer adds 8 (optim/optimizer.h). ZeRO divides these among replicas (parameter_bucket.h).
#pragma once
#include <string>
#include <vector>

#include "kernels/autograd/leaf.h"
#include "kernels/ops/matmul_kernels.h"
#include "parallel/mesh/placement.h"

namespace troupe::parallel {

using kernels::Device;
using kernels::DType;
using kernels::Tensor;

// How an element starts: normal draws are keyed by (seed, parameter name, global index), so that the
// value does not depend on the layout.
struct Initializer {
  enum class Kind : uint8_t { constant, normal } kind = Kind::constant;
  float value = 0;  // the constant, or the standard deviation

  static Initializer constant(float value) { return {Kind::constant, value}; }
  static Initializer normal(float deviation) { return {Kind::normal, deviation}; }
};

struct ParameterSpec {
  std::string name;  // "blocks.7.attention.query.weight"
  Shape shape;       // global
  Placement placement;
  Initializer initializer;
  bool multiplied = true;  // an operand of matrix products, which want the compute dtype; the rest stays wide
  bool tied = false;       // held by the first and the last stage of a pipeline: each finds a share of its gradient
  bool state = false;      // what a layer keeps and updates by itself: no gradient, no optimizer; replicated, f32 (f64)
};

// What is computed with, and what is kept.
struct Numerics {
  DType compute = DType::f32;   // f64, f32 or bf16: activations and the weights that kernels see
  DType residual = DType::f32;  // the residual stream; f32 also under bf16 (f64 under f64)

  static Numerics of(DType compute) { return {compute, kernels::accumulator_of(compute)}; }
};

class ParameterBucket;

// Its storage is its bucket's: what is said of values and gradients here is of the whole local part.
class Parameter final : public kernels::Leaf {
 public:
  Parameter(ParameterSpec spec, const Mesh& mesh, Device& device);

  std::string_view name() const override { return spec_.name; }
  bool trainable() const override;
  // REQUIRES (ZeRO 3): the bucket is whole.
  const Tensor& value() const override;
  const kernels::PackedMatrix* packed() const override { return packed_.defined() ? &packed_ : nullptr; }
  kernels::GradientTarget gradient() override;

  const ParameterSpec& spec() const { return spec_; }
  // The part of the whole that this rank computes with.
  const Region& region() const { return region_; }
  const Shape& local_shape() const { return region_.local(); }
  int64_t global_elements() const { return spec_.shape.elements(); }
  // Matrices decay, vectors (norm weights, biases) do not.
  bool decays() const { return spec_.shape.dims() >= 2; }
  ParameterBucket& bucket() const { return *bucket_; }
  int64_t offset() const { return offset_; }  // of its elements in the bucket

  bool has_gradient() const { return filled_; }
  Tensor& gradient_accumulator() { return gradient_; }  // meaningful only if has_gradient()
  void forget_gradient() { filled_ = false; }           // the next contribution overwrites
  // A view of the masters. REQUIRES: training; this rank keeps all of them (ZeRO 0, or no other rank has the same
  // part).
  Tensor master() const;

  void initialize(uint64_t seed);
  // Sets value and master from the whole, in any floating dtype.
  void assign(const Tensor& values);
  // For inference: packs a matrix for products with few rows. The plain value stays.
  void pack();

 private:
  friend class ParameterBucket;
  void set(const std::vector<double>& values);  // of the local part

  ParameterSpec spec_;
  Region region_;
  Device& device_;
  ParameterBucket* bucket_ = nullptr;
  int64_t offset_ = 0;
  Tensor value_, gradient_;  // views; undefined where the bucket has no storage for them now
  bool filled_ = false;
  kernels::PackedMatrix packed_;
};

}  // namespace troupe::parallel
