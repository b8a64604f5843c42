// The CPU's groups of kernels, one function per file of this folder; kernels.cpp joins them.
#pragma once
#include "kernels/ops/kernels.h"

namespace troupe::kernels::cpu {

TensorKernels tensor_kernels();

}  // namespace troupe::kernels::cpu
