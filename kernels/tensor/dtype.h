// Element types. bf16 is storage: arithmetic on it is done in f32.
#pragma once
#include <bit>
#include <cstdint>
#include <string_view>

#include "runtime/base/check.h"

namespace troupe::kernels {

// The upper half of an IEEE f32, rounded to nearest even. NaN stays NaN.
struct bf16 {
  uint16_t bits = 0;

  bf16() = default;
  explicit bf16(float value) {
    const uint32_t word = std::bit_cast<uint32_t>(value);
    bits = value != value ? static_cast<uint16_t>((word >> 16) | 0x40)
                          : static_cast<uint16_t>((word + 0x7FFF + ((word >> 16) & 1)) >> 16);
  }
  explicit bf16(double value) : bf16(static_cast<float>(value)) {}
  explicit operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
  explicit operator double() const { return static_cast<float>(*this); }
};

enum class DType : uint8_t { f64, f32, bf16, i64, i32, u8 };

constexpr int64_t size_of(DType type) {
  switch (type) {
    case DType::f64:
    case DType::i64: return 8;
    case DType::f32:
    case DType::i32: return 4;
    case DType::bf16: return 2;
    case DType::u8: return 1;
  }
  return 0;
}

constexpr std::string_view name_of(DType type) {
  switch (type) {
    case DType::f64: return "f64";
    case DType::f32: return "f32";
    case DType::bf16: return "bf16";
    case DType::i64: return "i64";
    case DType::i32: return "i32";
    case DType::u8: return "u8";
  }
  return "?";
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::u8;
};
template <class T>
constexpr DType dtype_of = DTypeOf<T>::value;

constexpr bool is_float(DType type) { return type == DType::f64 || type == DType::f32 || type == DType::bf16; }

// What sums over elements of `type` are kept in: f64 for f64, else f32. Gradients of parameters, softmax
// and norm statistics, and optimizer state have this type.
constexpr DType accumulator_of(DType type) { return type == DType::f64 ? DType::f64 : DType::f32; }
template <class T>
struct AccumulatorOf {
  using type = float;
};
template <>
struct AccumulatorOf<double> {
  using type = double;
};
template <class T>
using Accumulator = typename AccumulatorOf<T>::type;

// Calls body.operator()<T>() with the C++ type of a floating-point dtype.
template <class Body>
decltype(auto) dispatch_float(DType type, Body&& body) {
  switch (type) {
    case DType::f64: return body.template operator()<double>();
    case DType::f32: return body.template operator()<float>();
    case DType::bf16: return body.template operator()<bf16>();
    default: break;
  }
  check_failed(__FILE__, __LINE__, "is_float(type)", fmt::format("no kernel for {}", name_of(type)));
}

}  // namespace troupe::kernels
