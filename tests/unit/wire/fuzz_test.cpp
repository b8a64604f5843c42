// The fuzzers' functions over seeds that are mutated in a fixed way, so that every run of the tests covers them.
#include <gtest/gtest.h>

#include <random>

#include "runtime/wire/bytes.h"
#include "runtime/wire/frame.h"
#include "runtime/wire/handshake.h"
#include "tests/fuzz/fuzz.h"

namespace troupe::wire {
namespace {

using Bytes = std::vector<uint8_t>;

void add(Bytes& out, std::span<const std::byte> bytes) {
  for (const std::byte b : bytes) out.push_back(static_cast<uint8_t>(b));
}

Bytes frames(std::mt19937_64& random) {
  Bytes out{static_cast<uint8_t>(random()), static_cast<uint8_t>(random() % 4 + 0x80 * (random() % 2))};
  for (int i = 0; i < 3; ++i) {
    Frame frame;
    frame.header.kind = static_cast<FrameKind>(1 + random() % 7);
    frame.header.sequence = random();
    frame.body.words.resize(8 * (random() % 20));
    for (uint64_t k = 0; k < random() % 4; ++k) {
      std::span<std::byte> bytes;
      frame.body.buffers.push_back(Buffer::allocate(random() % 9000, &bytes));
      std::fill(bytes.begin(), bytes.end(), std::byte{7});
    }
    std::vector<std::byte> head;
    append_frame_head(frame.header, frame.body, head);
    add(out, head);
    add(out, frame.body.words);
    for (const Buffer& buffer : frame.body.buffers) add(out, buffer.bytes());
  }
  return out;
}

// What a peer that knows the token says, without its proof, which the fuzzer's function adds.
Bytes trusted_handshake(std::mt19937_64& random) {
  Identity self;
  self.name = "trainer-3";
  self.build = "build";
  self.window = self.window_bytes = self.max_frame_bytes = self.max_buffer_bytes = 1;
  Nonce nonce;
  nonce.fill(std::byte{9});
  Handshake dialer(Handshake::Role::dialer, self, "any", nonce), listener(Handshake::Role::listener, self, "any", {});
  Bytes out{static_cast<uint8_t>(2 + random() % 2)};
  const auto hello = dialer.take_output();
  add(out, hello);
  EXPECT_TRUE(listener.receive(hello).ok());
  EXPECT_TRUE(dialer.receive(listener.take_output()).ok());
  const auto identity = dialer.take_output();  // its length, it, its proof
  add(out, std::span(identity).subspan(4, identity.size() - 4 - sizeof(Mac)));
  return out;
}

Bytes handshake(std::mt19937_64& random) {
  Identity self;
  self.name = "intruder";
  self.build = "build";
  self.window = self.window_bytes = self.max_frame_bytes = self.max_buffer_bytes = 1;
  const bool dialer = random() % 2 == 0;
  Bytes out{static_cast<uint8_t>(dialer ? 1 : 0)};
  Nonce nonce;
  nonce.fill(std::byte{9});
  Handshake ours(Handshake::Role::dialer, self, "a token that was guessed wrongly", nonce);
  add(out, ours.take_output());
  Handshake other(Handshake::Role::listener, self, "a token that was guessed wrongly", {});
  EXPECT_TRUE(other.receive(std::as_bytes(std::span(out).subspan(1))).ok());
  EXPECT_TRUE(ours.receive(other.take_output()).ok());
  add(out, ours.take_output());
  return out;
}

void mutate(Bytes& bytes, std::mt19937_64& random) {
  for (uint64_t i = 0; i < random() % 4 && !bytes.empty(); ++i) {
    const size_t at = random() % bytes.size();
    switch (random() % 5) {
      case 0: bytes[at] ^= static_cast<uint8_t>(1 << random() % 8); break;
      case 1: bytes[at] = random() % 2 == 0 ? 0xff : 0; break;
      case 2: bytes.resize(at); break;
      case 3: bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(at), static_cast<uint8_t>(random())); break;
      default:
        for (size_t k = at; k < bytes.size() && k < at + 8; ++k) bytes[k] = static_cast<uint8_t>(random());
        break;
    }
  }
}

template <class Make, class Feed>
void survives_mutations(uint64_t seed, Make make, Feed feed) {
  std::mt19937_64 random(seed);
  for (int i = 0; i < 20'000; ++i) {
    Bytes input = make(random);
    mutate(input, random);
    ASSERT_NO_THROW(feed(input)) << "input " << i;
  }
}

TEST(Fuzz, FramesSurviveMutations) { survives_mutations(1, frames, fuzz::frame); }

TEST(Fuzz, HandshakesSurviveMutations) { survives_mutations(2, handshake, fuzz::handshake); }

TEST(Fuzz, WhatAPeerWithTheTokenSaysSurvivesMutations) { survives_mutations(4, trusted_handshake, fuzz::handshake); }

TEST(Fuzz, NoiseIsNoFrameAndNoHandshake) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 5'000; ++i) {
    Bytes input(random() % 400);
    for (uint8_t& b : input) b = static_cast<uint8_t>(random());
    ASSERT_NO_THROW(fuzz::frame(input)) << "input " << i;
    ASSERT_NO_THROW(fuzz::handshake(input)) << "input " << i;
  }
}

}  // namespace
}  // namespace troupe::wire
