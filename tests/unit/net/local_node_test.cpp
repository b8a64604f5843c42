#include "runtime/net/local_node.h"

#include <gtest/gtest.h>

#include "runtime/base/check.h"

namespace troupe::net {
namespace {

using std::chrono::milliseconds;

TEST(JointOptions, AreTheSmallerLimitsAndTheMoreFrequentSignsOfLife) {
  LinkOptions own;
  own.window = 5;
  own.window_bytes = 600;
  own.heartbeat_every = milliseconds(300);
  own.silence_limit = milliseconds(2000);
  wire::Identity peer;
  peer.window = 7;
  peer.window_bytes = 500;
  peer.max_frame_bytes = 1000;
  peer.max_buffer_bytes = own.max_buffer_bytes * 2;
  peer.heartbeat_every_ms = 100;
  LinkOptions joint = joint_options(own, peer);
  EXPECT_EQ(joint.window, 5);
  EXPECT_EQ(joint.window_bytes, 500);
  EXPECT_EQ(joint.max_frame_bytes, 1000);
  EXPECT_EQ(joint.max_buffer_bytes, own.max_buffer_bytes);
  EXPECT_EQ(joint.heartbeat_every, milliseconds(100));
  EXPECT_EQ(joint.silence_limit, milliseconds(2000));

  peer.heartbeat_every_ms = 400;
  EXPECT_EQ(joint_options(own, peer).heartbeat_every, milliseconds(300));
  peer.heartbeat_every_ms = 0;
  EXPECT_EQ(joint_options(own, peer).heartbeat_every, milliseconds(300));
  own.heartbeat_every = milliseconds(0);
  EXPECT_EQ(joint_options(own, peer).heartbeat_every, milliseconds(0));
  peer.heartbeat_every_ms = 4000;
  joint = joint_options(own, peer);
  EXPECT_EQ(joint.heartbeat_every, milliseconds(4000));
  EXPECT_EQ(joint.silence_limit, milliseconds(8000)) << "or it would cut who keeps to what was said";
}

TEST(LinkOptionsCheck, RefusesWhatNoLinkCanHave) {
  EXPECT_NO_THROW(check({}));
  EXPECT_NO_THROW(check({.max_frame_bytes = 0xFFFFFFFF}));
  EXPECT_THROW(check({.max_frame_bytes = int64_t{4} << 30}), CheckFailure) << "a head has 32 bits for it";
  EXPECT_THROW(check({.max_frame_bytes = 0}), CheckFailure);
  EXPECT_THROW(check({.window = 0}), CheckFailure);
  EXPECT_THROW(check({.max_buffer_bytes = 0}), CheckFailure);
}

}  // namespace
}  // namespace troupe::net
