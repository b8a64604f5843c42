#include "parallel/comm/process_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace troupe::parallel {
namespace {

TEST(ProcessEngine, NumbersOfGroupsAreNeverGivenTwiceAndEndWhereTagsDo) {
  const MpiCalls none{};
  ProcessEngine engine(none, 0, {{0, 0, getpid(), "here"}}, (10 << 16) - 1);
  EXPECT_EQ(engine.take_contexts(0, 2), 0);
  EXPECT_EQ(engine.take_contexts(0, 1), 2);
  EXPECT_EQ(engine.take_contexts(7, 2), 7) << "others are further";
  try {
    engine.take_contexts(0, 2);
    ADD_FAILURE() << "the tenth and the eleventh of ten";
  } catch (const CommunicationError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("tags tell 10 groups of one run apart"));
  }
  EXPECT_EQ(engine.take_contexts(0, 1), 9) << "the last";
  EXPECT_THROW(engine.take_contexts(0, 1), CommunicationError);
}

}  // namespace
}  // namespace troupe::parallel
