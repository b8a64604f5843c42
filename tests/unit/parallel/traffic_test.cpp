#include "parallel/plan/traffic.h"

#include <gtest/gtest.h>

namespace troupe::parallel {
namespace {

using kernels::DType;

constexpr int64_t kTokens = 64, kMicrobatches = 4;

DecoderConfig model() {
  DecoderConfig m;
  m.layers = 4;
  m.width = 128;
  m.heads = 8;
  m.kv_heads = 2;
  m.vocabulary = 1000;
  m.hidden = 512;
  EXPECT_TRUE(m.complete().ok());
  return m;
}

Transfers sent(const DecoderConfig& m, Layout layout, int stage = 0, Recompute recompute = Recompute::none) {
  layout.mesh.kv_sharing = kv_sharing(m, layout.mesh.tensor);
  const StepShape shape{kMicrobatches * layout.mesh.data, kTokens, 1};
  return step_traffic(m, Numerics::of(DType::bf16), layout, shape, recompute, stage);
}

// Bytes a step, and operations, of one kind.
struct Sum {
  double bytes = 0, count = 0;
};
Sum sum(const Transfers& transfers, Group group, Collective collective) {
  Sum sum;
  for (const Transfer& t : transfers) {
    if (t.group != group || t.collective != collective) continue;
    sum.bytes += t.bytes * t.count;
    sum.count += t.count;
  }
  return sum;
}

Layout layout_of(MeshSizes mesh, int zero = 0) {
  Layout layout;
  layout.mesh = mesh;
  layout.zero = zero;
  return layout;
}

TEST(Traffic, OneRankSendsNothing) { EXPECT_TRUE(sent(model(), {}).empty()); }

TEST(Traffic, TensorParallelGathersAgainInBackward) {
  const DecoderConfig m = model();
  const Transfers t = sent(m, layout_of({.tensor = 4}));
  const double part = 0.75 * kTokens * 128 * 2;  // what a rank sends of a part's input in bf16
  const Sum gathers = sum(t, Group::tensor, Collective::all_gather);
  // Two parts a block: once forward, twice backward; the head the same; the embedding's gradient in f32.
  const double losses = 0.75 * 4 * kTokens * 4;  // one number of each token in f32, of four ranks
  EXPECT_EQ(gathers.count, kMicrobatches * (4 * 2 * 3 + 2 + 1 + 2));
  EXPECT_EQ(gathers.bytes, kMicrobatches * (part * (4 * 2 * 3 + 2 + 2) + 2 * losses));
  const Sum scatters = sum(t, Group::tensor, Collective::reduce_scatter);
  EXPECT_EQ(scatters.count, kMicrobatches * (4 * 2 * 2 + 1 + 1));
  // Recomputing blocks repeats their forward.
  EXPECT_EQ(sum(sent(m, layout_of({.tensor = 4}), 0, Recompute::block), Group::tensor, Collective::all_gather).count,
            kMicrobatches * (4 * 2 * 4 + 3 + 2));
}

TEST(Traffic, GradientsAndParametersFollowZero) {
  const DecoderConfig m = model();
  const double P = static_cast<double>(m.parameters()), share = 7.0 / 8;
  // Matrices in bf16; the table that is looked up, and norms, in f32.
  const double wide = 1000 * 128 + 9 * 128, values = 2 * (P - wide) + 4 * wide;
  const auto of = [&](int zero, Collective c) {
    const Transfers t = sent(m, layout_of({.data = 8}, zero));
    Sum all = sum(t, Group::replicas, c);
    EXPECT_EQ(sum(t, Group::stage, c).count, all.count) << "norms";
    for (Group group : {Group::stage, Group::shared_heads}) all.bytes += sum(t, group, c).bytes;
    return all;
  };
  EXPECT_DOUBLE_EQ(of(0, Collective::all_reduce).bytes, 2 * share * 4 * P);
  EXPECT_EQ(of(0, Collective::all_reduce).count, 1);
  EXPECT_DOUBLE_EQ(of(1, Collective::reduce_scatter).bytes, share * 4 * P);
  EXPECT_DOUBLE_EQ(of(1, Collective::all_gather).bytes, share * values);
  EXPECT_DOUBLE_EQ(of(2, Collective::reduce_scatter).bytes, kMicrobatches * share * 4 * P);
  EXPECT_EQ(of(2, Collective::all_gather).count, 1);
  EXPECT_EQ(of(3, Collective::all_gather).count, 2 * kMicrobatches) << "forward and backward of each microbatch";
}

TEST(Traffic, ReplicasAreThoseOfDataAndContext) {
  const Transfers t = sent(model(), layout_of({.data = 2, .context = 4}));
  double bytes = 0;
  for (Group group : {Group::replicas, Group::stage, Group::shared_heads})
    bytes += sum(t, group, Collective::all_reduce).bytes;
  EXPECT_DOUBLE_EQ(bytes, 2 * 7.0 / 8 * 4 * static_cast<double>(model().parameters()));
}

TEST(Traffic, KeysAndValuesGoRoundTheRing) {
  const DecoderConfig m = model();
  const Sum ring = sum(sent(m, layout_of({.context = 4})), Group::context, Collective::ring);
  const double block = kTokens / 4 * 2 * 2 * 16;  // elements: keys and values of two heads of 16
  // Three times forward and three backward in bf16; their gradients four times in f32.
  EXPECT_EQ(ring.bytes, kMicrobatches * 4 * block * (6 * 2 + 4 * 4));
}

TEST(Traffic, StagesSendTheResidualStream) {
  const DecoderConfig m = model();
  const double message = kTokens * 128 * 4;
  const Layout layout = layout_of({.pipeline = 4});
  EXPECT_EQ(sum(sent(m, layout, 0), Group::pipeline, Collective::send).bytes, kMicrobatches * message);
  EXPECT_EQ(sum(sent(m, layout, 1), Group::pipeline, Collective::send).bytes, 2 * kMicrobatches * message);
  EXPECT_EQ(sum(sent(m, layout, 3), Group::pipeline, Collective::send).bytes, kMicrobatches * message);
}

TEST(Traffic, RowsGoToTheirExpertsAndBack) {
  DecoderConfig m = model();
  m.experts.count = 8;
  m.experts.per_token = 2;
  m.experts.hidden = 64;
  m.experts.dense_layers = 1;
  ASSERT_TRUE(m.complete().ok());
  const Transfers t = sent(m, layout_of({.data = 4, .expert = 4}));
  const Sum all = sum(t, Group::expert, Collective::all_to_all);
  EXPECT_EQ(all.count, kMicrobatches * 3 * 4) << "dispatch and combine, forward and backward, of three blocks";
  EXPECT_EQ(all.bytes, kMicrobatches * 3 * 4 * 0.75 * kTokens * 2 * 128 * 2);
  EXPECT_EQ(sum(t, Group::expert_replicas, Collective::all_reduce).count, 0) << "each expert is on one rank alone";
}

TEST(Traffic, GroupsWithinANodeHaveItsLinks) {
  const DeviceSpec h100 = *device_named("h100");
  const MeshSizes mesh{.pipeline = 2, .data = 16, .tensor = 8};
  EXPECT_EQ(links_of(h100, mesh, Group::tensor).ring_bandwidth(h100), h100.node_bandwidth);
  EXPECT_EQ(links_of(h100, mesh, Group::replicas).in_node, 1);
  EXPECT_EQ(links_of(h100, mesh, Group::replicas).ring_bandwidth(h100), h100.network_bandwidth);
  EXPECT_EQ(links_of(h100, mesh, Group::pipeline).pair_bandwidth(h100), h100.network_bandwidth);
  // Four data ranks in each node share its adapters.
  EXPECT_EQ(links_of(h100, mesh, Group::stage).in_node, 8);
  EXPECT_EQ(links_of(h100, {.data = 16, .tensor = 4, .kv_sharing = 2}, Group::shared_heads).in_node, 4);
  EXPECT_EQ(links_of(h100, {.data = 16, .tensor = 2}, Group::replicas).ring_bandwidth(h100),
            4 * h100.network_bandwidth);
}

}  // namespace
}  // namespace troupe::parallel
