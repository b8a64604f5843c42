// How much may be under way to an actor of another node, and that whatever ends gives back what it held.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/actor/cluster.h"

namespace troupe::actor {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

TEST(RemoteFlow, AsksThatAreGivenUpInAFullMailboxGiveTheirPlaceBack) {
  Cluster cluster({.window = 4});
  const auto slow = cluster.b.node->spawn<Keeper>({.name = "slow", .mailbox = 1, .registered = "slow"});
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> keeper = co_await cluster.find(self);
    const Ref<Keeper> busy = *co_await lookup<Keeper>(self.node(), 2, "slow", 1s);
    EXPECT_TRUE((co_await busy.tell<&Keeper::slow>(600'000)).ok());
    (void)co_await self.sleep(1ms);
    EXPECT_TRUE((co_await busy.tell<&Keeper::slow>(1)).ok());
    for (int i = 0; i < 600; ++i) EXPECT_FALSE((co_await busy.ask<&Keeper::slow>(1, 10ms)).ok());
    EXPECT_TRUE((co_await keeper.ask<&Keeper::words>(1s)).ok());
    (void)co_await self.sleep(600s);
    EXPECT_TRUE((co_await busy.ask<&Keeper::words>(1s)).ok());
  }));
}

}  // namespace
}  // namespace troupe::actor
