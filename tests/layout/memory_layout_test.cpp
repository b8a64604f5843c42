// The closed formulas of parallel/plan/memory.h against what every rank's allocator counts in real steps.
#include <gtest/gtest.h>

#include <cstdio>
#include <thread>

#include "actors/train/trainer.h"
#include "parallel/mesh/layout.h"
#include "parallel/plan/memory.h"
#include "runtime/base/random.h"
#include "tests/sanitized.h"

namespace troupe::layout {
namespace {

using kernels::DType;
using kernels::MemoryKind;
using parallel::Axis;
using parallel::Layout;
using parallel::Recompute;
using parallel::Schedule;
using parallel::StepShape;
using parallel::TrainingMemory;

struct Case {
  const char* name;
  parallel::MeshSizes mesh;
  int zero = 0;
  Schedule schedule = Schedule::one_f_one_b;
  int virtual_stages = 1;
  Recompute recompute = Recompute::none;
  DType compute = DType::f32;
  bool tied = false;
  int64_t experts = 0;
  int64_t micro_batch = 1, microbatches = 4;
};

parallel::DecoderConfig model_of(const Case& c) {
  parallel::DecoderConfig m;
  m.vocabulary = 1000;
  m.context = 256;
  m.layers = 8;
  m.width = 128;
  m.heads = 8;
  m.kv_heads = 2;
  m.hidden = 512;
  m.tied = c.tied;
  m.experts.count = c.experts;
  m.experts.hidden = 192;
  EXPECT_TRUE(m.complete().ok());
  return m;
}

data::SequenceBatch sequences(const StepShape& shape, int64_t begin, int64_t end, int64_t vocabulary) {
  data::SequenceBatch batch;
  batch.sequence_length = shape.sequence_length;
  for (int64_t s = begin; s < end; ++s) {
    RandomStream random{.key = derive_key(1, static_cast<uint64_t>(s))};
    for (int64_t t = 0; t < shape.sequence_length; ++t) {
      batch.tokens.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(vocabulary))));
      batch.labels.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(vocabulary))));
      batch.positions.push_back(static_cast<int32_t>(t));
    }
    batch.target_count += shape.sequence_length;
    batch.sequence_ids.push_back(s);
  }
  return batch;
}

TrainingMemory peaks_of(kernels::Device& device) {
  const auto peak = [&](MemoryKind kind) { return device.allocator().use(kind).peak_bytes; };
  return {.parameters = peak(MemoryKind::parameters),
          .gradients = peak(MemoryKind::gradients),
          .optimizer = peak(MemoryKind::optimizer),
          .activations = peak(MemoryKind::activations),
          .buffers = peak(MemoryKind::buffers)};
}

// The most that a rank holds in its second step, by kind.
std::vector<TrainingMemory> measure(const Case& c, const parallel::DecoderConfig& model, const Layout& layout,
                                    const StepShape& shape) {
  const int ranks = layout.mesh.ranks();
  auto world = parallel::make_thread_communicators(ranks, "world", {.deadline = std::chrono::seconds(120)});
  std::vector<TrainingMemory> peaks(world.size());
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < world.size(); ++rank) {
    threads.emplace_back([&, rank] {
      try {
        parallel::MeshGroups groups(parallel::Mesh(layout.mesh, static_cast<int>(rank)), *world[rank]);
        const auto device = kernels::make_cpu_device(1);
        train::TrainOptions options;
        options.steps = 2;
        options.sequence_length = shape.sequence_length;
        options.global_batch = shape.global_batch;
        options.micro_batch = shape.micro_batch;
        options.recompute = c.recompute;
        train::Trainer trainer(
            model, options, parallel::Numerics::of(c.compute), *device, groups,
            {.zero = layout.zero, .schedule = layout.schedule, .virtual_stages = layout.virtual_stages});
        const int64_t share = trainer.local_batch(), begin = groups.mesh().rank(Axis::data) * share;
        const data::SequenceBatch batch = sequences(shape, begin, begin + share, model.vocabulary);
        for (int step = 0; step < 2; ++step) {
          device->allocator().reset_peak();
          EXPECT_TRUE(trainer.step(batch).ok());
        }
        peaks[rank] = peaks_of(*device);
      } catch (const std::exception& e) {
        ADD_FAILURE() << "rank " << rank << ": " << e.what();
        world[rank]->abort(e.what());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return peaks;
}

class LayoutMemory : public testing::TestWithParam<Case> {};

TEST_P(LayoutMemory, EveryRanksPeakIsThePlans) {
  const Case& c = GetParam();
  const parallel::DecoderConfig model = model_of(c);
  Layout layout{.mesh = c.mesh, .zero = c.zero, .schedule = c.schedule, .virtual_stages = c.virtual_stages};
  layout.mesh.kv_sharing = parallel::kv_sharing(model, c.mesh.tensor);
  const StepShape shape{.global_batch = c.microbatches * c.micro_batch * c.mesh.data,
                        .sequence_length = 256,
                        .micro_batch = c.micro_batch};
  ASSERT_TRUE(parallel::check_layout(model, layout, shape).ok());
  const std::vector<TrainingMemory> peaks = measure(c, model, layout, shape);
  for (size_t rank = 0; rank < peaks.size(); ++rank) {
    const int stage = parallel::Mesh(layout.mesh, static_cast<int>(rank)).rank(Axis::pipeline);
    const TrainingMemory plan =
        parallel::training_memory(model, parallel::Numerics::of(c.compute), layout, shape, c.recompute, stage);
    const TrainingMemory& found = peaks[rank];
    const auto off = [](int64_t planned, int64_t counted) {
      return 100 * static_cast<double>(planned - counted) / static_cast<double>(std::max<int64_t>(counted, 1));
    };
    std::printf(
        "%-24s rank %zu: %9lld bytes, planned %+.1f%%; activations %9lld, planned %+.1f%%; buffers %7lld, planned "
        "%lld\n",
        c.name, rank, static_cast<long long>(found.total()), off(plan.total(), found.total()),
        static_cast<long long>(found.activations), off(plan.activations, found.activations),
        static_cast<long long>(found.buffers), static_cast<long long>(plan.buffers));
    EXPECT_EQ(found.optimizer, plan.optimizer) << "rank " << rank;
    EXPECT_EQ(found.parameters, plan.parameters) << "rank " << rank;
    EXPECT_EQ(found.gradients, plan.gradients) << "rank " << rank;
    // Experts' loads are taken as even, and are not.
    EXPECT_NEAR(off(plan.activations, found.activations), 0, c.experts > 0 ? 8 : 5) << "rank " << rank;
    // Kernels' scratch memory is counted as buffers, too. It does not grow with the model.
    EXPECT_GE(found.buffers, plan.buffers) << "rank " << rank;
    EXPECT_LE(found.buffers, plan.buffers + (2 << 20)) << "rank " << rank;
    EXPECT_NEAR(off(plan.total(), found.total() - (found.buffers - plan.buffers)), 0, 5) << "rank " << rank;
  }
}

// Four times the ranks, four times the context, to 64k tokens: a rank keeps as much as before.
TEST(ContextMemory, DoesNotGrowWithTheContextWhereRanksDo) {
  const int64_t tokens = kSanitized ? 512 : 8192;  // of a rank
  Case c{.name = "context", .mesh = {}, .microbatches = 1};
  parallel::DecoderConfig model;
  model.vocabulary = 64;
  model.layers = 1;
  model.width = 32;
  model.heads = 2;
  model.kv_heads = 1;
  model.hidden = 64;
  model.context = 8 * tokens;
  ASSERT_TRUE(model.complete().ok());
  int64_t first = 0;
  for (int ranks : {2, 8}) {
    const Layout layout{.mesh = {.context = ranks}};
    const StepShape shape{.global_batch = 1, .sequence_length = ranks * tokens};
    const std::vector<TrainingMemory> peaks = measure(c, model, layout, shape);
    for (const TrainingMemory& peak : peaks) {
      // But for the rotary angles of all positions: cosine and sine, f32, of half a head's width each.
      const int64_t angles = shape.sequence_length * model.head_width * 4;
      const int64_t bytes = peak.total() - angles;
      std::printf("%6lld tokens on %d ranks: %9lld bytes on each, and %lld of rotary angles\n",
                  static_cast<long long>(shape.sequence_length), ranks, static_cast<long long>(bytes),
                  static_cast<long long>(angles));
      if (first == 0) first = bytes;
      EXPECT_NEAR(static_cast<double>(bytes), static_cast<double>(first), 0.05 * static_cast<double>(first)) << ranks;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, LayoutMemory,
    testing::Values(
        Case{.name = "one_rank", .mesh = {}}, Case{.name = "zero_0", .mesh = {.data = 2}},
        Case{.name = "zero_1", .mesh = {.data = 2}, .zero = 1},
        Case{.name = "zero_2", .mesh = {.data = 4}, .zero = 2, .compute = DType::bf16},
        Case{.name = "zero_3", .mesh = {.data = 2}, .zero = 3},
        Case{.name = "zero_3_bf16", .mesh = {.data = 4}, .zero = 3, .compute = DType::bf16},
        Case{.name = "zero_2_tied", .mesh = {.data = 2}, .zero = 2, .tied = true},
        Case{.name = "tensor", .mesh = {.tensor = 2}},
        Case{.name = "tensor_shared_heads", .mesh = {.tensor = 4}, .zero = 1, .micro_batch = 2},
        Case{.name = "tensor_bf16", .mesh = {.data = 2, .tensor = 2}, .zero = 1, .compute = DType::bf16},
        Case{.name = "gpipe", .mesh = {.pipeline = 2}, .schedule = Schedule::gpipe},
        Case{.name = "one_f_one_b", .mesh = {.pipeline = 4}},
        Case{.name = "interleaved", .mesh = {.pipeline = 2}, .schedule = Schedule::interleaved, .virtual_stages = 2},
        Case{.name = "pipeline_tied", .mesh = {.pipeline = 2, .data = 2}, .zero = 1, .tied = true},
        Case{.name = "pipeline_tensor", .mesh = {.pipeline = 2, .data = 2, .tensor = 2}, .zero = 2},
        Case{.name = "recompute_attention", .mesh = {.data = 2}, .recompute = Recompute::attention},
        Case{.name = "recompute_block", .mesh = {.pipeline = 2, .tensor = 2}, .recompute = Recompute::block},
        Case{.name = "context", .mesh = {.context = 2}, .zero = 1},
        Case{.name = "experts", .mesh = {.data = 2, .expert = 2}, .zero = 1, .experts = 4},
        Case{.name = "experts_tensor", .mesh = {.data = 2, .tensor = 2, .expert = 2}, .zero = 2, .experts = 4}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace troupe::layout
