// FlashAttention's data on the CPU: a tile of query rows lies across the lanes of vectors; keys and widths
// are walked by broadcasts. So keys and values are read where they lie, and running maxima and sums are
// plain vectors. Templates over the tensors' element T and the arithmetic Math (attention_tile-inl.h).
#if defined(TROUPE_ATTENTION_LAYOUT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TROUPE_ATTENTION_LAYOUT_INL_H_
#undef TROUPE_ATTENTION_LAYOUT_INL_H_
#else
#define TROUPE_ATTENTION_LAYOUT_INL_H_
#endif

#include <limits>

#include "kernels/cpu/attention_job.h"
#include "kernels/cpu/attention_tile-inl.h"

namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kBlock = kAttentionKeyBlock;
constexpr int64_t kPiece = 16;  // keys; where whole vectors of rows see none of a piece, they skip it
constexpr float kLog2E = 1.44269504088896341f;
constexpr float kLn2 = 0.693147180559945309f;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

constexpr int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Keys [begin, end) that the vectors [first, last) of a tile see; `masked`: not all rows see all of them.
struct Segment {
  int64_t begin, end, first, last;
  bool masked;
};

// What each row of a tile sees, by row and summed up by vector.
struct Visibility {
  int64_t vectors = 0, begin = 0, end = 0;  // begin, end: of all rows together
  alignas(64) int32_t row_begin[kTileRows], row_end[kTileRows];
  // Of each vector: keys that some row may see, and keys that all rows see.
  int64_t some_begin[kVectors], some_end[kVectors], all_begin[kVectors], all_end[kVectors];

  Visibility(const AttentionJob& job, int64_t b, int64_t row, int64_t count) {
    vectors = (count + kLanes - 1) / kLanes;
    begin = std::numeric_limits<int64_t>::max();
    for (int64_t v = 0; v < vectors; ++v) {
      some_begin[v] = all_end[v] = std::numeric_limits<int64_t>::max();
      some_end[v] = all_begin[v] = 0;
      for (int64_t i = v * kLanes; i < (v + 1) * kLanes; ++i) {
        // Lanes behind the last row repeat it: they hold zeros, and no one reads them.
        const AttentionJob::Range range = job.visible(b, row + std::min(i, count - 1));
        row_begin[i] = static_cast<int32_t>(range.begin);
        row_end[i] = static_cast<int32_t>(std::max(range.begin, range.end));
        all_begin[v] = std::max(all_begin[v], range.begin);
        all_end[v] = std::min(all_end[v], range.end);
        if (range.begin >= range.end) continue;
        some_begin[v] = std::min(some_begin[v], range.begin);
        some_end[v] = std::max(some_end[v], range.end);
      }
      begin = std::min(begin, some_begin[v]);
      end = std::max(end, some_end[v]);
    }
  }

  int64_t first_block() const { return begin / kBlock * kBlock; }

  // The visible pieces of the key block that starts at `block`; neighbours for the same vectors are joined.
  int segments(int64_t block, Segment* out) const {
    int count = 0;
    for (int64_t j = block; j < std::min(block + kBlock, end); j += kPiece) {
      Segment piece{j, j, vectors, 0, false};
      for (int64_t v = 0; v < vectors; ++v) {
        if (some_begin[v] >= j + kPiece || some_end[v] <= j) continue;
        piece.first = std::min(piece.first, v);
        piece.last = v + 1;
        piece.end = std::max(piece.end, std::min(j + kPiece, some_end[v]));
      }
      if (piece.end == piece.begin) continue;
      for (int64_t v = piece.first; v < piece.last; ++v) {
        piece.masked = piece.masked || all_begin[v] > piece.begin || all_end[v] < piece.end;
      }
      Segment* before = count > 0 ? out + count - 1 : nullptr;
      if (before && before->end == piece.begin && before->first == piece.first && before->last == piece.last) {
        before->end = piece.end;
        before->masked = before->masked || piece.masked;
      } else {
        out[count++] = piece;
      }
    }
    return count;
  }
};

// Where the keys and values of one head lie, in words.
struct Keys {
  const float *k, *v;  // row-major over the width
  int64_t row;         // words between neighbouring keys
  // As the left operand of a product that sums over keys.
  const float *k_by_key, *v_by_key;
  int64_t by_key_row;  // words between its steps
};

// Takes memory from the caller's scratch, in order, each piece aligned to a cache line.
class Scratch {
 public:
  explicit Scratch(float* memory) : memory_(memory) {}
  float* take(int64_t words) {
    float* piece = memory_ ? memory_ + used_ : nullptr;
    used_ += round_up(words, 16);
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  float* memory_;
  int64_t used_ = 0;
};

// Scores become exponents of two times `score_factor`; under a softcap they are squashed first.
inline float score_factor(const AttentionJob& job) {
  return job.softcap > 0 ? kLog2E : static_cast<float>(job.scale * kLog2E);
}
HWY_INLINE Vector squash(const AttentionJob& job, Vector score, Vector* tangent) {
  const D d;
  *tangent = hn::Tanh(d, hn::Mul(score, hn::Set(d, static_cast<float>(job.scale / job.softcap))));
  return hn::Mul(*tangent, hn::Set(d, static_cast<float>(job.softcap)));
}
HWY_INLINE auto sees(const Visibility& visibility, int64_t v, int64_t j) {
  const hn::RebindToSigned<D> i32;
  const auto key = hn::Set(i32, static_cast<int32_t>(j));
  const auto begin = hn::Load(i32, visibility.row_begin + v * kLanes);
  const auto end = hn::Load(i32, visibility.row_end + v * kLanes);
  return hn::RebindMask(D(), hn::AndNot(hn::Lt(key, begin), hn::Lt(key, end)));
}
// An exponent's reference: the row's maximum, or 0 where no key was seen yet (2^(-inf - 0) = 0).
HWY_INLINE Vector reference(Vector maximum) {
  const D d;
  return hn::IfThenElse(hn::Eq(maximum, hn::Set(d, -kInfinity)), hn::Zero(d), maximum);
}

// Where tensors of T meet the words of Math.
template <class T, class Math>
struct Layout {
  static constexpr int64_t kPer = Math::kPerWord;
  static constexpr bool kInPlace = sizeof(T) * kPer == sizeof(float);  // tensors hold words as they are

  static int64_t words(const AttentionJob& job) { return job.d / kPer; }
  static int64_t padded(const AttentionJob& job) { return round_up(job.d, kLanes); }
  static int64_t steps(int64_t elements) { return (elements + kPer - 1) / kPer; }

  static int64_t packed_words(const AttentionJob& job, bool backward) {
    if constexpr (!kInPlace) return 2 * job.packed_keys * job.d;
    if constexpr (kPer == 2) return (backward ? 2 : 1) * job.packed_keys / 2 * job.d;
    return 0;
  }

  static Keys keys_of(const AttentionJob& job, int64_t b, int64_t head) {
    const float* packed = job.packed + (b * job.K + head) * job.packed_words;
    if constexpr (!kInPlace) {
      const float* v = packed + job.packed_keys * job.d;
      return {packed, v, job.d, packed, v, job.d};
    }
    const int64_t at = job.key_at(b, head, 0);
    const auto* k = reinterpret_cast<const float*>(static_cast<const T*>(job.k) + at);
    const auto* v = reinterpret_cast<const float*>(static_cast<const T*>(job.v) + at);
    if constexpr (kPer == 2) return {k, v, job.K * job.d / 2, packed + job.packed_keys / 2 * job.d, packed, job.d};
    return {k, v, job.K * job.d, k, v, job.K * job.d};
  }

  // REQUIRES: key_begin is a multiple of the key block.
  static void pack(const AttentionJob& job, int64_t b, int64_t head, int64_t key_begin, int64_t key_end) {
    float* packed = job.packed + (b * job.K + head) * job.packed_words;
    const T* k = static_cast<const T*>(job.k) + job.key_at(b, head, 0);
    const T* v = static_cast<const T*>(job.v) + job.key_at(b, head, 0);
    const int64_t row = job.K * job.d;
    if constexpr (!kInPlace) {
      for (int64_t j = key_begin; j < key_end; ++j) {
        load_row(k + j * row, packed + j * job.d, job.d);
        load_row(v + j * row, packed + (job.packed_keys + j) * job.d, job.d);
      }
    } else if constexpr (kPer == 2) {
      float* k_packed = packed + job.packed_keys / 2 * job.d;
      for (int64_t j = key_begin; j < key_end; j += 2) {
        const bool both = j + 1 < key_end;
        interleave(v + j * row, both ? v + (j + 1) * row : nullptr, packed + j / 2 * job.d, job.d, job.d);
        if (job.d_o == nullptr) continue;
        interleave(k + j * row, both ? k + (j + 1) * row : nullptr, k_packed + j / 2 * job.d, job.d, job.d);
      }
    }
  }

  // The query rows of a tile as words: pointers into the tensor, or to rows converted in `converted`
  // (leading dimension padded(job), zeros behind d). Missing rows are zeros.
  static void gather(const AttentionJob& job, const void* tensor, int64_t b, int64_t head, int64_t row, int64_t count,
                     bool copy, float* converted, const float* zeros, const float** rows) {
    const T* from = static_cast<const T*>(tensor);
    const int64_t ld = padded(job);
    for (int64_t i = 0; i < kTileRows; ++i) {
      if (i >= count) {
        rows[i] = zeros;
        continue;
      }
      const T* element = from + job.row_at(b, head, row + i);
      rows[i] = reinterpret_cast<const float*>(element);
      if constexpr (kPer == 1) {
        if (kInPlace && !copy) continue;
        load_row(element, converted + i * ld, job.d);
        std::fill(converted + i * ld + job.d, converted + (i + 1) * ld, 0.0f);
        rows[i] = converted + i * ld;
      }
    }
  }

  // to (and low, unless null) rows [row, row + count) ← columns of `transposed` [d][kTileRows] times factor[i].
  static void scatter(const AttentionJob& job, const float* transposed, const float* factor, const float* zeros,
                      float* rows, void* to, uint8_t* low, int64_t b, int64_t head, int64_t row, int64_t count) {
    const int64_t ld = padded(job);
    for (int64_t c = 0; c < ld; c += kLanes) {
      const float* columns[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) columns[i] = c + i < job.d ? transposed + (c + i) * kTileRows : zeros;
      transpose(columns, 1, round_up(count, 4), rows + c, ld);
    }
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = job.row_at(b, head, row + i);
      finish_row(job, rows + i * ld, factor[i], static_cast<T*>(to) + at, low ? low + at : nullptr);
    }
  }
  static void finish_row(const AttentionJob& job, const float* row, float factor, T* to, uint8_t* low) {
    const D d;
    int64_t c = 0;
    for (; c + kLanes <= job.d; c += kLanes) {
      const Vector value = hn::Mul(hn::LoadU(d, row + c), hn::Set(d, factor));
      store_elements(value, to + c);
      if (low) store_low(value, to + c, low + c);
    }
    for (; c < job.d; ++c) {
      to[c] = T(row[c] * factor);
      if (low) low[c] = low_bits(row[c] * factor, to[c]);
    }
  }
};

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace troupe::kernels::cpu

#endif
