#include "runtime/wire/capnp.h"

#include <gtest/gtest.h>

#include "tests/unit/wire/sample.capnp.h"

namespace troupe::wire {
namespace {

Body sample(int steps) {
  capnp::MallocMessageBuilder message;
  auto root = message.initRoot<schema::Sample>();
  root.setName("plan");
  auto list = root.initSteps(static_cast<unsigned>(steps));
  for (int i = 0; i < steps; ++i) list.set(static_cast<unsigned>(i), static_cast<uint64_t>(i) * 3);
  return to_body(message);
}

Result<uint64_t> sum(const Body& body) {
  return from_body<schema::Sample>(body, [](schema::Sample::Reader reader) -> Result<uint64_t> {
    uint64_t total = 0;
    for (const uint64_t step : reader.getSteps()) total += step;
    if (reader.getName() != "plan") return failed("another name");
    return total;
  });
}

TEST(Capnp, ReadsWhatWasWritten) {
  for (const int steps : {0, 1, 10, 100'000}) {
    const auto total = sum(sample(steps));
    ASSERT_TRUE(total.ok()) << total.error().message();
    EXPECT_EQ(*total, 3ULL * static_cast<uint64_t>(steps) * static_cast<uint64_t>(std::max(steps - 1, 0)) / 2);
  }
}

TEST(Capnp, RefusesWhatIsNoMessage) {
  EXPECT_FALSE(sum(Body()).ok());
  Body odd = sample(10);
  odd.words.resize(odd.words.size() - 3);
  EXPECT_FALSE(sum(odd).ok());
  Body cut = sample(10);
  cut.words.resize(16);
  EXPECT_FALSE(sum(cut).ok());
}

TEST(Capnp, SurvivesEveryFlippedByte) {
  const Body whole = sample(20);
  for (size_t i = 0; i < whole.words.size(); ++i) {
    for (const unsigned flip : {1U, 0x80U, 0xffU}) {
      Body damaged = whole;
      damaged.words[i] ^= static_cast<std::byte>(flip);
      (void)sum(damaged).ok();  // an error or another value, but no crash
    }
  }
}

TEST(Capnp, RefusesAMessageThatIsReadOverAndOver) {
  const Body body = sample(1000);
  const auto read = from_body<schema::Sample>(body, [](schema::Sample::Reader reader) -> Result<uint64_t> {
    uint64_t total = 0;
    for (int i = 0; i < 100; ++i) total += reader.getSteps().size();
    return total;
  });
  ASSERT_FALSE(read.ok());
  EXPECT_NE(read.error().message().find("traversal limit"), std::string::npos) << read.error().message();
}

TEST(Capnp, RefusesWhatIsNestedTooDeeply) {
  capnp::MallocMessageBuilder message;
  auto at = message.initRoot<schema::Sample>();
  for (int i = 0; i < 100; ++i) at = at.initNested();
  const auto read = from_body<schema::Sample>(to_body(message), [](schema::Sample::Reader reader) -> Result<int> {
    int depth = 0;
    while (reader.hasNested()) {
      reader = reader.getNested();
      ++depth;
    }
    return depth;
  });
  ASSERT_FALSE(read.ok());
  EXPECT_NE(read.error().message().find("nested"), std::string::npos) << read.error().message();
}

}  // namespace
}  // namespace troupe::wire
