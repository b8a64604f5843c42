// Attention's fast path for bf16 on CPUs that multiply pairs of bf16 (AVX-512 BF16, vdpbf16ps): AVX-512's
// build of the templates, with that instruction allowed. Weights are rounded to bf16 before they are
// multiplied with values; scores, softmax and sums stay in f32.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_bf16.cpp"
#include <hwy/foreach_target.h>
// After it, as Highway asks.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "kernels/cpu/attention_job.h"
#include "kernels/cpu/isa.h"

#if HWY_TARGET == HWY_AVX3
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512bf16")
#else
HWY_BEFORE_NAMESPACE();
#endif
#include "kernels/cpu/attention_backward-inl.h"
#if HWY_TARGET == HWY_AVX3
namespace troupe::kernels::cpu::HWY_NAMESPACE {
namespace {

struct Bf16Math {
  static constexpr int64_t kPerWord = 2;
  static HWY_INLINE Vector multiply_add(Vector a, Vector b, Vector sum) {
    return Vector{_mm512_dpbf16_ps(sum.raw, reinterpret_cast<__m512bh>(a.raw), reinterpret_cast<__m512bh>(b.raw))};
  }
  // Words of two neighbours, rounded to nearest even.
  static HWY_INLINE Vector pair(Vector low, Vector high) {
    alignas(64) static constexpr uint16_t kInterleave[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                             21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                             11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high.raw, low.raw));
    return Vector{_mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_load_si512(kInterleave), both))};
  }
  static HWY_INLINE void store_half(Vector from, bf16* to) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(from.raw)));
  }
};

}  // namespace

AttentionEngine engine_bf16() { return make_engine<bf16, Bf16Math>(); }

}  // namespace troupe::kernels::cpu::HWY_NAMESPACE
#endif
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::kernels::cpu {

#if HWY_TARGETS & HWY_AVX3
namespace N_AVX3 {
AttentionEngine engine_bf16();
}
bool has_attention_engine_bf16(int64_t d) { return d % 2 == 0 && has_bf16_dot(); }
AttentionEngine attention_engine_bf16() { return N_AVX3::engine_bf16(); }
#else
bool has_attention_engine_bf16(int64_t) { return false; }
AttentionEngine attention_engine_bf16() { return attention_engine_bf16_in_f32(); }
#endif

}  // namespace troupe::kernels::cpu
#endif
