// The backward pass: weights are made again from q, k and the stored log-sum-exp, then
//   dV = Pᵀ dO,  dP = dO Vᵀ,  dS = P ∘ (dP - rowsum(dO ∘ O)),  dQ = dS K,  dK = dSᵀ Q   (times the scale).
// dQ is a chain over keys, dK and dV are chains over query rows, all ascending: how the work is cut into
// parts cannot change a bit.
#if defined(TROUPE_ATTENTION_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TROUPE_ATTENTION_BACKWARD_INL_H_
#undef TROUPE_ATTENTION_BACKWARD_INL_H_
#else
#define TROUPE_ATTENTION_BACKWARD_INL_H_
#endif

#include "kernels/cpu/attention_forward-inl.h"
#include "kernels/cpu/attention_layout-inl.h"

namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

template <class T, class Math>
struct Backward : Layout<T, Math> {
  using Base = Layout<T, Math>;
  static constexpr int64_t kPer = Base::kPer;
  static constexpr int64_t kLeft = kTileRows / kPer;  // words of a key's weights over the rows of a tile

  struct Tile {
    float *zeros, *q, *d_o;         // transposed, in words of the width
    float *q_by_row, *d_o_by_row;   // in words of rows: right operands of products over rows
    float *scores, *slopes;         // [kBlock][kTileRows]: S then P, dP then dS
    float *weights_left, *ds_left;  // [kBlock][kLeft]: P and dS as left operands of products over rows
    float* ds_right;                // [kBlock / kPer][kTileRows]: dS as right operand of a product over keys
    float *dq, *rows, *dk, *dv;
    Tile(const AttentionJob& job, int64_t keys, Scratch& scratch) {
      const int64_t ld = Base::padded(job);
      zeros = scratch.take(std::max(job.d, kTileRows));
      q = scratch.take(Base::words(job) * kTileRows);
      d_o = scratch.take(Base::words(job) * kTileRows);
      q_by_row = scratch.take(kTileRows * ld);
      d_o_by_row = scratch.take(kTileRows * ld);
      scores = scratch.take(kBlock * kTileRows);
      slopes = scratch.take(kBlock * kTileRows);
      weights_left = kPer == 1 ? scores : scratch.take(kBlock * kLeft);
      ds_left = kPer == 1 ? slopes : scratch.take(kBlock * kLeft);
      ds_right = kPer == 1 ? slopes : scratch.take(kBlock / kPer * kTileRows);
      dq = scratch.take(job.d * kTileRows);
      rows = scratch.take(kTileRows * ld);
      dk = scratch.take(keys * ld);
      dv = scratch.take(keys * ld);
    }
  };

  static int64_t scratch_words(const AttentionJob& job, int64_t keys) {
    Scratch scratch(nullptr);
    (void)Tile(job, keys, scratch);
    return scratch.used();
  }

  struct Statistics {
    alignas(64) float lse2[kTileRows];   // of base 2; +inf for rows that see nothing and for spare lanes
    alignas(64) float delta[kTileRows];  // rowsum(dO ∘ O)
  };

  // A tile's q or dO: transposed, and in words of rows.
  static void load(const AttentionJob& job, const void* tensor, int64_t b, int64_t head, int64_t row, int64_t count,
                   int64_t vectors, const Tile& tile, float* transposed, float* by_row) {
    const float* rows[kTileRows];
    Base::gather(job, tensor, b, head, row, count, true, by_row, tile.zeros, rows);
    transpose(rows, vectors, Base::words(job), transposed, kTileRows);
    if constexpr (kPer == 2) {
      const T* from = static_cast<const T*>(tensor);
      for (int64_t i = 0; i < count; i += 2) {
        interleave(from + job.row_at(b, head, row + i),
                   i + 1 < count ? from + job.row_at(b, head, row + i + 1) : nullptr,
                   by_row + i / 2 * Base::padded(job), job.d, Base::padded(job));
      }
    }
  }

  static void statistics(const AttentionJob& job, int64_t b, int64_t head, int64_t row, int64_t count,
                         Statistics& out) {
    std::fill_n(out.lse2, kTileRows, kInfinity);
    std::fill_n(out.delta, kTileRows, 0.0f);
    for (int64_t i = 0; i < count; ++i) {
      const float lse = static_cast<const float*>(job.lse)[job.lse_at(b, head, row + i)];
      if (lse != -kInfinity) out.lse2[i] = lse * kLog2E;
      const int64_t at = job.row_at(b, head, row + i);
      out.delta[i] = dot(static_cast<const T*>(job.o) + at, job.o_low ? job.o_low + at : nullptr,
                         static_cast<const T*>(job.d_o) + at, job.d);
    }
  }
  static HWY_INLINE Vector element_vector(const float* from) { return hn::LoadU(D(), from); }
  static HWY_INLINE Vector element_vector(const bf16* from) {
    const hn::Rebind<hwy::bfloat16_t, D> half;
    return hn::PromoteTo(D(), hn::LoadU(half, reinterpret_cast<const hwy::bfloat16_t*>(from)));
  }
  // a · b, where a's elements may have more bits.
  static float dot(const T* a, const uint8_t* a_low, const T* b, int64_t count) {
    const D d;
    Vector sums = hn::Zero(d);
    int64_t c = 0;
    for (; c + kLanes <= count; c += kLanes) {
      const Vector left = a_low ? load_with_low(a + c, a_low + c) : element_vector(a + c);
      sums = hn::MulAdd(left, element_vector(b + c), sums);
    }
    float sum = hn::GetLane(hn::SumOfLanes(d, sums));
    for (; c < count; ++c)
      sum += (a_low ? with_low(a[c], a_low[c]) : static_cast<float>(a[c])) * static_cast<float>(b[c]);
    return sum;
  }

  // P and dS of one vector of rows for one key.
  struct Weights {
    Vector p, ds;
  };
  static HWY_INLINE Weights weigh(const AttentionJob& job, const Visibility& visibility, const Segment& segment,
                                  int64_t v, int64_t j, Vector score, Vector slope, Vector factor, Vector lse2,
                                  Vector delta) {
    const D d;
    Vector tangent = hn::Zero(d);
    if (job.softcap > 0) score = squash(job, score, &tangent);
    Vector p = exp2(hn::MulSub(score, factor, lse2));
    if (segment.masked) p = hn::IfThenElseZero(sees(visibility, v, j), p);
    Vector ds = hn::Mul(p, hn::Sub(slope, delta));
    if (job.softcap > 0) ds = hn::NegMulAdd(hn::Mul(ds, tangent), tangent, ds);
    return {p, ds};
  }

  static HWY_INLINE void weigh_segment(const AttentionJob& job, const Visibility& visibility, const Segment& segment,
                                       int64_t block, const Tile& tile, const Statistics& stats) {
    const D d;
    const Vector factor = hn::Set(d, score_factor(job));
    for (int64_t v = segment.first; v < segment.last; ++v) {
      const Vector lse2 = hn::Load(d, stats.lse2 + v * kLanes);
      const Vector delta = hn::Load(d, stats.delta + v * kLanes);
      const int64_t lane = v * kLanes;
      for (int64_t j = segment.begin; j < segment.end; j += kPer) {
        const int64_t at = (j - block) * kTileRows + lane;
        const Weights low = weigh(job, visibility, segment, v, j, hn::Load(d, tile.scores + at),
                                  hn::Load(d, tile.slopes + at), factor, lse2, delta);
        if constexpr (kPer == 1) {
          hn::Store(low.p, d, tile.scores + at);
          hn::Store(low.ds, d, tile.slopes + at);
        } else {
          Weights high{hn::Zero(d), hn::Zero(d)};
          if (j + 1 < segment.end) {
            high = weigh(job, visibility, segment, v, j + 1, hn::Load(d, tile.scores + at + kTileRows),
                         hn::Load(d, tile.slopes + at + kTileRows), factor, lse2, delta);
          }
          bf16* p_left = reinterpret_cast<bf16*>(tile.weights_left + (j - block) * kLeft) + lane;
          bf16* ds_left = reinterpret_cast<bf16*>(tile.ds_left + (j - block) * kLeft) + lane;
          Math::store_half(low.p, p_left);
          Math::store_half(high.p, p_left + kTileRows);
          Math::store_half(low.ds, ds_left);
          Math::store_half(high.ds, ds_left + kTileRows);
          hn::Store(Math::pair(low.ds, high.ds), d, tile.ds_right + (j - block) / 2 * kTileRows + lane);
        }
      }
    }
  }

  static void run(const AttentionJob& job, const AttentionBackwardPart& part, float* memory) {
    Scratch scratch(memory);
    const int64_t ld = Base::padded(job), width = Base::words(job);
    const int64_t part_keys = part.key_end - part.key_begin;
    const Tile tile(job, part_keys, scratch);
    const Keys keys = Base::keys_of(job, part.b, part.head);
    std::fill_n(tile.zeros, std::max(job.d, kTileRows), 0.0f);
    if (part.dk_dv) {
      std::fill_n(tile.dk, part_keys * ld, 0.0f);
      std::fill_n(tile.dv, part_keys * ld, 0.0f);
    }
    float factor[kTileRows];
    std::fill_n(factor, kTileRows, static_cast<float>(job.scale));

    for (int64_t row = part.row_begin; row < part.row_end; row += kTileRows) {
      const int64_t count = std::min(kTileRows, part.row_end - row);
      const Visibility visibility(job, part.b, row, count);
      if (part.dq) std::fill_n(tile.dq, job.d * kTileRows, 0.0f);
      const int64_t begin = std::max(visibility.first_block(), part.key_begin);
      const int64_t end = std::min(visibility.end, part.key_end);
      Statistics stats;
      if (begin < end) {
        load(job, job.q, part.b, part.head, row, count, visibility.vectors, tile, tile.q, tile.q_by_row);
        load(job, job.d_o, part.b, part.head, row, count, visibility.vectors, tile, tile.d_o, tile.d_o_by_row);
        statistics(job, part.b, part.head, row, count, stats);
      }
      for (int64_t block = begin; block < end; block += kBlock) {
        Segment segments[kBlock / kPiece];
        const int pieces = visibility.segments(block, segments);
        for (int s = 0; s < pieces; ++s) {
          const Segment& segment = segments[s];
          const int64_t n = segment.end - segment.begin, vectors = segment.last - segment.first;
          const int64_t lane = segment.first * kLanes, at = (segment.begin - block) * kTileRows + lane;
          multiply<Math, Start::zero>(n, vectors, keys.k + segment.begin * keys.row, keys.row, 1, tile.q + lane,
                                      kTileRows, width, tile.scores + at, kTileRows);
          multiply<Math, Start::zero>(n, vectors, keys.v + segment.begin * keys.row, keys.row, 1, tile.d_o + lane,
                                      kTileRows, width, tile.slopes + at, kTileRows);
          weigh_segment(job, visibility, segment, block, tile, stats);
          if (part.dq) {
            multiply<Math, Start::add>(job.d, vectors, keys.k_by_key + segment.begin / kPer * keys.by_key_row, 1,
                                       keys.by_key_row,
                                       tile.ds_right + (segment.begin - block) / kPer * kTileRows + lane, kTileRows,
                                       Base::steps(n), tile.dq + lane, kTileRows);
          }
          if (!part.dk_dv) continue;
          const int64_t rows = std::min(segment.last * kLanes, count) - lane;
          const int64_t left = (segment.begin - block) * kLeft + lane / kPer, right = lane / kPer * ld;
          const int64_t to = (segment.begin - part.key_begin) * ld;
          multiply<Math, Start::add>(n, ld / kLanes, tile.weights_left + left, kLeft, 1, tile.d_o_by_row + right, ld,
                                     Base::steps(rows), tile.dv + to, ld);
          multiply<Math, Start::add>(n, ld / kLanes, tile.ds_left + left, kLeft, 1, tile.q_by_row + right, ld,
                                     Base::steps(rows), tile.dk + to, ld);
        }
      }
      if (part.dq) {
        Base::scatter(job, tile.dq, factor, tile.zeros, tile.rows, job.dq, nullptr, part.b, part.head, row, count);
      }
    }
    if (!part.dk_dv) return;
    for (int64_t j = part.key_begin; j < part.key_end; ++j) {
      const int64_t at = job.key_at(part.b, part.head, j), from = (j - part.key_begin) * ld;
      if (job.dk) Base::finish_row(job, tile.dk + from, factor[0], static_cast<T*>(job.dk) + at, nullptr);
      if (job.dv) Base::finish_row(job, tile.dv + from, 1, static_cast<T*>(job.dv) + at, nullptr);
    }
  }
};

template <class T, class Math>
int64_t scratch_words(const AttentionJob& job, bool backward, int64_t keys) {
  return backward ? Backward<T, Math>::scratch_words(job, keys) : Forward<T, Math>::scratch_words(job);
}

template <class T, class Math>
AttentionEngine make_engine() {
  return {.tile_rows = kTileRows,
          .packed_words = Layout<T, Math>::packed_words,
          .pack = Layout<T, Math>::pack,
          .scratch_words = scratch_words<T, Math>,
          .forward = Forward<T, Math>::run,
          .decode = Forward<T, Math>::run_few,
          .backward = Backward<T, Math>::run};
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace troupe::kernels::cpu

#endif
