#include "runtime/actor/node_warnings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/actor/simulated_loop.h"
#include "runtime/actor/waiting.h"

namespace troupe::actor {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

// A transport whose callers come when the test says so.
struct FakeTransport final : net::Transport {
  std::string_view name() const override { return "fake"; }
  Result<std::string> listen(const std::string& address, std::function<void(std::unique_ptr<net::Link>)>) override {
    return address;
  }
  void connect(const std::string&, std::function<void(Result<std::unique_ptr<net::Link>>)>) override {}
  void on_refused(std::function<void(const Error&)> told) override { refused = std::move(told); }
  std::function<void(const Error&)> refused;
};

class Unlucky : public Actor {
 public:
  void fails() { throw std::runtime_error("out of luck"); }
};

class NodeWarningsTest : public testing::Test {
 protected:
  ManualClock clock_;
  std::vector<std::string> said_;
  NodeWarnings warnings_{clock_, [this](const std::string& line) { said_.push_back(line); }};
};

TEST_F(NodeWarningsTest, AnActorWithoutParentThatFailedIsNamedWithItsReason) {
  SimulatedLoop loop;
  NodeOptions options{.name = "n1"};
  warnings_.hear(options);
  Node node(std::move(options), {&loop});
  const auto unlucky = node.spawn<Unlucky>({.name = "unlucky"});
  ASSERT_TRUE(unlucky.try_tell<&Unlucky::fails>().ok());
  loop.run_until_idle();
  EXPECT_THAT(said_, ElementsAre("unlucky (node n1) failed: in Unlucky::fails: out of luck"));
}

TEST_F(NodeWarningsTest, DroppedMessagesAndRefusedCallersAreLines) {
  NodeOptions options{.name = "n1"};
  warnings_.hear(options);
  options.on_dropped(failed("keeper has no method 7 in its Protocol"));
  FakeTransport transport;
  warnings_.hear(transport);
  transport.refused(failed("127.0.0.1:4711: wrong token"));
  EXPECT_THAT(said_, ElementsAre("a message between nodes was dropped: keeper has no method 7 in its Protocol",
                                 "a caller was refused: 127.0.0.1:4711: wrong token"));
}

TEST_F(NodeWarningsTest, WhoeverCallsAgainAndAgainDoesNotFillTheLog) {
  FakeTransport transport;
  warnings_.hear(transport);
  for (int i = 0; i < 10'000; ++i) transport.refused(failed("127.0.0.1:4711: wrong token"));
  EXPECT_THAT(said_, SizeIs(5));
  EXPECT_THAT(said_, Each(HasSubstr("wrong token")));
  clock_.advance(std::chrono::seconds(10));
  transport.refused(failed("127.0.0.1:4711: wrong token"));
  EXPECT_THAT(said_.back(), HasSubstr("(and 9995 more like it before)"));
}

}  // namespace
}  // namespace troupe::actor
