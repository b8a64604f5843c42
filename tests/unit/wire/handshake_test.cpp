#include "runtime/wire/handshake.h"

#include <gtest/gtest.h>

#include "runtime/wire/bytes.h"

namespace troupe::wire {
namespace {

using Role = Handshake::Role;

Identity identity(std::string name, uint64_t generation = 5) {
  Identity made;
  made.node = 77;
  made.name = std::move(name);
  made.host = "gpu17";
  made.pid = 411;
  made.generation = generation;
  made.build = "build-1";
  made.window = 10;
  made.window_bytes = 20;
  made.max_frame_bytes = 30;
  made.max_buffer_bytes = 40;
  made.heartbeat_every_ms = 50;
  return made;
}

Nonce nonce(int number) {
  Nonce made;
  made.fill(static_cast<std::byte>(number));
  return made;
}

struct Outcome {
  Status dialer, listener;
};

// Hands every byte over until neither has anything to say.
Outcome shake(Handshake& dialer, Handshake& listener) {
  Outcome outcome;
  std::vector<std::byte> to_dialer, to_listener;
  const auto deliver = [](Handshake& to, std::vector<std::byte>& bytes, Status& status) {
    bool any = false;
    while (status.ok() && to.wants() > 0 && bytes.size() >= to.wants()) {
      const size_t size = to.wants();
      status = to.receive(std::span(bytes).first(size));
      bytes.erase(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
      any = true;
    }
    return any;
  };
  bool any = true;
  while (any) {
    append(to_listener, dialer.take_output());
    append(to_dialer, listener.take_output());
    any = deliver(listener, to_listener, outcome.listener);
    append(to_dialer, listener.take_output());
    any |= deliver(dialer, to_dialer, outcome.dialer);
  }
  return outcome;
}

TEST(Handshake, BothSidesLearnWhoTheOtherIs) {
  Identity a = identity("trainer-3");
  a.transport = {std::byte{1}, std::byte{2}};
  Handshake dialer(Role::dialer, a, "token", nonce(1));
  Handshake listener(Role::listener, identity("head"), "token", nonce(2));
  const Outcome outcome = shake(dialer, listener);
  ASSERT_TRUE(outcome.dialer.ok()) << outcome.dialer.error().message();
  ASSERT_TRUE(outcome.listener.ok()) << outcome.listener.error().message();
  ASSERT_TRUE(dialer.done() && listener.done());
  const Identity& peer = listener.peer();
  EXPECT_EQ(peer.describe(), "trainer-3 (host gpu17, pid 411)");
  EXPECT_EQ(peer.node, 77U);
  EXPECT_EQ(peer.generation, 5U);
  EXPECT_EQ(peer.build, "build-1");
  EXPECT_EQ(peer.window, 10);
  EXPECT_EQ(peer.window_bytes, 20);
  EXPECT_EQ(peer.max_frame_bytes, 30);
  EXPECT_EQ(peer.max_buffer_bytes, 40);
  EXPECT_EQ(peer.heartbeat_every_ms, 50);
  EXPECT_EQ(peer.transport, a.transport);
  EXPECT_EQ(dialer.peer().name, "head");
  EXPECT_EQ(dialer.derive("x"), listener.derive("x"));
  EXPECT_NE(dialer.derive("x"), dialer.derive("y"));
}

TEST(Handshake, AWrongTokenIsRefusedAndToldNothingElse) {
  Handshake dialer(Role::dialer, identity("intruder"), "guess", nonce(1));
  Handshake listener(Role::listener, identity("head"), "token", nonce(2));
  const Outcome outcome = shake(dialer, listener);
  ASSERT_FALSE(outcome.dialer.ok());
  ASSERT_FALSE(outcome.listener.ok());
  EXPECT_EQ(outcome.dialer.error().message(), "wrong token");
  EXPECT_EQ(outcome.listener.error().message(), "wrong token");
  EXPECT_FALSE(dialer.done());
  EXPECT_FALSE(listener.done());
}

TEST(Handshake, AnOlderGenerationIsRefusedAndBothAreNamed) {
  Handshake dialer(Role::dialer, identity("trainer-3", 4), "token", nonce(1));
  Handshake listener(Role::listener, identity("head", 5), "token", nonce(2));
  const Outcome outcome = shake(dialer, listener);
  ASSERT_FALSE(outcome.dialer.ok());
  ASSERT_FALSE(outcome.listener.ok());
  EXPECT_EQ(outcome.dialer.error().message(),
            "refused: trainer-3 belongs to generation 4, who was called to generation 5");
  EXPECT_EQ(outcome.listener.error().message(),
            "trainer-3 (host gpu17, pid 411) belongs to generation 4, head to generation 5: the caller is stale");
}

TEST(Handshake, AnOlderListenerIsRefusedByTheDialer) {
  Handshake dialer(Role::dialer, identity("trainer-3", 6), "token", nonce(1));
  Handshake listener(Role::listener, identity("head", 5), "token", nonce(2));
  const Outcome outcome = shake(dialer, listener);
  ASSERT_FALSE(outcome.dialer.ok());
  EXPECT_EQ(outcome.dialer.error().message(),
            "head (host gpu17, pid 411) belongs to generation 5, trainer-3 to generation 6: who was called is stale");
}

TEST(Handshake, AnotherProtocolIsRefusedOnBothSidesWithBothVersions) {
  Handshake dialer(Role::dialer, identity("new"), "token", nonce(1), 9);
  Handshake listener(Role::listener, identity("old"), "token", nonce(2), 8);
  const Outcome outcome = shake(dialer, listener);
  ASSERT_FALSE(outcome.dialer.ok());
  ASSERT_FALSE(outcome.listener.ok());
  EXPECT_EQ(outcome.dialer.error().message(),
            "the other side speaks version 8 of our protocol, this one version 9: run one program everywhere");
  EXPECT_EQ(outcome.listener.error().message(),
            "the other side speaks version 9 of our protocol, this one version 8: run one program everywhere");
}

TEST(Handshake, AnotherBuildIsRefused) {
  Identity other = identity("trainer-3");
  other.build = "build-2";
  Handshake dialer(Role::dialer, other, "token", nonce(1));
  Handshake listener(Role::listener, identity("head"), "token", nonce(2));
  const Outcome outcome = shake(dialer, listener);
  ASSERT_FALSE(outcome.dialer.ok());
  ASSERT_FALSE(outcome.listener.ok());
  EXPECT_EQ(outcome.listener.error().message(),
            "trainer-3 (host gpu17, pid 411) is of build build-2, head of build build-1: run one program everywhere");
}

TEST(Handshake, WhatWasHeardCannotBeUsedAgain) {
  Handshake dialer(Role::dialer, identity("trainer-3"), "token", nonce(1));
  Handshake listener(Role::listener, identity("head"), "token", nonce(2));
  const std::vector<std::byte> hello = dialer.take_output();
  ASSERT_TRUE(listener.receive(hello).ok());
  ASSERT_TRUE(dialer.receive(listener.take_output()).ok());
  const std::vector<std::byte> proof = dialer.take_output();
  // Another listener asks another question.
  Handshake next(Role::listener, identity("head"), "token", nonce(3));
  ASSERT_TRUE(next.receive(hello).ok());
  ASSERT_TRUE(next.receive(std::span(proof).first(4)).ok());
  const Status replayed = next.receive(std::span(proof).subspan(4));
  ASSERT_FALSE(replayed.ok());
  EXPECT_EQ(replayed.error().message(), "wrong token");
}

TEST(Handshake, AnEchoIsNoProof) {
  // A listener that repeats what it hears knows nothing.
  Handshake dialer(Role::dialer, identity("trainer-3"), "token", nonce(1));
  const Status echoed = dialer.receive(dialer.take_output());
  ASSERT_FALSE(echoed.ok());
  EXPECT_EQ(echoed.error().message(), "the other side repeats our own challenge");
  // Nor does one with a challenge of its own that returns our proof.
  Handshake again(Role::dialer, identity("trainer-3"), "token", nonce(1));
  std::vector<std::byte> hello = again.take_output();
  hello.back() = std::byte{99};
  ASSERT_TRUE(again.receive(hello).ok());
  const std::vector<std::byte> proof = again.take_output();
  ASSERT_TRUE(again.receive(std::span(proof).first(4)).ok());
  const Status returned = again.receive(std::span(proof).subspan(4));
  ASSERT_FALSE(returned.ok());
  EXPECT_EQ(returned.error().message(), "wrong token");
}

TEST(Handshake, EveryFlippedBitOfAProofIsNoticed) {
  Handshake dialer(Role::dialer, identity("trainer-3"), "token", nonce(1));
  const std::vector<std::byte> hello = dialer.take_output();
  Handshake first(Role::listener, identity("head"), "token", nonce(2));
  ASSERT_TRUE(first.receive(hello).ok());
  ASSERT_TRUE(dialer.receive(first.take_output()).ok());
  const std::vector<std::byte> proof = dialer.take_output();
  for (size_t i = 4; i < proof.size(); ++i) {
    std::vector<std::byte> damaged = proof;
    damaged[i] ^= std::byte{1};
    Handshake listener(Role::listener, identity("head"), "token", nonce(2));
    ASSERT_TRUE(listener.receive(hello).ok());
    ASSERT_TRUE(listener.receive(std::span(damaged).first(4)).ok());
    EXPECT_FALSE(listener.receive(std::span(damaged).subspan(4)).ok()) << "byte " << i;
    EXPECT_FALSE(listener.done());
  }
}

TEST(Handshake, NoiseIsRefusedAndALongIdentityNotWaitedFor) {
  Handshake listener(Role::listener, identity("head"), "token", nonce(2));
  const std::vector<std::byte> noise(listener.wants(), std::byte{0x47});
  const Status refused = listener.receive(noise);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().message(), "who connected does not speak our protocol");
  EXPECT_TRUE(listener.take_output().empty()) << "a stranger is told nothing";

  Handshake patient(Role::listener, identity("head"), "token", nonce(2));
  Handshake dialer(Role::dialer, identity("trainer-3"), "token", nonce(1));
  ASSERT_TRUE(patient.receive(dialer.take_output()).ok());
  std::array<std::byte, 4> length;
  store<uint32_t>(length.data(), 1 << 30);
  EXPECT_FALSE(patient.receive(length).ok());
  EXPECT_EQ(patient.wants(), 0U);
}

TEST(Handshake, ALimitThatNoNodeHasIsMalformed) {
  for (const auto& [limit, value] : {std::pair{&Identity::window, int64_t{0}},
                                     {&Identity::max_buffer_bytes, int64_t{-1}},
                                     {&Identity::heartbeat_every_ms, int64_t{-1}},
                                     {&Identity::heartbeat_every_ms, int64_t{24} * 3600 * 1000 + 1}}) {
    Identity odd = identity("trainer-3");
    odd.*limit = value;
    Handshake dialer(Role::dialer, odd, "token", nonce(1));
    Handshake listener(Role::listener, identity("head"), "token", nonce(2));
    const Outcome outcome = shake(dialer, listener);
    ASSERT_FALSE(outcome.listener.ok()) << value;
    EXPECT_EQ(outcome.listener.error().message(), "the other side's identity is malformed");
    EXPECT_FALSE(outcome.dialer.ok());
  }
}

TEST(Handshake, NamesCannotForgeLogLines) {
  Identity forger = identity("x\n2026-01-01 error  all is lost");
  Handshake dialer(Role::dialer, forger, "token", nonce(1));
  Handshake listener(Role::listener, identity("head"), "token", nonce(2));
  ASSERT_TRUE(shake(dialer, listener).listener.ok());
  EXPECT_EQ(listener.peer().name, "x?2026-01-01 error  all is lost");
}

TEST(Handshake, NoncesAreNotRepeated) {
  const auto first = random_nonce();
  const auto second = random_nonce();
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_NE(*first, *second);
}

TEST(Hmac, MatchesThePublishedExample) {
  // RFC 4231, test case 2.
  const Mac mac = hmac_sha256("Jefe", bytes_of("what do ya want for nothing?"));
  EXPECT_EQ(static_cast<int>(mac[0]), 0x5b);
  EXPECT_EQ(static_cast<int>(mac[1]), 0xdc);
  EXPECT_EQ(static_cast<int>(mac[31]), 0x43);
}

}  // namespace
}  // namespace troupe::wire
