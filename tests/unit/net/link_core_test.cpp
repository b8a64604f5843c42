#include "runtime/net/link_core.h"

#include <gtest/gtest.h>

#include "runtime/wire/bytes.h"

namespace troupe::net {
namespace {

using wire::FrameKind;
using Time = LinkCore::Time;
using std::chrono::milliseconds;

LinkOptions options() {
  LinkOptions made;
  made.window = 4;
  made.window_bytes = 1000;
  made.heartbeat_every = milliseconds(100);
  made.silence_limit = milliseconds(500);
  return made;
}

Peer named(std::string name) {
  Peer peer;
  peer.name = std::move(name);
  return peer;
}

Parcel parcel(FrameKind kind = FrameKind::message, size_t bytes = 10) {
  Parcel made;
  made.header.kind = kind;
  made.body.words.resize(bytes);
  return made;
}

// Two accounts, and a connection that loses nothing.
class LinkCoreTest : public testing::Test {
 protected:
  // What was delivered at the other end.
  std::vector<Parcel> carry(LinkCore& from, LinkCore& to, uint64_t generation = 0) {
    std::vector<Parcel> delivered;
    while (from.has_output()) {
      Parcel next = from.next(now_);
      to.heard(now_);
      const auto verdict = to.receive(next, generation);
      EXPECT_TRUE(verdict.ok()) << verdict.error().message();
      if (verdict.ok() && *verdict == LinkCore::Verdict::deliver) delivered.push_back(std::move(next));
    }
    return delivered;
  }
  void push(LinkCore& core, Parcel pushed) { core.push(std::move(pushed), 0, now_); }

  Time now_{0};
  LinkCore a_{options(), named("b"), now_};
  LinkCore b_{options(), named("a"), now_};
};

TEST_F(LinkCoreTest, ASenderHasTheWindowAndNoMoreUntilTheReceiverReleases) {
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(a_.has_room(FrameKind::message));
    push(a_, parcel());
  }
  EXPECT_FALSE(a_.has_room(FrameKind::message));
  EXPECT_FALSE(a_.has_room(FrameKind::reply));
  EXPECT_TRUE(a_.has_room(FrameKind::system));
  EXPECT_EQ(carry(a_, b_).size(), 4U);
  EXPECT_FALSE(a_.took_room()) << "that it was sent frees nothing";
  b_.release(1);
  carry(b_, a_);
  EXPECT_TRUE(a_.took_room());
  EXPECT_FALSE(a_.took_room()) << "once";
  EXPECT_TRUE(a_.has_room(FrameKind::message));
}

TEST_F(LinkCoreTest, TheWindowAlsoCountsBytesAndOneMessageMayExceedIt) {
  push(a_, parcel(FrameKind::message, 5000));
  EXPECT_FALSE(a_.has_room(FrameKind::message));
  carry(a_, b_);
  b_.release(1);
  carry(b_, a_);
  EXPECT_TRUE(a_.has_room(FrameKind::message));
}

TEST_F(LinkCoreTest, APeerThatIgnoresTheWindowIsCut) {
  LinkOptions wide = options();
  wide.window = 100;
  LinkCore rude(wide, named("b"), now_);
  for (int i = 0; i < 5; ++i) push(rude, parcel());
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(b_.receive(rude.next(now_), 0).ok());
  const auto verdict = b_.receive(rude.next(now_), 0);
  ASSERT_FALSE(verdict.ok());
  EXPECT_EQ(verdict.error().message(), "a sent more than its window of 4 messages and 1000 bytes");
}

TEST_F(LinkCoreTest, SystemParcelsPassMessagesThatWait) {
  push(a_, parcel());
  push(a_, parcel());
  push(a_, parcel(FrameKind::system));
  const auto delivered = carry(a_, b_);
  ASSERT_EQ(delivered.size(), 3U);
  EXPECT_EQ(delivered[0].header.kind, FrameKind::system);
  EXPECT_EQ(delivered[2].header.sequence, 3U);
}

TEST_F(LinkCoreTest, AGapAndARepeatAreErrors) {
  for (int i = 0; i < 3; ++i) push(a_, parcel());
  const Parcel first = a_.next(now_);
  a_.next(now_);
  const Parcel third = a_.next(now_);
  EXPECT_TRUE(b_.receive(first, 0).ok());
  EXPECT_EQ(b_.receive(first, 0).error().message(), "frame 1 of a came where 2 was due");
  EXPECT_EQ(b_.receive(third, 0).error().message(), "frame 3 of a came where 2 was due");
}

TEST_F(LinkCoreTest, AParcelKeepsTheGenerationInWhichItWasSent) {
  a_.push(parcel(), 1, now_);
  a_.push(parcel(), 2, now_);
  const auto delivered = carry(a_, b_, 2);
  ASSERT_EQ(delivered.size(), 1U);
  EXPECT_EQ(delivered[0].header.generation, 2U);
  EXPECT_EQ(b_.counters().dropped_stale, 1);
}

TEST_F(LinkCoreTest, HeartbeatsGoWhereNothingElseDoes) {
  EXPECT_FALSE(a_.has_output());
  now_ += milliseconds(100);
  EXPECT_TRUE(a_.tick(now_).ok());
  ASSERT_TRUE(a_.has_output());
  EXPECT_EQ(a_.next(now_).header.kind, FrameKind::heartbeat);
  EXPECT_FALSE(a_.has_output());
  push(a_, parcel());
  now_ += milliseconds(100);
  a_.next(now_);
  EXPECT_TRUE(a_.tick(now_).ok());
  EXPECT_FALSE(a_.has_output()) << "a message is as good";
}

TEST_F(LinkCoreTest, SilenceIsNoticedAtItsLimit) {
  for (int i = 1; i < 5; ++i) {
    now_ += milliseconds(100);
    ASSERT_TRUE(a_.tick(now_).ok()) << i;
  }
  now_ += milliseconds(100);
  const Status dead = a_.tick(now_);
  ASSERT_FALSE(dead.ok());
  EXPECT_EQ(dead.error().message(), "no sign of life from b for 0.5 s");
}

TEST_F(LinkCoreTest, WhoWasStoppedItselfListensFirst) {
  now_ += milliseconds(100);
  ASSERT_TRUE(a_.tick(now_).ok());
  now_ += std::chrono::minutes(10);
  EXPECT_TRUE(a_.tick(now_).ok()) << "its own absence says nothing about the peer";
  for (int i = 0; i < 2; ++i) {
    now_ += milliseconds(100);
    ASSERT_TRUE(a_.tick(now_).ok()) << i;
  }
  now_ += milliseconds(100);
  EXPECT_FALSE(a_.tick(now_).ok());
}

TEST_F(LinkCoreTest, TheReasonComesLastAndKeepsItsKind) {
  push(a_, parcel());
  a_.close(usage_error("bad plan"));
  ASSERT_TRUE(a_.has_output());
  EXPECT_TRUE(b_.receive(a_.next(now_), 0).ok());
  EXPECT_FALSE(a_.said_goodbye());
  const auto last = b_.receive(a_.next(now_), 0);
  EXPECT_TRUE(a_.said_goodbye());
  EXPECT_FALSE(a_.has_output());
  ASSERT_FALSE(last.ok());
  EXPECT_EQ(last.error().message(), "bad plan");
  EXPECT_EQ(last.error().kind(), ErrorKind::usage);
}

TEST_F(LinkCoreTest, TheTimeThatIsLeftShrinksWhileAParcelWaits) {
  Parcel waiting = parcel();
  waiting.header.time_left_ns = 1'000'000'000;
  push(a_, std::move(waiting));
  now_ += milliseconds(300);
  EXPECT_EQ(a_.next(now_).header.time_left_ns, 700'000'000);
  Parcel late = parcel();
  late.header.time_left_ns = 1000;
  push(a_, std::move(late));
  now_ += milliseconds(300);
  EXPECT_EQ(a_.next(now_).header.time_left_ns, 1) << "0 would mean no deadline";
}

TEST_F(LinkCoreTest, CreditIsGivenSeldomAndAllOfItInTheEnd) {
  for (int i = 0; i < 4; ++i) push(a_, parcel(FrameKind::message, 1));
  carry(a_, b_);
  LinkOptions wide = options();
  wide.window = 100;
  wide.window_bytes = 1 << 20;
  LinkCore sender(wide, named("b"), now_), receiver(wide, named("a"), now_);
  for (int i = 0; i < 30; ++i) push(sender, parcel());
  carry(sender, receiver);
  receiver.release(24);
  EXPECT_FALSE(receiver.has_output());
  receiver.release(1);
  EXPECT_TRUE(receiver.has_output()) << "a quarter of the window";
  EXPECT_EQ(receiver.next(now_).header.destination, 25U);
  receiver.release(5);
  EXPECT_FALSE(receiver.has_output());
  now_ += milliseconds(100);
  EXPECT_TRUE(receiver.tick(now_).ok());
  ASSERT_TRUE(receiver.has_output());
  const Parcel credit = receiver.next(now_);
  EXPECT_EQ(credit.header.kind, FrameKind::credit);
  EXPECT_EQ(credit.header.destination, 5U);
}

}  // namespace
}  // namespace troupe::net
