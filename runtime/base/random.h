// Random numbers without state: a value is a pure function of a key and a counter, so that it does not
// depend on which rank, thread or device draws it, nor when. Philox4x32-10: Salmon, Moraes, Dror, Shaw,
// "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Shared by host and CUDA code. What integers
// and uniform floats come out is fixed for ever (data order and initial weights hang on it); normals may
// differ in the last bit between math libraries.
#pragma once
#include <cmath>
#include <cstdint>
#include <string_view>

#if defined(__CUDACC__)
#define TROUPE_HOST_DEVICE __host__ __device__
#else
#define TROUPE_HOST_DEVICE
#endif

namespace troupe {

struct RandomBlock {
  uint32_t words[4];
};

// 128 random bits for a 128-bit counter under a 64-bit key.
TROUPE_HOST_DEVICE constexpr RandomBlock philox4x32(uint64_t key, uint64_t counter_low, uint64_t counter_high = 0) {
  uint32_t c0 = static_cast<uint32_t>(counter_low), c1 = static_cast<uint32_t>(counter_low >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_high), c3 = static_cast<uint32_t>(counter_high >> 32);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c0, p1 = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {{c0, c1, c2, c3}};
}

TROUPE_HOST_DEVICE constexpr uint64_t random_u64(uint64_t key, uint64_t index) {
  const RandomBlock block = philox4x32(key, index);
  return block.words[0] | uint64_t{block.words[1]} << 32;
}

// A key of its own for each coordinate, e.g. derive_key(derive_key(seed, step, sequence), layer, op).
// The high counter bit keeps derived keys apart from values drawn under the same key.
TROUPE_HOST_DEVICE constexpr uint64_t derive_key(uint64_t key, uint64_t a, uint64_t b = 0) {
  const RandomBlock first = philox4x32(key, a, uint64_t{1} << 63);
  const RandomBlock second = philox4x32(first.words[0] | uint64_t{first.words[1]} << 32, b, uint64_t{1} << 63);
  return second.words[0] | uint64_t{second.words[1]} << 32;
}

// 64 bits of a name, the same for ever: FNV-1a, its weak high bits stirred by MurmurHash3's finalizer.
constexpr uint64_t hash_name(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  hash = (hash ^ (hash >> 33)) * 0xFF51AFD7ED558CCD;
  hash = (hash ^ (hash >> 33)) * 0xC4CEB9FE1A85EC53;
  return hash ^ (hash >> 33);
}

// In [0, 1), a multiple of 2^-24.
TROUPE_HOST_DEVICE constexpr float to_uniform(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }
// In (0, 1], a multiple of 2^-24: safe under a logarithm.
TROUPE_HOST_DEVICE constexpr float to_uniform_positive(uint32_t word) {
  return static_cast<float>((word >> 8) + 1) * 0x1p-24f;
}
// In [0, 1), a multiple of 2^-53.
TROUPE_HOST_DEVICE constexpr double to_uniform_double(uint64_t word) {
  return static_cast<double>(word >> 11) * 0x1p-53;
}

// The value number `index` under a key. Four neighbours share a block: see uniform4 and normal4.
TROUPE_HOST_DEVICE constexpr float uniform(uint64_t key, uint64_t index) {
  return to_uniform(philox4x32(key, index / 4).words[index % 4]);
}

// Values 4 * block … 4 * block + 3 of uniform().
TROUPE_HOST_DEVICE constexpr void uniform4(uint64_t key, uint64_t block, float out[4]) {
  const RandomBlock random = philox4x32(key, block);
  for (int i = 0; i < 4; ++i) out[i] = to_uniform(random.words[i]);
}

// Values 4 * block … 4 * block + 3 of normal(): mean 0, variance 1, |z| < 6.7 (Box and Muller 1958).
TROUPE_HOST_DEVICE inline void normal4(uint64_t key, uint64_t block, float out[4]) {
  const RandomBlock random = philox4x32(key, block);
  for (int pair = 0; pair < 2; ++pair) {
    // All 32 bits for the radius, so that the tails reach past 5.8.
    const float u = (static_cast<float>(random.words[2 * pair]) + 1.0f) * 0x1p-32f;
    const float radius = std::sqrt(-2.0f * std::log(u < 1.0f ? u : 1.0f));
    const float angle = 6.283185307f * to_uniform(random.words[2 * pair + 1]);
    out[2 * pair] = radius * std::cos(angle);
    out[2 * pair + 1] = radius * std::sin(angle);
  }
}

TROUPE_HOST_DEVICE inline float normal(uint64_t key, uint64_t index) {
  float values[4];
  normal4(key, index / 4, values);
  return values[index % 4];
}

// The integer number `index` under a key, each of [0, n) equally likely (Lemire 2019, arXiv:1805.10941):
// a draw that would favour some is thrown away for the next. REQUIRES: n > 0.
TROUPE_HOST_DEVICE constexpr uint64_t random_below(uint64_t key, uint64_t index, uint64_t n) {
  const uint64_t rejected = (0 - n) % n;  // 2^64 mod n
  for (uint64_t attempt = 0;; ++attempt) {
    const RandomBlock block = philox4x32(key, index, attempt);
    const uint64_t draw = block.words[0] | uint64_t{block.words[1]} << 32;
    const unsigned __int128 product = static_cast<unsigned __int128>(draw) * n;
    if (static_cast<uint64_t>(product) >= rejected) return static_cast<uint64_t>(product >> 64);
  }
}

// Where `index` goes in a keyed shuffle of [0, n): a bijection for every key, at the cost of a few hundred
// multiplications and no memory. A Feistel network over the next power of two, walked until it falls
// into [0, n) (Black and Rogaway 2002); at most 2 rounds of it on average. REQUIRES:
// index < n, and a key under which nothing else is drawn.
TROUPE_HOST_DEVICE constexpr uint64_t permute(uint64_t index, uint64_t n, uint64_t key) {
  int bits = 0;
  while (bits < 64 && (n - 1) >> bits != 0) ++bits;
  if (bits == 0) return 0;
  const int low_bits = (bits + 1) / 2, high_bits = bits / 2;
  const uint64_t low_mask = (uint64_t{1} << low_bits) - 1, high_mask = (uint64_t{1} << high_bits) - 1;
  uint64_t x = index;
  do {
    uint64_t low = x & low_mask, high = x >> low_bits;
    for (uint64_t round = 0; round < 8; round += 2) {
      low ^= philox4x32(key, high, round).words[0] & low_mask;
      high ^= philox4x32(key, low, round + 1).words[0] & high_mask;
    }
    x = high << low_bits | low;
  } while (x >= n);
  return x;
}

// A sequence of draws, for code that runs in one place in one order; its whole state is `position`.
struct RandomStream {
  uint64_t key = 0;
  uint64_t position = 0;

  using result_type = uint64_t;  // usable as a standard random bit generator
  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return ~uint64_t{0}; }
  constexpr uint64_t operator()() { return random_u64(key, position++); }

  constexpr double uniform() { return to_uniform_double((*this)()); }
  constexpr uint64_t below(uint64_t n) { return random_below(key, position++, n); }
  float normal() { return troupe::normal(key, 4 * position++); }
};

}  // namespace troupe
