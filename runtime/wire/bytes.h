// Numbers as little-endian bytes, whatever the machine.
#pragma once
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace troupe::wire {

template <std::unsigned_integral T>
T little_endian(T value) {
  if constexpr (std::endian::native == std::endian::big) {
    T swapped = 0;
    for (size_t i = 0; i < sizeof(T); ++i) swapped |= ((value >> (8 * i)) & T{0xff}) << (8 * (sizeof(T) - 1 - i));
    return swapped;
  } else {
    return value;
  }
}

template <std::unsigned_integral T>
void store(std::byte* to, T value) {
  value = little_endian(value);
  std::memcpy(to, &value, sizeof(T));
}

template <std::unsigned_integral T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return little_endian(value);
}

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }
inline std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline void append(std::vector<std::byte>& out, std::span<const std::byte> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

}  // namespace troupe::wire
