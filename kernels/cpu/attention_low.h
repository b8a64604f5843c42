// The eight bits of a value behind those that bf16 holds of it: how far its word lies from the bf16's, in steps of 256,
// counted from -0x8000. Read back, a value has 16 bits of mantissa. f32 and f64 need none.
#pragma once
#include <algorithm>
#include <bit>

#include "kernels/tensor/dtype.h"

namespace troupe::kernels::cpu {

inline uint8_t low_bits(float value, bf16 stored) {
  const uint32_t distance = std::bit_cast<uint32_t>(value) - (static_cast<uint32_t>(stored.bits) << 16) + 0x8000;
  return static_cast<uint8_t>(std::min<uint32_t>(distance >> 8, 255));
}
inline float with_low(bf16 stored, uint8_t low) {
  const uint32_t distance = (static_cast<uint32_t>(low) << 8) + 0x80 - 0x8000;
  return std::bit_cast<float>((static_cast<uint32_t>(stored.bits) << 16) + distance);
}
inline uint8_t low_bits(float, float) { return 0; }
inline uint8_t low_bits(double, double) { return 0; }
inline float with_low(float stored, uint8_t) { return stored; }
inline double with_low(double stored, uint8_t) { return stored; }

}  // namespace troupe::kernels::cpu
