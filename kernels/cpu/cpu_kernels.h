// The CPU's groups of kernels, one function per file of this folder; cpu_device.cpp joins them.
#pragma once
#include "kernels/ops/kernels.h"

namespace troupe::kernels::cpu {

TensorKernels tensor_kernels();
MatmulKernels matmul_kernels();
LinearKernels linear_kernels();
AddKernels add_kernels();
RmsNormKernels rms_norm_kernels();
LayerNormKernels layer_norm_kernels();
RopeKernels rope_kernels();
ActivationKernels activation_kernels();
GatedKernels gated_kernels();
EmbeddingKernels embedding_kernels();
DropoutKernels dropout_kernels();
SoftmaxCrossEntropyKernels softmax_cross_entropy_kernels();
AdamWKernels adamw_kernels();
SgdKernels sgd_kernels();
GlobalNormKernels global_norm_kernels();
AttentionKernels attention_kernels();
RouterKernels router_kernels();
PermutationKernels permutation_kernels();

}  // namespace troupe::kernels::cpu
