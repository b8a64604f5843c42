#include "actors/train/train_wire.h"

#include <gtest/gtest.h>

namespace troupe::train {
namespace {

const RankFailure kFailure{static_cast<int32_t>(ErrorKind::damaged), "step-00000020: cut short"};

// Every member of each is another value than its default.
template <class Check>
void for_each_message(const Check& check) {
  check(RankAssignment{"[train]\nsteps = 3\n", "nano.toml", "runs/nano", 4, 1.5e12, "0123456789abcdef", ~0ull});
  check(RankReady{kFailure, 124'000'000, "CPU, AVX-512"});
  check(RankLoaded{kFailure, 40});
  check(CheckpointFolder{"runs/nano/checkpoints/step-00000040"});
  check(StepPlan{41, 60});
  check(PlanReport{kFailure, 55, true});
  check(RankJoined{3, 2, 4711, ~0ull, 1ull << 40});
  check(MetricsLine{7, 3.25, 1792, 1e5, 0.25, 1.5, 3e-4, 0.4, 2, 3.5, 1.25});
  check(MetricsLine{.step = 7, .loss = 0.1, .validation_loss = 3.5, .validation_bits_per_byte = {}});
  check(MetricsLine{.step = 8,
                    .loss = 0.1,
                    .validation_loss = {},
                    .validation_bits_per_byte = {},
                    .balance_loss = 0.25,
                    .expert_load_entropy = 0.5});
  check(StagedCheckpoint{40, 2, "checkpoints/.tmp-step-00000040-g2", "checkpoints/step-00000040"});
}

TEST(TrainWire, EveryMessageArrivesAsItWasSent) {
  for_each_message([]<class T>(const T& message) {
    const Result<T> arrived = decode<T>(encode(message));
    ASSERT_TRUE(arrived.ok()) << arrived.error().message();
    EXPECT_TRUE(*arrived == message) << typeid(T).name();
    EXPECT_TRUE(*decode<T>(encode(T{})) == T{}) << typeid(T).name();
  });
}

TEST(TrainWire, APieceOfATraceArrivesAsItWasSent) {
  const Result<TracePiece> arrived = decode<TracePiece>(encode(TracePiece{"{\"ph\":\"M\"},\n", 3}));
  ASSERT_TRUE(arrived.ok()) << arrived.error().message();
  EXPECT_EQ(arrived->lines, "{\"ph\":\"M\"},\n");
  EXPECT_EQ(arrived->lost, 3);
}

TEST(TrainWire, BytesThatAreCutShortAreRefused) {
  for_each_message([]<class T>(const T& message) {
    wire::Body body = encode(message);
    body.words.resize(body.words.size() / 2 / 8 * 8);
    EXPECT_FALSE(decode<T>(body).ok()) << typeid(T).name();
    EXPECT_FALSE(decode<T>(wire::Body()).ok()) << typeid(T).name();
  });
}

TEST(TrainWire, AFlippedByteIsAnotherMessageOrAnError) {
  for_each_message([]<class T>(const T& message) {
    const wire::Body whole = encode(message);
    for (size_t i = 0; i < whole.words.size(); ++i) {
      wire::Body changed = whole;
      changed.words[i] ^= std::byte{0x80};
      (void)decode<T>(changed).ok();  // and no crash
    }
  });
}

}  // namespace
}  // namespace troupe::train
