// The forward passes: over tiles of query rows, and over few rows at the speed of memory. Both do the same
// arithmetic for a row, in the same order: scores as chains over the width, a new reference maximum per
// key block, then sums and outputs as chains over the keys.
#if defined(TROUPE_ATTENTION_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TROUPE_ATTENTION_FORWARD_INL_H_
#undef TROUPE_ATTENTION_FORWARD_INL_H_
#else
#define TROUPE_ATTENTION_FORWARD_INL_H_
#endif

#include "kernels/cpu/attention_layout-inl.h"

namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// Running softmax of a tile's rows, in powers of two: Σ of a row's exponentials = sum · 2^maximum.
struct RunningSoftmax {
  alignas(64) float maximum[kTileRows], sum[kTileRows];
  alignas(64) float alpha[kTileRows];  // by which the last block rescaled what was summed before
};

// Scores [keys][kTileRows] of one block, from row `block` on, become weights in place: f32, or bf16 with
// two neighbouring keys in a word (rows [0, keys / 2)).
template <class Math>
HWY_INLINE void softmax_block(const AttentionJob& job, const Visibility& visibility, int64_t block,
                              const Segment* segments, int count, float* scores, RunningSoftmax& state) {
  const D d;
  const Vector factor = hn::Set(d, score_factor(job));
  for (int64_t v = 0; v < visibility.vectors; ++v) {
    float* column = scores + v * kLanes;
    Vector largest = hn::Set(d, -kInfinity);
    bool live = false;
    for (int s = 0; s < count; ++s) {
      const Segment& segment = segments[s];
      if (v < segment.first || v >= segment.last) continue;
      live = true;
      if (!segment.masked && job.softcap == 0) {
        for (int64_t j = segment.begin; j < segment.end; ++j) {
          largest = hn::Max(largest, hn::Load(d, column + (j - block) * kTileRows));
        }
        continue;
      }
      for (int64_t j = segment.begin; j < segment.end; ++j) {
        float* at = column + (j - block) * kTileRows;
        Vector score = hn::Load(d, at), tangent;
        if (job.softcap > 0) score = squash(job, score, &tangent);
        if (segment.masked) score = hn::IfThenElse(sees(visibility, v, j), score, hn::Set(d, -kInfinity));
        hn::Store(score, d, at);
        largest = hn::Max(largest, score);
      }
    }
    if (!live) {
      hn::Store(hn::Set(d, 1.0f), d, state.alpha + v * kLanes);
      continue;
    }
    const Vector before = hn::Load(d, state.maximum + v * kLanes);
    const Vector maximum = hn::Max(before, hn::Mul(largest, factor));
    const Vector zero = reference(maximum);
    const Vector alpha = exp2(hn::Sub(before, zero));
    hn::Store(maximum, d, state.maximum + v * kLanes);
    hn::Store(alpha, d, state.alpha + v * kLanes);
    Vector sum = hn::Mul(hn::Load(d, state.sum + v * kLanes), alpha);
    for (int s = 0; s < count; ++s) {
      const Segment& segment = segments[s];
      if (v < segment.first || v >= segment.last) continue;
      if constexpr (Math::kPerWord == 1) {
        for (int64_t j = segment.begin; j < segment.end; ++j) {
          float* at = column + (j - block) * kTileRows;
          const Vector weight = exp2(hn::MulSub(hn::Load(d, at), factor, zero));
          sum = hn::Add(sum, weight);
          hn::Store(weight, d, at);
        }
      } else {
        for (int64_t j = segment.begin; j < segment.end; j += 2) {
          const float* at = column + (j - block) * kTileRows;
          const Vector low = exp2(hn::MulSub(hn::Load(d, at), factor, zero));
          Vector high = hn::Zero(d);
          if (j + 1 < segment.end) high = exp2(hn::MulSub(hn::Load(d, at + kTileRows), factor, zero));
          sum = hn::Add(hn::Add(sum, low), high);
          hn::Store(Math::pair(low, high), d, column + (j - block) / 2 * kTileRows);
        }
      }
    }
    hn::Store(sum, d, state.sum + v * kLanes);
  }
}

template <class T, class Math>
struct Forward : Layout<T, Math> {
  using Base = Layout<T, Math>;

  // Memory of one tile: its q, transposed; the scores of one key block; its output, transposed and not.
  struct Tile {
    float *zeros, *q, *scores, *o, *rows;
    Tile(const AttentionJob& job, Scratch& scratch) {
      zeros = scratch.take(std::max(job.d, kTileRows));
      q = scratch.take(Base::words(job) * kTileRows);
      scores = scratch.take(kBlock * kTileRows);
      o = scratch.take(job.d * kTileRows);
      rows = scratch.take(kTileRows * Base::padded(job));
    }
  };

  static int64_t scratch_words(const AttentionJob& job) {
    Scratch tile(nullptr), few(nullptr);
    (void)Tile(job, tile);
    (void)FewRows(job, few);
    return std::max(tile.used(), few.used());
  }

  static void run(const AttentionJob& job, int64_t b, int64_t head, int64_t row, int64_t count, float* memory) {
    const D d;
    Scratch scratch(memory);
    const Tile tile(job, scratch);
    const Visibility visibility(job, b, row, count);
    const Keys keys = Base::keys_of(job, b, head);
    std::fill_n(tile.zeros, std::max(job.d, kTileRows), 0.0f);
    const float* rows[kTileRows];
    Base::gather(job, job.q, b, head, row, count, false, tile.rows, tile.zeros, rows);
    transpose(rows, visibility.vectors, Base::words(job), tile.q, kTileRows);
    std::fill_n(tile.o, job.d * kTileRows, 0.0f);
    RunningSoftmax state;
    std::fill_n(state.maximum, kTileRows, -kInfinity);
    std::fill_n(state.sum, kTileRows, 0.0f);

    for (int64_t block = visibility.first_block(); block < visibility.end; block += kBlock) {
      Segment segments[kBlock / kPiece];
      const int pieces = visibility.segments(block, segments);
      if (pieces == 0) continue;
      for (int s = 0; s < pieces; ++s) {
        const Segment& segment = segments[s];
        multiply<Math, Start::zero>(
            segment.end - segment.begin, segment.last - segment.first, keys.k + segment.begin * keys.row, keys.row, 1,
            tile.q + segment.first * kLanes, kTileRows, Base::words(job),
            tile.scores + (segment.begin - block) * kTileRows + segment.first * kLanes, kTileRows);
      }
      softmax_block<Math>(job, visibility, block, segments, pieces, tile.scores, state);
      if (pieces > 1 && block != visibility.first_block()) {
        for (int64_t v = 0; v < visibility.vectors; ++v) {
          const Vector alpha = hn::Load(d, state.alpha + v * kLanes);
          for (int64_t c = 0; c < job.d; ++c) {
            float* at = tile.o + c * kTileRows + v * kLanes;
            hn::Store(hn::Mul(hn::Load(d, at), alpha), d, at);
          }
        }
      }
      for (int s = 0; s < pieces; ++s) {
        const Segment& segment = segments[s];
        const int64_t lane = segment.first * kLanes;
        const float* values = keys.v_by_key + segment.begin / Base::kPer * keys.by_key_row;
        const float* weights = tile.scores + (segment.begin - block) / Base::kPer * kTileRows + lane;
        const auto product = pieces > 1 ? multiply<Math, Start::add> : multiply<Math, Start::scale>;
        product(job.d, segment.last - segment.first, values, 1, keys.by_key_row, weights, kTileRows,
                Base::steps(segment.end - segment.begin), tile.o + lane, kTileRows, state.alpha + lane);
      }
    }
    finish(state.maximum, state.sum, count);
    if (job.lse) store_lse(job, b, head, row, count, state.maximum);
    Base::scatter(job, tile.o, state.sum, tile.zeros, tile.rows, job.o, job.o_low, b, head, row, count);
  }

  // sum → 1 / sum and maximum → ln(Σ exp), or 0 and -inf for a row that sees no key.
  static void finish(float* maximum, float* sum, int64_t count) {
    const D d;
    for (int64_t i = 0; i < count; i += kLanes) {  // both are as long as whole vectors
      const Vector total = hn::LoadU(d, sum + i);
      const auto none = hn::Eq(total, hn::Zero(d));
      const Vector lse = hn::MulAdd(hn::LoadU(d, maximum + i), hn::Set(d, kLn2), hn::Log(d, total));
      hn::StoreU(hn::IfThenElse(none, hn::Set(d, -kInfinity), lse), d, maximum + i);
      hn::StoreU(hn::IfThenZeroElse(none, hn::Div(hn::Set(d, 1.0f), total)), d, sum + i);
    }
  }
  static void store_lse(const AttentionJob& job, int64_t b, int64_t head, int64_t row, int64_t count,
                        const float* maximum) {
    std::copy_n(maximum, count, static_cast<float*>(job.lse) + job.lse_at(b, head, row));
  }

  // Memory of few rows: their q and outputs, one key block transposed, its values where they must be
  // rearranged, and the block's weights, the keys across lanes.
  struct FewRows {
    float *zeros, *q, *o, *keys, *converted, *values, *weights;
    FewRows(const AttentionJob& job, Scratch& scratch) {
      const int64_t ld = Base::padded(job);
      zeros = scratch.take(std::max(job.d, kTileRows));
      q = scratch.take(kAttentionDecodeRows * Base::words(job));
      o = scratch.take(kAttentionDecodeRows * ld);
      keys = scratch.take(Base::words(job) * kBlock);
      converted = scratch.take(kBlock * ld);
      values = scratch.take(kBlock * ld);
      weights = scratch.take(kAttentionDecodeRows * kBlock);
    }
  };

  static void run_few(const AttentionJob& job, int64_t b, int64_t head, int64_t row, int64_t count, float* memory) {
    const D d;
    Scratch scratch(memory);
    const FewRows few(job, scratch);
    const int64_t width = Base::words(job), ld = Base::padded(job);
    const T* k = static_cast<const T*>(job.k) + job.key_at(b, head, 0);
    const T* v = static_cast<const T*>(job.v) + job.key_at(b, head, 0);
    const int64_t key_row = job.K * job.d;
    std::fill_n(few.zeros, std::max(job.d, kTileRows), 0.0f);
    std::fill_n(few.o, kAttentionDecodeRows * ld, 0.0f);
    AttentionJob::Range ranges[kAttentionDecodeRows], all{std::numeric_limits<int64_t>::max(), 0};
    constexpr int64_t kStates = std::max(kAttentionDecodeRows, kLanes);
    float maximum[kStates], sum[kStates];
    std::fill_n(maximum, kStates, -kInfinity);
    std::fill_n(sum, kStates, 0.0f);
    for (int64_t i = 0; i < count; ++i) {
      ranges[i] = job.visible(b, row + i);
      if (ranges[i].begin < ranges[i].end) {
        all.begin = std::min(all.begin, ranges[i].begin);
        all.end = std::max(all.end, ranges[i].end);
      }
      const T* q = static_cast<const T*>(job.q) + job.row_at(b, head, row + i);
      if constexpr (Base::kInPlace) std::memcpy(few.q + i * width, q, static_cast<size_t>(width) * sizeof(float));
      else load_row(q, few.q + i * width, job.d);
    }
    for (int64_t block = all.begin / kBlock * kBlock; block < all.end; block += kBlock) {
      const int64_t keys = std::min(kBlock, all.end - block);
      const int64_t vectors = (keys + kLanes - 1) / kLanes;
      const float* rows[kBlock];
      for (int64_t j = 0; j < vectors * kLanes; ++j) {
        const T* element = k + (block + j) * key_row;
        rows[j] = j < keys ? reinterpret_cast<const float*>(element) : few.zeros;
        if (j < keys && !Base::kInPlace) {
          load_row(element, few.converted + j * ld, job.d);
          rows[j] = few.converted + j * ld;
        }
      }
      transpose(rows, vectors, width, few.keys, kBlock);
      multiply<Math, Start::zero>(count, vectors, few.q, width, 1, few.keys, kBlock, width, few.weights, kBlock);
      for (int64_t i = 0; i < count; ++i) {
        float* weights = few.weights + i * kBlock;
        const float alpha = softmax_row(job, ranges[i], block, vectors, weights, maximum[i], sum[i]);
        float* o = few.o + i * ld;
        for (int64_t c = 0; c < ld; c += kLanes) {
          hn::Store(hn::Mul(hn::Load(d, o + c), hn::Set(d, alpha)), d, o + c);
        }
        if constexpr (Base::kPer == 2) {
          for (int64_t j = 0; j < vectors * kLanes; j += kLanes) {
            Math::store_half(hn::Load(d, weights + j), reinterpret_cast<bf16*>(weights) + j);
          }
        }
      }
      int64_t value_row = ld;
      const float* values = few.values;
      if constexpr (Base::kPer == 2) {
        for (int64_t j = 0; j < keys; j += 2) {
          const T* element = v + (block + j) * key_row;
          interleave(element, j + 1 < keys ? element + key_row : nullptr, few.values + j / 2 * ld, job.d, ld);
        }
      } else if (Base::kInPlace && ld == job.d) {
        values = reinterpret_cast<const float*>(v + block * key_row);
        value_row = key_row;
      } else {
        for (int64_t j = 0; j < keys; ++j) {
          load_row(v + (block + j) * key_row, few.values + j * ld, job.d);
          std::fill(few.values + j * ld + job.d, few.values + (j + 1) * ld, 0.0f);
        }
      }
      multiply<Math, Start::add>(count, ld / kLanes, few.weights, kBlock, 1, values, value_row, Base::steps(keys),
                                 few.o, ld);
    }
    finish(maximum, sum, count);
    if (job.lse) store_lse(job, b, head, row, count, maximum);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = job.row_at(b, head, row + i);
      Base::finish_row(job, few.o + i * ld, sum[i], static_cast<T*>(job.o) + at, job.o_low ? job.o_low + at : nullptr);
    }
  }

  // One row's scores of a block become weights; returns alpha. Hidden keys weigh 0.
  static float softmax_row(const AttentionJob& job, AttentionJob::Range range, int64_t block, int64_t vectors,
                           float* scores, float& maximum, float& sum) {
    const D d;
    const hn::RebindToSigned<D> i32;
    const Vector factor = hn::Set(d, score_factor(job));
    const int64_t last = block + vectors * kLanes;
    Vector largest = hn::Set(d, -kInfinity);
    for (int64_t v = 0; v < vectors; ++v) {
      Vector score = hn::Load(d, scores + v * kLanes), tangent;
      if (job.softcap > 0) score = squash(job, score, &tangent);
      if (range.begin > block || range.end < last) {
        const auto key = hn::Iota(i32, static_cast<int32_t>(block + v * kLanes));
        const auto seen = hn::AndNot(hn::Lt(key, hn::Set(i32, static_cast<int32_t>(range.begin))),
                                     hn::Lt(key, hn::Set(i32, static_cast<int32_t>(range.end))));
        score = hn::IfThenElse(hn::RebindMask(d, seen), score, hn::Set(d, -kInfinity));
      }
      hn::Store(score, d, scores + v * kLanes);
      largest = hn::Max(largest, score);
    }
    const Vector before = hn::Set(d, maximum);
    const Vector after = hn::Max(before, hn::Mul(hn::MaxOfLanes(d, largest), factor));
    const Vector zero = reference(after);
    const float alpha = hn::GetLane(exp2(hn::Sub(before, zero)));
    maximum = hn::GetLane(after);
    for (int64_t v = 0; v < vectors; ++v) {
      hn::Store(exp2(hn::MulSub(hn::Load(d, scores + v * kLanes), factor, zero)), d, scores + v * kLanes);
    }
    sum *= alpha;
    for (int64_t j = 0; j < vectors * kLanes; ++j) sum += scores[j];  // in the keys' order, as in a tile
    return alpha;
  }
};

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace troupe::kernels::cpu

#endif
