// A mixture of experts over whole steps: losses and loads of the step, the bias, what a checkpoint has of it.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>
#include <map>

#include "actors/train/trainer.h"
#include "actors/train/trainer_state.h"
#include "runtime/base/random.h"

namespace troupe::train {
namespace {

constexpr int64_t kVocabulary = 23, kLength = 9, kSequences = 4;
const char* const kBias = "model/blocks.1.router.bias";

parallel::DecoderConfig model() {
  parallel::DecoderConfig c;
  c.vocabulary = kVocabulary;
  c.layers = 3;
  c.width = 16;
  c.heads = 2;
  c.hidden = 24;
  c.experts.count = 4;
  c.experts.per_token = 2;
  c.experts.hidden = 8;
  c.experts.shared = 1;
  c.experts.dense_layers = 1;
  c.experts.score = parallel::RouterScore::sigmoid;
  c.experts.balance_loss = 0.1f;
  c.experts.z_loss = 0.1f;
  c.experts.bias_rate = 0.125f;
  TROUPE_CHECK(c.complete().ok());
  return c;
}

TrainOptions options(int64_t micro_batch, parallel::Recompute recompute = parallel::Recompute::none) {
  TrainOptions o;
  o.steps = 10;
  o.sequence_length = kLength;
  o.global_batch = kSequences;
  o.micro_batch = micro_batch;
  o.learning_rate.peak = 1e-2;
  o.recompute = recompute;
  return o;
}

data::SequenceBatch batch(int64_t step) {
  data::SequenceBatch b;
  b.sequence_length = kLength;
  for (int64_t s = step * kSequences; s < (step + 1) * kSequences; ++s) {
    RandomStream random{.key = static_cast<uint64_t>(s)};
    for (int64_t t = 0; t < kLength; ++t) {
      b.tokens.push_back(static_cast<int32_t>(random.below(kVocabulary)));
      b.labels.push_back(static_cast<int32_t>(random.below(kVocabulary)));
      ++b.target_count;
      b.positions.push_back(static_cast<int32_t>(t));
    }
    b.sequence_ids.push_back(s);
  }
  return b;
}

class ExpertsTest : public testing::Test {
 protected:
  std::unique_ptr<Trainer> make(const TrainOptions& o) {
    return std::make_unique<Trainer>(model(), o, parallel::Numerics::of(kernels::DType::f64), *device, alone);
  }
  static std::map<std::string, std::vector<double>> values(Trainer& trainer) {
    std::map<std::string, std::vector<double>> result;
    for (auto& [name, tensor] : state_tensors(trainer)) result[name] = tensor.to_host<double>();
    return result;
  }
  std::unique_ptr<kernels::Device> device = kernels::make_cpu_device(1);
  parallel::MeshGroups alone;
};

TEST_F(ExpertsTest, AStepDoesNotDependOnMicrobatchesOrRecomputing) {
  const auto whole = make(options(kSequences)), cut = make(options(1, parallel::Recompute::block));
  for (int64_t step = 0; step < 4; ++step) {
    const auto a = whole->step(batch(step)), b = cut->step(batch(step));
    ASSERT_TRUE(a.ok() && b.ok());
    EXPECT_NEAR(a->loss, b->loss, 1e-12);
    EXPECT_NEAR(a->gradient_norm, b->gradient_norm, 1e-12);
    EXPECT_GT(a->balance_loss, 0);
    EXPECT_NEAR(a->balance_loss, b->balance_loss, 1e-12);
    EXPECT_GT(a->z_loss, 0);
    EXPECT_NEAR(a->z_loss, b->z_loss, 1e-12);
    EXPECT_GT(a->expert_load_entropy, 0);
    EXPECT_LE(a->expert_load_entropy, 1);
    EXPECT_EQ(a->expert_load_entropy, b->expert_load_entropy);
    EXPECT_EQ(whole->expert_loads(), cut->expert_loads());
    EXPECT_EQ(whole->expert_loads().size(), 2u);
    for (const auto& [layer, loads] : whole->expert_loads()) {
      int64_t sum = 0;
      for (int64_t load : loads) sum += load;
      EXPECT_EQ(sum, kSequences * kLength * 2) << layer;
    }
  }
  const auto a = values(*whole), b = values(*cut);
  for (const auto& [name, expected] : a) {
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(b.at(name)[i], expected[i], 1e-10) << name;
  }
}

TEST_F(ExpertsTest, TheBiasFollowsTheLoadsOfTheStep) {
  const auto trainer = make(options(2));
  std::vector<double> expected(4, 0.0);
  for (int64_t step = 0; step < 3; ++step) {
    ASSERT_TRUE(trainer->step(batch(step)).ok());
    const std::vector<int64_t> loads = trainer->expert_loads().at(1);
    const int64_t mean = kSequences * kLength * 2 / 4;
    for (size_t e = 0; e < 4; ++e) expected[e] += loads[e] < mean ? 0.125 : loads[e] > mean ? -0.125 : 0;
    EXPECT_EQ(values(*trainer).at(kBias), expected);
  }
  EXPECT_NE(expected, std::vector<double>(4, 0.0));
  trainer->evaluate(batch(7));
  EXPECT_EQ(values(*trainer).at(kBias), expected);
}

TEST_F(ExpertsTest, ACheckpointHasTheBiasAndNoOptimizerDoes) {
  const auto first = make(options(2)), second = make(options(2));
  for (int64_t step = 0; step < 3; ++step) ASSERT_TRUE(first->step(batch(step)).ok());
  const auto saved = values(*first);
  for (const auto& [name, unused] : saved) {
    if (name.starts_with("optimizer/")) EXPECT_EQ(name.find("router.bias"), std::string::npos) << name;
  }
  std::string folder = testing::TempDir() + "/experts_XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  PosixFileSystem files;
  checkpoint::CheckpointStore store(files, folder);
  checkpoint::Manifest header;
  header.step = 3;
  const auto at = store.save(header, state_tensors(*first));
  ASSERT_TRUE(at.ok()) << at.error().message();
  const auto opened = checkpoint::Checkpoint::open(*at);
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  ASSERT_TRUE(load_state(*opened, *second).ok());
  EXPECT_EQ(values(*second), saved);
  ASSERT_TRUE(first->step(batch(3)).ok() && second->step(batch(3)).ok());
  EXPECT_EQ(values(*second), values(*first));
  EXPECT_TRUE(remove_all(files, folder).ok());
}

TEST_F(ExpertsTest, RecordedRoutingIsReplayed) {
  const auto first = make(options(2)), second = make(options(1));
  const auto routing = std::make_shared<parallel::Routing>();
  first->record_routing(routing);
  for (int64_t step = 0; step < 2; ++step) ASSERT_TRUE(first->step(batch(step)).ok());
  // Another bias would choose others.
  const auto trainer = make(options(1));
  parallel::Parameter& bias = *trainer->parameters().find("blocks.1.router.bias");
  bias.assign(kernels::Tensor::from<double>(*device, std::vector<double>{9, 8, 0, 0}, {4}));
  trainer->replay_routing(routing);
  ASSERT_TRUE(second->step(batch(0)).ok() && trainer->step(batch(0)).ok());
  EXPECT_EQ(trainer->expert_loads(), second->expert_loads());
}

}  // namespace
}  // namespace troupe::train
