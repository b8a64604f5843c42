// What the fuzzers run, free of any fuzzing library: the unit tests run the same over mutated seeds. Each aborts or
// throws where a promise is broken, and returns for every input.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace troupe::fuzz {

// The first two bytes choose how the rest is cut into pieces for the frame parser; with the highest bit set, frame
// heads get the checksums that belong to them, so that what they say is looked at.
void frame(std::span<const uint8_t> input);
// A peer of a handshake says this; the first byte chooses our role, and whether the peer knows the token and proves
// what it says. Nobody gets in without the token.
void handshake(std::span<const uint8_t> input);

}  // namespace troupe::fuzz
