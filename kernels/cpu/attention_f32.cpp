// Attention's fast path in f32 arithmetic, for f32 and bf16 tensors: one build for each instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_f32.cpp"
#include <hwy/foreach_target.h>
// After it, as Highway asks.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "kernels/cpu/attention_job.h"

HWY_BEFORE_NAMESPACE();
#include "kernels/cpu/attention_backward-inl.h"
namespace troupe::kernels::cpu::HWY_NAMESPACE {

AttentionEngine engine_f32() { return make_engine<float, F32Math>(); }
AttentionEngine engine_bf16_in_f32() { return make_engine<bf16, F32Math>(); }

}  // namespace troupe::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::kernels::cpu {

HWY_EXPORT(engine_f32);
HWY_EXPORT(engine_bf16_in_f32);

AttentionEngine attention_engine_f32() { return HWY_DYNAMIC_DISPATCH(engine_f32)(); }
AttentionEngine attention_engine_bf16_in_f32() { return HWY_DYNAMIC_DISPATCH(engine_bf16_in_f32)(); }

}  // namespace troupe::kernels::cpu
#endif
