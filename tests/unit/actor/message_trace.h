// A test that reads as a trace of messages, in virtual time: what is put in, what is heard of it, and when nothing is.
// Played actors (the test's own, in the place of real ones) say what they hear, a line each.
//
//   inject<&HeadActor::stop>(head);
//   expect("rank 0: stop");
//   expect_silence(1s);
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "tests/unit/actor/cluster.h"

namespace troupe::actor {

class MessageTrace {
 public:
  // Something was heard, or said.
  void hear(std::string line) { heard_.push_back(std::move(line)); }

  // The next line that is heard, within what messages take.
  void expect(const std::string& line) {
    wait_for(1);
    ASSERT_FALSE(heard_.empty()) << "nothing was heard, instead of: " << line;
    EXPECT_EQ(heard_.front(), line);
    heard_.pop_front();
  }
  // The next ones, in any order.
  void expect_all(std::vector<std::string> lines) {
    wait_for(lines.size());
    std::vector<std::string> next;
    for (; next.size() < lines.size() && !heard_.empty(); heard_.pop_front()) next.push_back(heard_.front());
    std::ranges::sort(lines);
    std::ranges::sort(next);
    EXPECT_EQ(next, lines);
  }
  void expect_silence(std::chrono::nanoseconds duration) {
    advance(duration);
    EXPECT_EQ(heard_, std::deque<std::string>());
    heard_.clear();
  }
  void advance(std::chrono::nanoseconds duration) { network.loop.advance(duration); }

  // A message of nobody, and what follows at once.
  template <auto M, class T, class... A>
  void inject(const Ref<T>& to, A&&... arguments) {
    const Status sent = to.template try_tell<M>(std::forward<A>(arguments)...);
    EXPECT_TRUE(sent.ok()) << sent.error().message();
    network.loop.run_until_idle();
  }
  // A question; its answer is heard as `say` puts it.
  template <auto M, class T, class Say, class... A>
  void ask(Node& from, const Ref<T>& whom, std::chrono::nanoseconds deadline, Say say, A... arguments) {
    from.spawn<Script>({.name = "the one who asks"}, [=, this](Script&) -> Task<void> {
      const auto answer = co_await whom.template ask<M>(arguments..., deadline);
      hear(say(answer));
    });
    network.loop.run_until_idle();
  }

  Network network;

 private:
  static constexpr std::chrono::milliseconds kMessages{20};
  void wait_for(size_t lines) {
    const auto end = network.loop.clock().now() + kMessages;
    network.loop.run_until_idle();
    while (heard_.size() < lines && network.loop.clock().now() < end && network.loop.advance_to_next()) {
    }
  }
  std::deque<std::string> heard_;
};

}  // namespace troupe::actor
