#include "runtime/net/socket_door.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

namespace troupe::net {
namespace {

using testing::HasSubstr;

// A worker address may be as long as its machine has devices.
TEST(SocketDoor, AnAddressTooLongForAHandshakeIsAnErrorOfTheConnection) {
  actor::LoopThread thread;
  const LocalNode head(Peer{1, "head", "host", 1, 1}, "build", "token"),
      trainer(Peer{2, "trainer", "host", 2, 1}, "build", "token");
  const auto wordy = [] { return std::vector<std::byte>(17'000); };
  std::optional<SocketDoor> plain, too_long;
  std::promise<std::string> as_caller, as_listener;
  bool told = false;
  thread.loop().post([&] {
    plain.emplace(thread.loop(), head, LinkOptions());
    too_long.emplace(thread.loop(), trainer, LinkOptions(), wordy);
    const auto address = plain->listen("", [](const SocketDoor::Entered&) { ADD_FAILURE() << "it got in"; });
    too_long->connect(*address, [&](const Result<SocketDoor::Entered>& entered) {
      as_caller.set_value(entered.ok() ? "it got in" : entered.error().message());
    });
    const auto other = too_long->listen("", [](const SocketDoor::Entered&) { ADD_FAILURE() << "it got in"; });
    too_long->on_refused([&](const Error& why) {  // again and again: who is hung up on calls again
      if (!std::exchange(told, true)) as_listener.set_value(why.message());
    });
    plain->connect(*other, [](const Result<SocketDoor::Entered>& entered) { EXPECT_FALSE(entered.ok()); });
  });
  for (std::promise<std::string>* said : {&as_caller, &as_listener}) {
    auto why = said->get_future();
    ASSERT_EQ(why.wait_for(std::chrono::seconds(20)), std::future_status::ready);
    EXPECT_THAT(why.get(), testing::AllOf(HasSubstr("127.0.0.1:"), HasSubstr("17000 of them the address")));
  }
  std::promise<void> gone;
  thread.loop().post([&] {
    plain.reset();
    too_long.reset();
    gone.set_value();
  });
  gone.get_future().wait();
}

// A name may take as long as the network likes: never on a loop.
TEST(SocketDoor, ListensOnNumbersAndResolvesNamesBefore) {
  EXPECT_EQ(SocketDoor::resolve("127.0.0.1:4711").value(), "127.0.0.1:4711");
  EXPECT_EQ(SocketDoor::resolve("[::1]:4711").value(), "[::1]:4711");
  EXPECT_THAT(SocketDoor::resolve("localhost:4711").value(),
              testing::AnyOf(testing::Eq("127.0.0.1:4711"), testing::Eq("[::1]:4711")));
  EXPECT_THAT(SocketDoor::resolve("nothing").error().message(), HasSubstr("not an address"));

  actor::ThreadLoop loop;
  const LocalNode head(Peer{1, "head", "host", 1, 1}, "build", "token");
  SocketDoor door(loop, head, LinkOptions());
  const auto entered = [](const SocketDoor::Entered&) {};
  EXPECT_TRUE(door.listen("127.0.0.1:0", entered).ok());
  EXPECT_THAT(door.listen("localhost:0", entered).error().message(), HasSubstr("localhost:0: listen on a number"));
}

}  // namespace
}  // namespace troupe::net
