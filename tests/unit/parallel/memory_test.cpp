// The closed formula of plan/memory.h against what the allocator counts in real steps.
#include "parallel/plan/memory.h"

#include <gtest/gtest.h>

#include "parallel/optim/adamw.h"

namespace troupe::parallel {
namespace {

using kernels::Tape;
using kernels::Value;

struct Case {
  const char* name;
  DType compute;
  bool gpt2;
  int64_t layers, width, kv_heads, vocabulary, batch, length;
  Recompute recompute;
};

DecoderConfig config_of(const Case& c) {
  DecoderConfig m;
  m.layers = c.layers;
  m.width = c.width;
  m.heads = 4;
  m.kv_heads = c.kv_heads;
  m.vocabulary = c.vocabulary;
  m.context = c.length;
  if (c.gpt2) {
    m.norm = NormKind::layer;
    m.position = PositionKind::learned;
    m.mlp = MlpKind::gelu;
    m.biases = m.tied = true;
  }
  EXPECT_TRUE(m.complete().ok());
  return m;
}

class Memory : public testing::TestWithParam<Case> {};

TEST_P(Memory, TheAllocatorsPeakIsThePlans) {
  const Case& c = GetParam();
  const DecoderConfig m = config_of(c);
  const auto device = kernels::make_cpu_device(2);
  const Numerics numerics = Numerics::of(c.compute);
  ParameterSet parameters(Mesh(), *device, numerics, true);
  Decoder model(m, parameters);
  AdamW optimizer(parameters, {});
  for (Parameter* p : parameters.all()) p->initialize(1);

  Batch batch;
  std::vector<int32_t> ids, positions;
  for (int64_t i = 0; i < c.batch * c.length; ++i) {
    ids.push_back(static_cast<int32_t>(i * 7 % c.vocabulary));
    positions.push_back(static_cast<int32_t>(i % c.length));
  }
  batch.tokens = batch.labels = Tensor::from<int32_t>(*device, ids, {c.batch, c.length}, kernels::MemoryKind::buffers);
  batch.positions = Tensor::from<int32_t>(*device, positions, {c.batch, c.length}, kernels::MemoryKind::buffers);
  for (int64_t step = 1; step <= 2; ++step) {
    Tape tape(*device);
    const Value losses = model.losses(tape, batch, c.recompute);
    const Tensor ones = Tensor::zeros(*device, losses.dtype(), losses.shape());
    tape.backward(std::span(&losses, 1), std::span(&ones, 1));
    optimizer.step(step, 1e-3, optimizer.gradient_norm());
  }

  const TrainingMemory plan = training_memory(m, numerics, c.batch, c.length, c.recompute);
  const auto peak = [&](kernels::MemoryKind kind) { return device->allocator().use(kind).peak_bytes; };
  EXPECT_EQ(peak(kernels::MemoryKind::parameters), plan.parameters);
  EXPECT_EQ(peak(kernels::MemoryKind::gradients), plan.gradients);
  EXPECT_EQ(peak(kernels::MemoryKind::optimizer), plan.optimizer);
  // 5%: norms' and losses' small tensors, and the moment of the peak within a block, are not told apart.
  EXPECT_NEAR(static_cast<double>(peak(kernels::MemoryKind::activations)), static_cast<double>(plan.activations),
              0.05 * static_cast<double>(plan.activations));
}

INSTANTIATE_TEST_SUITE_P(
    Models, Memory,
    testing::Values(Case{"gpt2_f32", DType::f32, true, 3, 128, 4, 1000, 2, 64, Recompute::none},
                    Case{"gpt2_f32_long", DType::f32, true, 2, 128, 4, 300, 1, 512, Recompute::none},
                    Case{"gpt2_bf16", DType::bf16, true, 4, 128, 4, 4000, 2, 64, Recompute::none},
                    Case{"llama_f32", DType::f32, false, 4, 128, 2, 512, 3, 96, Recompute::none},
                    Case{"llama_bf16", DType::bf16, false, 4, 128, 1, 2000, 2, 128, Recompute::none},
                    Case{"llama_attention", DType::f32, false, 4, 128, 2, 512, 2, 128, Recompute::attention},
                    Case{"llama_block", DType::bf16, false, 8, 128, 2, 512, 2, 128, Recompute::block},
                    Case{"gpt2_block", DType::f32, true, 6, 128, 4, 3000, 2, 128, Recompute::block},
                    Case{"llama_f64", DType::f64, false, 2, 64, 4, 200, 2, 64, Recompute::none}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace troupe::parallel
