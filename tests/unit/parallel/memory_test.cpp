// The closed formula of plan/memory.h against what the allocator counts in real steps.
#include "parallel/plan/memory.h"

#include <gtest/gtest.h>

#include <cmath>

#include "parallel/optim/optimizer.h"
#include "parallel/schedule/step_executor.h"

namespace troupe::parallel {
namespace {

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

// What a step's executor asks for: one batch, a weight, updates.
class OneBatch final : public StepExecutor::Work {
 public:
  OneBatch(const Case& c, kernels::Device& device, ParameterSet& parameters) : optimizer_(parameters, {}) {
    std::vector<int32_t> ids, positions;
    for (int64_t i = 0; i < c.batch * c.length; ++i) {
      ids.push_back(static_cast<int32_t>(i * 7 % c.vocabulary));
      positions.push_back(static_cast<int32_t>(i % c.length));
    }
    const auto upload = [&](const std::vector<int32_t>& values) {
      return Tensor::from<int32_t>(device, values, {c.batch, c.length}, kernels::MemoryKind::buffers);
    };
    batch_.tokens = batch_.labels = upload(ids);
    batch_.positions = upload(positions);
  }

  Batch batch(int) override { return batch_; }
  double weight() const override { return 1e-3; }
  bool totals(const StepTotals& totals) override {
    norm_ = std::sqrt(totals.squared_norm);
    return true;
  }
  void update(ParameterBucket& bucket) override { optimizer_.update(bucket, ++steps_, 1e-3, norm_); }
  void doing(const char*) override {}

 private:
  Optimizer optimizer_;
  Batch batch_;
  double norm_ = 0;
  int64_t steps_ = 0;
};

class Memory : public testing::TestWithParam<Case> {};

TEST_P(Memory, TheAllocatorsPeakIsThePlans) {
  const Case& c = GetParam();
  const DecoderConfig m = config_of(c);
  const auto device = kernels::make_cpu_device(2);
  const Numerics numerics = Numerics::of(c.compute);
  ParameterSet parameters(*device, numerics, true);
  Decoder model(m, parameters);
  for (Parameter* p : parameters.all()) p->initialize(1);
  const StepShape shape{.global_batch = c.batch, .sequence_length = c.length, .micro_batch = c.batch};
  const StepPlan steps = step_plan(m, {}, shape, c.recompute);
  Decoder* const chunk = &model;
  StepExecutor executor(std::span(&chunk, 1), parameters, c.recompute);
  OneBatch work(c, *device, parameters);
  for (int step = 0; step < 2; ++step) executor.run(steps, instructions(steps, 0), work);

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

// Layouts: what each rank holds, against the whole.

DecoderConfig llama(int64_t layers) {
  DecoderConfig m;
  m.layers = layers;
  m.width = 128;
  m.heads = 8;
  m.kv_heads = 2;
  m.vocabulary = 1000;
  m.hidden = 512;
  EXPECT_TRUE(m.complete().ok());
  return m;
}

Layout layout_of(MeshSizes mesh, int zero = 0) {
  Layout layout;
  layout.mesh = mesh;
  layout.mesh.kv_sharing = mesh.tensor > 2 ? mesh.tensor / 2 : 1;  // of llama()'s two heads
  layout.zero = zero;
  return layout;
}

const Numerics kBf16 = Numerics::of(DType::bf16);
constexpr StepShape kShape{.global_batch = 16, .sequence_length = 64, .micro_batch = 1};

TrainingMemory memory_of(const DecoderConfig& m, const Layout& layout, int stage = 0,
                         Recompute recompute = Recompute::none, Numerics numerics = kBf16) {
  return training_memory(m, numerics, layout, kShape, recompute, stage);
}

int64_t elements(const DecoderConfig& m, const Layout& layout, int stage) {
  return elements_of(held_model(m, layout.mesh),
                     stage_layers(m, layout, kShape.sequence_length)[static_cast<size_t>(stage)]);
}

TEST(LayoutMemory, StagesHoldEveryParameterOnce) {
  const DecoderConfig m = llama(7);
  for (int pipeline : {1, 2, 3, 7}) {
    int64_t sum = 0;
    for (int stage = 0; stage < pipeline; ++stage) sum += elements(m, layout_of({.pipeline = pipeline}), stage);
    EXPECT_EQ(sum, m.parameters()) << pipeline;
  }
}

TEST(LayoutMemory, ATiedTableIsOnBothEnds) {
  DecoderConfig m = llama(4);
  m.tied = true;
  const Layout layout = layout_of({.pipeline = 2});
  EXPECT_EQ(elements(m, layout, 0) + elements(m, layout, 1), m.parameters() + m.vocabulary * m.width);
  EXPECT_EQ(elements(m, {}, 0), m.parameters());
}

TEST(LayoutMemory, TensorRanksHoldMatricesOnceButSharedHeadsAndNorms) {
  const DecoderConfig m = llama(3);
  // Four ranks, two key and value heads: each is on two ranks. Norm weights are on all.
  const int64_t keys_and_values = m.layers * 2 * m.width * m.kv_heads * m.head_width;
  const int64_t norms = (2 * m.layers + 1) * m.width;
  EXPECT_EQ(4 * elements(m, layout_of({.tensor = 4}), 0), m.parameters() + keys_and_values + 3 * norms);
}

TEST(LayoutMemory, ExpertRanksHoldExpertsOnce) {
  DecoderConfig m = llama(3);
  m.experts.count = 8;
  m.experts.hidden = 64;
  m.experts.dense_layers = 1;
  ASSERT_TRUE(m.complete().ok());
  EXPECT_EQ(elements(m, {}, 0), m.parameters());
  const int64_t experts = 2 * 8 * 3 * 64 * m.width;  // of two blocks
  const Layout layout = layout_of({.data = 8, .expert = 4, .expert_tensor = 2});
  EXPECT_EQ(elements(m, layout, 0), m.parameters() - experts + experts / 8);
}

TEST(LayoutMemory, ZeroShardsOptimizerThenGradientsThenParameters) {
  const DecoderConfig m = llama(4);
  const int64_t P = m.parameters(), norms = 9 * m.width, table = m.vocabulary * m.width;
  const int64_t wide = norms + table, narrow = P - wide;
  const MeshSizes mesh{.data = 4};
  const auto of = [&](int zero) { return memory_of(m, layout_of(mesh, zero)); };
  EXPECT_EQ(of(0).parameters, 4 * P + 2 * narrow);
  EXPECT_EQ(of(0).gradients, 4 * P);
  EXPECT_EQ(of(0).optimizer, 8 * P);
  // The copies that are computed with stay whole, masters go with the moments.
  EXPECT_EQ(of(1).parameters, 2 * narrow + 4 * wide + narrow);
  EXPECT_EQ(of(1).gradients, 4 * P);
  EXPECT_EQ(of(1).optimizer, 2 * P);
  EXPECT_GT(of(1).buffers, of(0).buffers) << "the sum of a unit's gradients, before it is a shard's";
  EXPECT_EQ(of(2).parameters, of(1).parameters);
  // Whole gradients of two blocks: one's are reduced while backward fills the other's.
  EXPECT_EQ(of(2).gradients, P + 4 * 2 * (P - 2 * table - m.width) / 4);
  // Whole values of the first block and the embedding, which is wide.
  const int64_t block = (narrow - table) / 4;
  EXPECT_EQ(of(3).parameters, P + 4 * table + 2 * block + 4 * 2 * m.width);
  // Where there is no narrow copy, the master is what products read: whole but under ZeRO 3.
  const Numerics f32 = Numerics::of(DType::f32);
  EXPECT_EQ(memory_of(m, layout_of(mesh, 1), 0, Recompute::none, f32).parameters, 4 * P);
}

TEST(LayoutMemory, SequenceParallelDividesWhatIsSaved) {
  DecoderConfig m = llama(8);
  m.kv_heads = 8;  // no head is shared
  m.vocabulary = 1024;
  ASSERT_TRUE(m.complete().ok());
  Layout layout = layout_of({.tensor = 4});
  layout.mesh.kv_sharing = 1;
  const auto saved = [&](const Layout& of, int64_t layers) {
    DecoderConfig some = m;
    some.layers = layers;
    return memory_of(some, of).activations;
  };
  EXPECT_EQ(4 * (saved(layout, 8) - saved(layout, 4)), saved({}, 8) - saved({}, 4));
}

TEST(LayoutMemory, ContextDividesTokens) {
  const auto saved = [&](int context, int64_t layers) {
    return memory_of(llama(layers), layout_of({.context = context})).activations;
  };
  EXPECT_EQ(2 * (saved(2, 8) - saved(2, 4)), saved(1, 8) - saved(1, 4));
}

TEST(LayoutMemory, GpipeHoldsEveryMicrobatchWithItsLogits) {
  const DecoderConfig m = llama(4);
  Layout layout = layout_of({.pipeline = 4});
  const auto activations = [&](int stage) { return memory_of(m, layout, stage).activations; };
  const int64_t before = activations(3);
  layout.schedule = Schedule::gpipe;
  EXPECT_GT(activations(3), 14 * before) << "16 microbatches, and what backward holds beside one";
}

TEST(LayoutMemory, RecomputingLeavesLessOfEachBlock) {
  const DecoderConfig m = llama(8);
  const Layout layout = layout_of({.pipeline = 4, .tensor = 2});
  const auto of = [&](Recompute recompute) { return memory_of(m, layout, 0, recompute).activations; };
  EXPECT_LT(of(Recompute::attention), of(Recompute::none));
  EXPECT_LT(of(Recompute::block), of(Recompute::attention));
}

}  // namespace
}  // namespace troupe::parallel
