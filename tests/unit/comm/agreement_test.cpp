#include "parallel/comm/agreement.h"

#include "tests/unit/comm/conformance.h"

namespace troupe::parallel {
namespace {

struct Told {
  ErrorKind kind;
  std::string message;
  int weight = 0;
};

// What every rank is told, where rank r has `told[r]` to tell.
void expect_agreed(const std::vector<std::optional<Told>>& told, const std::optional<Told>& agreed) {
  const auto size = static_cast<int>(told.size());
  (size == 1 ? self_world() : thread_world(size))->run([&](Communicator& comm, Device& device) {
    const std::optional<Told>& mine = told[static_cast<size_t>(comm.rank())];
    const Status here = mine ? Status(Error(mine->kind, mine->message)) : Status();
    const Status all = agree(comm, device, here, mine ? mine->weight : 0);
    ASSERT_EQ(all.ok(), !agreed.has_value());
    if (!agreed) return;
    EXPECT_EQ(all.error().kind(), agreed->kind);
    EXPECT_EQ(all.error().message(), agreed->message);
  });
}

const Told kFull{ErrorKind::failed, "the disk is full"};
const Told kBad{ErrorKind::damaged, "shard-00003.h5: checksum mismatch, bytes 0–4095"};

TEST(Agreement, AllAreWellWhereEachIs) {
  for (size_t ranks : {1, 2, 3, 5}) expect_agreed(std::vector<std::optional<Told>>(ranks), std::nullopt);
}

TEST(Agreement, OneRanksErrorIsEverybodys) {
  expect_agreed({kBad}, kBad);
  for (size_t ranks : {2, 3, 5}) {
    for (size_t r = 0; r < ranks; ++r) {
      std::vector<std::optional<Told>> told(ranks);
      told[r] = kBad;
      expect_agreed(told, kBad);
    }
  }
}

TEST(Agreement, TheLowestRankSpeaksForThoseThatTellAsMuch) {
  expect_agreed({std::nullopt, kFull, kBad}, kFull);
  expect_agreed({kBad, kFull, kFull}, kBad);
}

TEST(Agreement, WhoCanTellMoreSpeaks) {
  Told named = kBad;
  named.weight = 1;
  expect_agreed({kFull, kFull, named}, named);
  expect_agreed({kFull, named, named}, named);
}

TEST(Agreement, AnErrorMayHaveNothingToSay) {
  expect_agreed({std::nullopt, Told{ErrorKind::usage, ""}}, Told{ErrorKind::usage, ""});
}

}  // namespace
}  // namespace troupe::parallel
