// The whole interface between operations and a device's code: one function per kernel, grouped by
// operation. Each operation's header declares its group; a device fills them in (cpu/cpu_device.cpp).
#pragma once
#include "kernels/ops/adamw.h"
#include "kernels/ops/add.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/dropout.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/gelu.h"
#include "kernels/ops/global_norm.h"
#include "kernels/ops/layer_norm.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/matmul_kernels.h"
#include "kernels/ops/permutation.h"
#include "kernels/ops/rms_norm.h"
#include "kernels/ops/rope.h"
#include "kernels/ops/router.h"
#include "kernels/ops/sgd.h"
#include "kernels/ops/softmax_cross_entropy.h"
#include "kernels/ops/swiglu.h"
#include "kernels/ops/tensor_kernels.h"

namespace troupe::kernels {

struct Kernels {
  TensorKernels tensor;
  MatmulKernels matmul;
  LinearKernels linear;
  AddKernels add;
  RmsNormKernels rms_norm;
  LayerNormKernels layer_norm;
  RopeKernels rope;
  ActivationKernels activation;
  GatedKernels gated;
  EmbeddingKernels embedding;
  DropoutKernels dropout;
  SoftmaxCrossEntropyKernels softmax_cross_entropy;
  AdamWKernels adamw;
  SgdKernels sgd;
  GlobalNormKernels global_norm;
  AttentionKernels attention;
  RouterKernels router;
  PermutationKernels permutation;
};

}  // namespace troupe::kernels
