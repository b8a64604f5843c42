// The four classes of characters that the pre-tokenisation patterns tell apart, for Unicode 16.0: the
// version that the reference encoder (tiktoken 0.9 and its npm package 1.0.22) was built with.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

namespace troupe::data {

enum class UnicodeClass : uint8_t {
  other = 0,
  letter = 1,  // \p{L}
  number = 2,  // \p{N}
  space = 3,   // \s: the property White_Space
};

// Two-level table over all code points, some 40 kB.
class UnicodeClasses {
 public:
  UnicodeClasses();

  // REQUIRES: code_point ≤ 0x10FFFF.
  UnicodeClass of(uint32_t code_point) const { return blocks_[block_of_[code_point >> 8]][code_point & 0xFF]; }

 private:
  std::array<uint8_t, 0x1100> block_of_;
  std::vector<std::array<UnicodeClass, 256>> blocks_;
};

}  // namespace troupe::data
