#include "parallel/comm/process_family.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

namespace troupe::parallel {
namespace {

// A family of two processes of this host, seen twice from this one.
struct Pair {
  Pair() {
    SharedSegment created = SharedSegment::create(ProcessFamily::bytes_for(2)).value();
    const auto open = [&] {
      return SharedSegment::open(::getpid(), created.handle(), ProcessFamily::bytes_for(2)).value();
    };
    bare = open();
    one = std::make_unique<ProcessFamily>(open(), 0, 2, 0);
    other = std::make_unique<ProcessFamily>(open(), 1, 2, 0);
  }
  SharedSegment bare;
  std::unique_ptr<ProcessFamily> one, other;
};

TEST(ProcessFamily, TheFirstReasonIsEverybodys) {
  Pair pair;
  EXPECT_FALSE(pair.one->aborted());
  EXPECT_EQ(pair.one->reason(), "");
  pair.one->abort("the data ran out");
  pair.other->abort("a second reason");
  EXPECT_TRUE(pair.other->aborted());
  EXPECT_EQ(pair.other->reason(), "the data ran out");
}

TEST(ProcessFamily, OneOfAHostCarriesAnAbortOn) {
  Pair pair;
  EXPECT_FALSE(pair.one->claim_forwarding()) << "there is nothing to carry";
  pair.one->abort("the data ran out");
  EXPECT_TRUE(pair.other->claim_forwarding());
  EXPECT_FALSE(pair.one->claim_forwarding());
}

TEST(ProcessFamily, AnAbortWhoseWriterWasKilledAtItStillEndsTheGroup) {
  Pair pair;
  const uint32_t writing = 1;  // as it is between the claim and the reason
  std::memcpy(pair.bare.data(), &writing, sizeof writing);
  pair.one->abort("no answer from rank 1");
  EXPECT_FALSE(pair.one->aborted()) << "the other may be about to finish";
  pair.one->abort_for_the_dead();
  EXPECT_TRUE(pair.other->aborted());
  EXPECT_EQ(pair.other->reason(), "a rank was killed while it said why");
}

TEST(ProcessFamily, NobodyIsAbortedForWhereAllIsWell) {
  Pair pair;
  pair.one->abort_for_the_dead();
  EXPECT_FALSE(pair.one->aborted());
}

TEST(ProcessFamily, ASleeperIsWokenByAnAbort) {
  Pair pair;
  ProcessFamily::Sleep sleep(*pair.one);
  pair.other->abort("the data ran out");  // after the look that precedes a sleep
  const auto begin = std::chrono::steady_clock::now();
  sleep.for_at_most(std::chrono::seconds(20));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

}  // namespace
}  // namespace troupe::parallel
