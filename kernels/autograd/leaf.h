// Leaf: what the tape knows of a parameter. Nodes keep a pointer to the leaf, never its storage, so the
// owner may gather the value late and free it early (ZeRO 3).
#pragma once
#include "kernels/tensor/tensor.h"

namespace troupe::kernels {

struct PackedMatrix;

// Where a gradient goes: written (accumulate false) or added to (accumulate true).
struct GradientTarget {
  Tensor tensor;
  bool accumulate = false;
};

class Leaf {
 public:
  virtual ~Leaf() = default;

  virtual std::string_view name() const = 0;
  virtual bool trainable() const = 0;

  // The value in the dtype that is computed with. Valid until the owner frees it.
  virtual const Tensor& value() const = 0;
  // The value packed for products with few rows, or null; only matrices that are not trained have one.
  virtual const PackedMatrix* packed() const { return nullptr; }

  // The accumulator, in accumulator_of(value dtype). The caller writes or adds its contribution at once:
  // after this call the accumulator counts as filled.
  virtual GradientTarget gradient() = 0;

  // Called once per backward pass, after the last contribution to this leaf's gradient.
  virtual void gradient_ready() {}
};

}  // namespace troupe::kernels
