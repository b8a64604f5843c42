// A step on several ranks is the step of one rank on the same global batch: loss, gradient norm and every tensor.
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "actors/train/trainer.h"
#include "actors/train/trainer_state.h"
#include "runtime/base/random.h"

namespace troupe::train {
namespace {

using kernels::DType;
using kernels::Tensor;

constexpr int64_t kVocabulary = 23, kLength = 9, kGlobalBatch = 12;

parallel::DecoderConfig model(bool gpt2) {
  parallel::DecoderConfig c;
  c.vocabulary = kVocabulary;
  c.context = 16;
  c.layers = 2;
  c.width = 16;
  c.heads = 4;
  c.kv_heads = gpt2 ? 4 : 2;
  c.hidden = 24;
  c.dropout = 0.1f;
  if (gpt2) {
    c.norm = parallel::NormKind::layer;
    c.position = parallel::PositionKind::learned;
    c.mlp = parallel::MlpKind::gelu;
    c.biases = true;
    c.tied = true;
  }
  TROUPE_CHECK(c.complete().ok());
  return c;
}

TrainOptions options(int64_t micro_batch) {
  TrainOptions o;
  o.steps = 10;
  o.sequence_length = kLength;
  o.global_batch = kGlobalBatch;
  o.micro_batch = micro_batch;
  o.learning_rate.peak = 1e-2;
  return o;
}

// Sequences [begin, end); how many targets one has differs widely, and some have none.
data::SequenceBatch batch(int64_t begin, int64_t end) {
  data::SequenceBatch b;
  b.sequence_length = kLength;
  for (int64_t s = begin; s < end; ++s) {
    RandomStream random{.key = static_cast<uint64_t>(s)};
    const uint64_t density = random.below(4);
    for (int64_t t = 0; t < kLength; ++t) {
      b.tokens.push_back(static_cast<int32_t>(random.below(kVocabulary)));
      const bool target = random.below(4) < density;
      b.labels.push_back(target ? static_cast<int32_t>(random.below(kVocabulary)) : data::kIgnoredLabel);
      b.target_count += target;
      b.positions.push_back(static_cast<int32_t>(t));
    }
    b.sequence_ids.push_back(s);
  }
  return b;
}

struct Layout {
  int ranks = 1;
  int64_t micro_batch = 0;
  DType compute = DType::f64;
  bool gpt2 = false;
};

struct Outcome {
  std::vector<StepReport> reports;
  std::vector<std::vector<double>> state;  // every tensor
};

// What one rank does to its trainer before the first step.
using Spoil = std::function<void(int rank, Trainer&)>;

std::vector<Outcome> train(const Layout& layout, int steps, std::vector<std::string>* errors = nullptr,
                           const Spoil& spoil = {}) {
  auto group = parallel::make_thread_communicators(layout.ranks);
  std::vector<Outcome> outcomes(group.size());
  if (errors) errors->resize(group.size());
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < group.size(); ++rank) {
    threads.emplace_back([&, rank] {
      const auto device = kernels::make_cpu_device(1);
      parallel::MeshGroups groups(parallel::Mesh({.data = layout.ranks}, static_cast<int>(rank)), *group[rank]);
      Trainer trainer(model(layout.gpt2), options(layout.micro_batch), parallel::Numerics::of(layout.compute), *device,
                      groups);
      if (spoil) spoil(static_cast<int>(rank), trainer);
      const int64_t share = trainer.local_batch();
      for (int64_t step = 0; step < steps; ++step) {
        const int64_t begin = step * kGlobalBatch + static_cast<int64_t>(rank) * share;
        const auto report = trainer.step(batch(begin, begin + share));
        if (report.ok()) outcomes[rank].reports.push_back(*report);
        else if (errors) (*errors)[rank] = report.error().message();
      }
      for (auto& [name, tensor] : state_tensors(trainer)) outcomes[rank].state.push_back(tensor.to_host<double>());
    });
  }
  for (std::thread& thread : threads) thread.join();
  return outcomes;
}

void expect_near(const Outcome& a, const Outcome& b, double tolerance) {
  ASSERT_EQ(a.reports.size(), b.reports.size());
  for (size_t i = 0; i < a.reports.size(); ++i) {
    EXPECT_NEAR(a.reports[i].loss, b.reports[i].loss, tolerance) << "step " << i + 1;
    EXPECT_NEAR(a.reports[i].gradient_norm, b.reports[i].gradient_norm, tolerance) << "step " << i + 1;
    EXPECT_EQ(a.reports[i].learning_rate, b.reports[i].learning_rate);
    EXPECT_EQ(a.reports[i].tokens, b.reports[i].tokens);
  }
  ASSERT_EQ(a.state.size(), b.state.size());
  for (size_t t = 0; t < a.state.size(); ++t) {
    for (size_t i = 0; i < a.state[t].size(); ++i)
      ASSERT_NEAR(a.state[t][i], b.state[t][i], tolerance) << "tensor " << t;
  }
}

// f64: sums of some hundred terms in another order, and Adam's division; see trainer_test.cpp.
TEST(DataParallel, AnyNumberOfRanksTakesTheStepsOfOne) {
  for (const bool gpt2 : {false, true}) {
    const Outcome one = train({.gpt2 = gpt2}, 3).front();
    ASSERT_EQ(one.reports.size(), 3u);
    for (const auto& [ranks, micro_batch] : {std::pair{2, 0}, {2, 3}, {3, 2}, {4, 1}, {6, 0}, {12, 1}}) {
      for (const Outcome& outcome : train({.ranks = ranks, .micro_batch = micro_batch, .gpt2 = gpt2}, 3)) {
        SCOPED_TRACE(fmt::format("{} ranks, microbatches of {}", ranks, micro_batch));
        expect_near(outcome, one, 1e-12);
      }
    }
  }
}

// f32 and bf16 round, so ranks differ from one rank; but never from each other.
TEST(DataParallel, RanksAgreeToTheBit) {
  for (DType compute : {DType::f32, DType::bf16}) {
    const std::vector<Outcome> outcomes = train({.ranks = 4, .micro_batch = 1, .compute = compute, .gpt2 = true}, 3);
    for (const Outcome& outcome : outcomes) {
      EXPECT_EQ(outcome.state, outcomes.front().state);
      for (size_t i = 0; i < outcome.reports.size(); ++i)
        EXPECT_EQ(outcome.reports[i].loss, outcomes.front().reports[i].loss);
    }
  }
}

// 1e-4 of a loss of 3: f32 sums of some hundred products differ by 1e-6, three steps of Adam amplify that.
TEST(DataParallel, LossesInF32AreThoseOfOneRank) {
  const Outcome one = train({.compute = DType::f32}, 3).front();
  for (const Outcome& outcome : train({.ranks = 3, .compute = DType::f32}, 3)) {
    for (size_t i = 0; i < one.reports.size(); ++i)
      EXPECT_NEAR(outcome.reports[i].loss, one.reports[i].loss, 1e-4) << "step " << i + 1;
  }
}

TEST(DataParallel, TheSameRunTwiceHasTheSameBits) {
  const Layout layout{.ranks = 3, .micro_batch = 2, .compute = DType::f32};
  EXPECT_EQ(train(layout, 2)[1].state, train(layout, 2)[0].state);
}

TEST(DataParallel, WhatIsNotFiniteOnOneRankEndsTheStepOnAllAndIsNamed) {
  std::vector<std::string> errors;
  const auto outcomes = train({.ranks = 3, .compute = DType::f32}, 1, &errors, [](int rank, Trainer& trainer) {
    if (rank != 1) return;
    parallel::Parameter& p = *trainer.parameters().find("blocks.0.attention.key.weight");
    const std::vector<float> nan(static_cast<size_t>(p.global_elements()), std::nanf(""));
    p.assign(Tensor::from<float>(p.value().device(), nan, p.spec().shape));
  });
  for (const std::string& error : errors) {
    EXPECT_EQ(error,
              "step 1: the loss is nan; first not finite in the parameter blocks.0.attention.key.weight on rank 1");
  }
  for (const Outcome& outcome : outcomes) EXPECT_TRUE(outcome.reports.empty());
}

}  // namespace
}  // namespace troupe::train
