// The whole interface between operations and a device's code: one function per kernel, grouped by
// operation. Each operation's header declares its group; a device fills them in (cpu/kernels.cpp).
#pragma once
#include "kernels/ops/tensor_kernels.h"

namespace troupe::kernels {

struct Kernels {
  TensorKernels tensor;
};

}  // namespace troupe::kernels
