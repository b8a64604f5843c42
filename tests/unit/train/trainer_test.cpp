#include "actors/train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>
#include <map>

#include "actors/train/trainer_state.h"
#include "runtime/base/random.h"

namespace troupe::train {
namespace {

using kernels::DType;
using kernels::Tensor;
using testing::HasSubstr;

constexpr int64_t kVocabulary = 23, kLength = 9;

parallel::DecoderConfig model(float dropout = 0) {
  parallel::DecoderConfig c;
  c.vocabulary = kVocabulary;
  c.context = 16;
  c.layers = 2;
  c.width = 16;
  c.heads = 2;
  c.hidden = 24;
  c.dropout = dropout;
  TROUPE_CHECK(c.complete().ok());
  return c;
}

TrainOptions options(int64_t micro_batch = 0) {
  TrainOptions o;
  o.steps = 10;
  o.sequence_length = kLength;
  o.global_batch = 4;
  o.micro_batch = micro_batch;
  o.learning_rate.peak = 1e-2;
  return o;
}

data::SequenceBatch batch(int64_t first, int64_t sequences = 4) {
  data::SequenceBatch b;
  b.sequence_length = kLength;
  for (int64_t s = first; s < first + sequences; ++s) {
    RandomStream random{.key = static_cast<uint64_t>(s)};
    for (int64_t t = 0; t < kLength; ++t) {
      b.tokens.push_back(static_cast<int32_t>(random.below(kVocabulary)));
      const bool target = random.below(4) != 0;
      b.labels.push_back(target ? static_cast<int32_t>(random.below(kVocabulary)) : data::kIgnoredLabel);
      b.target_count += target;
      b.positions.push_back(static_cast<int32_t>(t));
    }
    b.sequence_ids.push_back(s);
  }
  return b;
}

class TrainerTest : public testing::Test {
 protected:
  Trainer make(const TrainOptions& o, DType compute = DType::f64, float dropout = 0) {
    return Trainer(model(dropout), o, parallel::Numerics::of(compute), *device, alone);
  }
  static std::map<std::string, std::vector<double>> values(Trainer& trainer) {
    std::map<std::string, std::vector<double>> result;
    for (auto& [name, tensor] : state_tensors(trainer)) result[name] = tensor.to_host<double>();
    return result;
  }
  static void set(Trainer& trainer, std::string_view name, float value) {
    parallel::Parameter& p = *trainer.parameters().find(name);
    const std::vector<float> all(static_cast<size_t>(p.global_elements()), value);
    p.assign(Tensor::from<float>(p.value().device(), all, p.spec().shape));
  }

  std::unique_ptr<kernels::Device> device = kernels::make_cpu_device(2);
  parallel::MeshGroups alone;
};

// f64: Adam divides by the root of the second moment, so a gradient of 1e-6 whose rounding is 1e-18 moves its
// parameter by a relative 1e-12 of the rate, 1e-2.
TEST_F(TrainerTest, MicrobatchesOfAnySizeTakeTheSameSteps) {
  for (float dropout : {0.0f, 0.2f}) {
    Trainer whole = make(options(), DType::f64, dropout);
    std::vector<StepReport> reports;
    for (int64_t i = 0; i < 3; ++i) reports.push_back(*whole.step(batch(4 * i)));
    const auto expected = values(whole);
    for (int64_t micro : {1, 2}) {
      Trainer cut = make(options(micro), DType::f64, dropout);
      for (int64_t i = 0; i < 3; ++i) {
        const auto report = cut.step(batch(4 * i));
        ASSERT_TRUE(report.ok());
        const StepReport& whole_report = reports[static_cast<size_t>(i)];
        EXPECT_NEAR(report->loss, whole_report.loss, 1e-12);
        EXPECT_NEAR(report->gradient_norm, whole_report.gradient_norm, 1e-12);
        EXPECT_EQ(report->learning_rate, whole_report.learning_rate);
        EXPECT_EQ(report->tokens, 4 * kLength);
        EXPECT_EQ(report->step, i + 1);
      }
      for (const auto& [name, tensor] : values(cut)) {
        const auto& reference = expected.at(name);
        for (size_t i = 0; i < tensor.size(); ++i) ASSERT_NEAR(tensor[i], reference[i], 1e-12) << name;
      }
    }
  }
}

TEST_F(TrainerTest, RecomputingTakesTheSameStepsToTheBit) {
  Trainer kept = make(options(2), DType::f32, 0.1f);
  for (int64_t i = 0; i < 3; ++i) ASSERT_TRUE(kept.step(batch(4 * i)).ok());
  for (auto recompute : {parallel::Recompute::attention, parallel::Recompute::block}) {
    TrainOptions o = options(2);
    o.recompute = recompute;
    Trainer again = make(o, DType::f32, 0.1f);
    for (int64_t i = 0; i < 3; ++i) ASSERT_TRUE(again.step(batch(4 * i)).ok());
    EXPECT_EQ(values(again), values(kept));
  }
}

TEST_F(TrainerTest, EvaluationIsTheSumOfMinusLogProbabilitiesAndChangesNothing) {
  TrainOptions o = options(3);
  o.global_batch = 6;
  o.label_smoothing = 0.2;
  Trainer trainer = make(o, DType::f64, 0.5f);
  const auto before = values(trainer);
  const data::SequenceBatch given = batch(0, 4);  // no multiple of the microbatch
  const ValidationReport report = trainer.evaluate(given);
  EXPECT_EQ(report.targets, given.target_count);
  double sum = 0;
  parallel::Batch b;
  b.tokens = Tensor::from<int32_t>(*device, given.tokens, {4, kLength});
  b.positions = Tensor::from<int32_t>(*device, given.positions, {4, kLength});
  kernels::Tape tape(*device, kernels::Tape::Mode::no_gradient);
  const auto logits = trainer.model().logits(tape, trainer.model().forward(tape, b)).tensor().to_host<double>();
  for (size_t row = 0; row < given.labels.size(); ++row) {
    if (given.labels[row] < 0) continue;
    double total = 0;
    for (size_t v = 0; v < kVocabulary; ++v) total += std::exp(logits[row * kVocabulary + v]);
    sum += std::log(total) - logits[row * kVocabulary + static_cast<size_t>(given.labels[row])];
  }
  EXPECT_NEAR(report.loss, sum, 1e-11);  // f64 sums of some 30 terms of 3
  EXPECT_EQ(values(trainer), before);
  EXPECT_EQ(trainer.completed(), 0);
}

TEST_F(TrainerTest, TheFirstLossOfAFreshModelIsThatOfAGuess) {
  Trainer trainer = make(options(), DType::f32);
  const auto report = trainer.step(batch(0));
  ASSERT_TRUE(report.ok());
  // Logits of a fresh model deviate by about 0.02·√16 = 0.08: the loss lies within 0.1 of ln V.
  EXPECT_NEAR(report->loss, std::log(kVocabulary), 0.1);
}

TEST_F(TrainerTest, ABatchWithoutTargetsLearnsNothing) {
  TrainOptions o = options();
  o.optimizer.weight_decay = 0;
  Trainer trainer = make(o);
  const auto before = values(trainer);
  data::SequenceBatch empty = batch(0);
  for (int32_t& label : empty.labels) label = data::kIgnoredLabel;
  empty.target_count = 0;
  const auto report = trainer.step(empty);
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->loss, 0);
  EXPECT_EQ(report->gradient_norm, 0);
  EXPECT_EQ(values(trainer), before);
}

void expect_named(const Result<StepReport>& report, std::string_view what, std::string_view where) {
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().kind(), ErrorKind::failed);
  EXPECT_THAT(report.error().message(), HasSubstr(std::string(what)));
  EXPECT_THAT(report.error().message(), HasSubstr(std::string(where)));
  EXPECT_EQ(report.error().message().find('\n'), std::string::npos);
}

TEST_F(TrainerTest, ALossThatIsNotFiniteNamesItsOperationAndLeavesEverythingAsItWas) {
  for (auto recompute : {parallel::Recompute::none, parallel::Recompute::attention, parallel::Recompute::block}) {
    TrainOptions o = options(2);
    o.recompute = recompute;
    Trainer trainer = make(o, DType::f32);
    ASSERT_TRUE(trainer.step(batch(0)).ok());
    const auto good = values(trainer);
    Trainer reference = make(o, DType::f32);
    ASSERT_TRUE(reference.step(batch(0)).ok());

    // Gate and up of 1e20 each: their product overflows f32 in the second block, and nothing does before.
    set(trainer, "blocks.1.feed_forward.gate.weight", 1e20f);
    set(trainer, "blocks.1.feed_forward.up.weight", 1e20f);
    const auto before = values(trainer);
    expect_named(trainer.step(batch(4)), "step 2: the loss is ", "blocks.1.feed_forward.swiglu");
    EXPECT_EQ(values(trainer), before);
    EXPECT_EQ(trainer.completed(), 1);

    // Once mended, it goes on as if nothing had been: no gradient of the failed step is left.
    for (const char* name : {"blocks.1.feed_forward.gate.weight", "blocks.1.feed_forward.up.weight"}) {
      trainer.parameters().find(name)->assign(reference.parameters().find(name)->master());
    }
    ASSERT_TRUE(trainer.step(batch(4)).ok());
    ASSERT_TRUE(reference.step(batch(4)).ok());
    EXPECT_EQ(values(trainer), values(reference));
  }
}

TEST_F(TrainerTest, AParameterThatIsNotFiniteIsNamed) {
  Trainer trainer = make(options(), DType::f32);
  set(trainer, "blocks.0.attention.key.weight", std::nanf(""));
  expect_named(trainer.step(batch(0)), "step 1: the loss is ", "the parameter blocks.0.attention.key.weight");
}

// The head's weights are near the end of f32 and the norm before it takes them back: logits and loss are of
// size 1, but the gradient that the head hands on is not. Only the last microbatch has targets.
TEST_F(TrainerTest, AGradientThatIsNotFiniteIsFoundInWhateverMicrobatchItIs) {
  Trainer trainer = make(options(1), DType::f32);
  set(trainer, "final_norm.weight", 1e-38f);
  parallel::Parameter& head = *trainer.parameters().find("head.weight");
  std::vector<float> weights(static_cast<size_t>(head.global_elements()));
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = i < 16 ? 3e38f : -3e38f;
  head.assign(Tensor::from<float>(*device, weights, head.spec().shape));
  data::SequenceBatch given = batch(0);
  given.target_count = 0;
  for (size_t i = 0; i < given.labels.size(); ++i) {
    given.labels[i] = i < given.labels.size() - 1 ? data::kIgnoredLabel : 0;
    given.target_count += given.labels[i] >= 0;
  }
  const auto before = values(trainer);
  expect_named(trainer.step(given), "step 1: the gradient norm is ", "first not finite in head.linear backward");
  EXPECT_EQ(values(trainer), before);
  for (const parallel::Parameter* p : trainer.parameters().all()) EXPECT_FALSE(p->has_gradient()) << p->name();
}

TEST_F(TrainerTest, RefusesMicrobatchesThatLeaveARemainder) {
  EXPECT_THROW(make(options(3)), CheckFailure);
  Trainer trainer = make(options());
  EXPECT_EQ(trainer.options().micro_batch, 4);
  EXPECT_THROW((void)trainer.step(batch(0, 3)).ok(), CheckFailure);
}

TEST_F(TrainerTest, ATrainerThatIsSavedAndLoadedGoesOnToTheBit) {
  std::string root = testing::TempDir() + "troupe-trainer-XXXXXX";
  ASSERT_NE(::mkdtemp(root.data()), nullptr);
  PosixFileSystem files;
  for (DType compute : {DType::f32, DType::bf16}) {
    Trainer first = make(options(2), compute, 0.1f);
    for (int64_t i = 0; i < 2; ++i) ASSERT_TRUE(first.step(batch(4 * i)).ok());
    checkpoint::CheckpointStore store(files, root + "/" + std::string(kernels::name_of(compute)));
    checkpoint::Manifest header;
    header.step = first.completed();
    const auto folder = store.save(header, state_tensors(first));
    ASSERT_TRUE(folder.ok()) << folder.error().message();
    const auto checkpoint = checkpoint::Checkpoint::open(*folder);
    ASSERT_TRUE(checkpoint.ok());

    TrainOptions o = options(2);
    Trainer second = make(o, compute, 0.1f);
    ASSERT_TRUE(load_state(*checkpoint, second).ok());
    EXPECT_EQ(second.completed(), 2);
    EXPECT_EQ(second.step(batch(8))->loss, first.step(batch(8))->loss);
    EXPECT_EQ(values(second), values(first));

    // Only the model, for generation: what it computes with is the same.
    ASSERT_TRUE(load_state(*checkpoint, second).ok());
    parallel::ParameterSet inference(*device, parallel::Numerics::of(compute), false);
    const parallel::Decoder decoder(model(), inference);
    ASSERT_TRUE(load_model(*checkpoint, inference).ok());
    for (parallel::Parameter* p : inference.all()) {
      EXPECT_EQ(p->value().to_host<double>(), second.parameters().find(p->name())->value().to_host<double>());
    }
    parallel::DecoderConfig other = model();
    other.hidden = 32;
    parallel::ParameterSet wrong(*device, parallel::Numerics::of(compute), false);
    const parallel::Decoder wrong_decoder(other, wrong);
    const Status status = load_model(*checkpoint, wrong);
    ASSERT_FALSE(status.ok());
    EXPECT_THAT(status.error().message(), HasSubstr("gate.weight\" is [24, 16], the model's config makes it [32, 16]"));
  }
  EXPECT_TRUE(remove_all(files, root).ok());
}

}  // namespace
}  // namespace troupe::train
