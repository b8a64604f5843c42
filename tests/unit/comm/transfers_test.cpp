#include "parallel/comm/transfers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace troupe::parallel {
namespace {

using testing::ElementsAre;

// An MPI that hands out numbers as requests, and answers tests of them as it is told.
struct FakeMpi {
  static inline MpiRequest next = 0;
  static inline std::map<MpiRequest, int> tested;
  static inline MpiRequest broken = 0;

  static const char* isend(const void*, int, int, int, MpiRequest* request) {
    *request = ++next;
    return nullptr;
  }
  static const char* irecv(void*, int, int, int, MpiRequest* request) { return isend(nullptr, 0, 0, 0, request); }
  static const char* test(MpiRequest* request, bool* done) {
    ++tested[*request];
    if (*request == broken) return "a link is down";
    *done = *request % 2 == 1;  // odd ones are through
    return nullptr;
  }
  static const char* cancel(MpiRequest*) { return nullptr; }
  static MpiCalls calls() {
    next = broken = 0;
    tested.clear();
    MpiCalls calls{};
    calls.isend = isend;
    calls.irecv = irecv;
    calls.test = test;
    calls.cancel = cancel;
    return calls;
  }
};

TEST(Transfers, KeepsWhatIsUnderWayWhenMpiFailsInTheMidst) {
  const MpiCalls calls = FakeMpi::calls();
  Transfers transfers(calls);
  std::byte data[8];
  for (int from = 1; from <= 6; ++from) transfers.receive(data, 8, from, 0);
  FakeMpi::broken = 4;
  bool moved = false;
  EXPECT_THROW(transfers.settle(moved), MpiFailure);
  EXPECT_TRUE(moved);
  EXPECT_THAT(transfers.awaited(), ElementsAre(2, 4, 5, 6)) << "each once, and none that is through";
  FakeMpi::broken = 0;
  FakeMpi::tested.clear();
  EXPECT_FALSE(transfers.cancel());
  EXPECT_THAT(FakeMpi::tested, ElementsAre(std::pair(2, 1), std::pair(4, 1), std::pair(5, 1), std::pair(6, 1)));
}

TEST(Transfers, CutsWhatIsLongerThanACountOfMpi) {
  const MpiCalls calls = FakeMpi::calls();
  Transfers transfers(calls);
  const std::byte first{};
  transfers.send(&first, (int64_t{256} << 20) * 2 + 1, 1, 0);
  EXPECT_EQ(FakeMpi::next, 3u);
  transfers.send(&first, 0, 1, 0);
  EXPECT_EQ(FakeMpi::next, 3u) << "nothing is no message";
}

}  // namespace
}  // namespace troupe::parallel
