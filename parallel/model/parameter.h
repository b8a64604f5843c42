// Parameter: a named tensor of the model, its place on the mesh, its master value and its gradient.
// Gradient norm, optimizers, checkpoints and export read only this.
//
// Bytes per element while training: 4 master + 4 gradient, + 2 for the copy that bf16 products read. In f32
// and f64 the master itself is computed with, and so it is where no product needs a copy: norm weights,
// biases, tables that are only looked up. The optimizer adds 8 (optim/adamw.h).
#pragma once
#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/autograd/leaf.h"
#include "kernels/ops/matmul_kernels.h"
#include "parallel/mesh/mesh.h"

namespace troupe::parallel {

using kernels::Device;
using kernels::DType;
using kernels::Shape;
using kernels::Tensor;

// For each mesh axis, the dimension of the global shape that the axis splits, or -1: replicated.
struct Placement {
  std::array<int, kAxes> dimension{-1, -1, -1, -1};

  static Placement replicated() { return {}; }
  static Placement split(Axis axis, int dimension) {
    Placement placement;
    placement.dimension[static_cast<size_t>(axis)] = dimension;
    return placement;
  }
  int on(Axis axis) const { return dimension[static_cast<size_t>(axis)]; }
};

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
  Shape shape;       // global, unpadded
  Placement placement;
  Initializer initializer;
  bool multiplied = true;  // an operand of matrix products, which want the compute dtype; the rest stays wide
};

// What is computed with, and what is kept.
struct Numerics {
  DType compute = DType::f32;   // f64, f32 or bf16: activations and the weights that kernels see
  DType residual = DType::f32;  // the residual stream; f32 also under bf16 (f64 under f64)

  static Numerics of(DType compute) { return {compute, kernels::accumulator_of(compute)}; }
};

class Parameter final : public kernels::Leaf {
 public:
  // Training parameters have a master and a gradient; the others only what is computed with.
  Parameter(ParameterSpec spec, const Mesh& mesh, Device& device, Numerics numerics, bool training);

  std::string_view name() const override { return spec_.name; }
  bool trainable() const override { return training_; }
  const Tensor& value() const override { return value_; }
  const kernels::PackedMatrix* packed() const override { return packed_.defined() ? &packed_ : nullptr; }
  kernels::GradientTarget gradient() override;
  void gradient_ready() override {
    if (on_gradient_ready) on_gradient_ready(*this);
  }

  const ParameterSpec& spec() const { return spec_; }
  const Shape& local_shape() const { return value_.shape(); }
  int64_t global_elements() const { return spec_.shape.elements(); }
  // Matrices decay, vectors (norm weights, biases) do not.
  bool decays() const { return spec_.shape.dims() >= 2; }

  Tensor& master() { return training_ && master_.defined() ? master_ : value_; }
  // The bf16 copy that is computed with, or undefined where the master itself is.
  Tensor separate_compute_copy() const { return master_.defined() ? value_ : Tensor(); }
  bool has_gradient() const { return filled_; }
  Tensor& gradient_accumulator() { return gradient_; }  // meaningful only if has_gradient()
  void forget_gradient() { filled_ = false; }           // the next contribution overwrites

  void initialize(uint64_t seed);
  // Sets the master (and the copy computed with) from values in global order. `values` has the master's dtype.
  void assign(const Tensor& values);
  // After master() was written: refreshes what is computed with.
  void master_changed();
  // For inference: packs a matrix for products with few rows. The plain value stays.
  void pack();

  std::function<void(Parameter&)> on_gradient_ready;

 private:
  ParameterSpec spec_;
  Mesh mesh_;
  Device& device_;
  bool training_;
  Tensor value_;   // compute dtype
  Tensor master_;  // f32 under bf16; otherwise undefined: the value is the master
  Tensor gradient_;
  bool filled_ = false;
  kernels::PackedMatrix packed_;
};

// The parameters of one model on one rank, in the order in which the model was built.
class ParameterSet {
 public:
  ParameterSet(const Mesh& mesh, Device& device, Numerics numerics, bool training)
      : mesh_(mesh), device_(device), numerics_(numerics), training_(training) {}

  Parameter& add(ParameterSpec spec);
  Parameter* find(std::string_view name) const;
  std::vector<Parameter*> all() const;
  int64_t global_elements() const;

  const Mesh& mesh() const { return mesh_; }
  Device& device() const { return device_; }
  Numerics numerics() const { return numerics_; }
  bool training() const { return training_; }

 private:
  Mesh mesh_;
  Device& device_;
  Numerics numerics_;
  bool training_;
  std::vector<std::unique_ptr<Parameter>> parameters_;
};

}  // namespace troupe::parallel
