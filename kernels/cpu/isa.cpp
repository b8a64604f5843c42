#include "kernels/cpu/isa.h"

#include <hwy/highway.h>

#include <atomic>
#include <cstdlib>

namespace troupe::kernels::cpu {
namespace {

// What the process may use is a fact of the process; asking the CPU again costs microseconds in a virtual
// machine, and every product asks.
enum class Known : int { unasked, no, yes };
std::atomic<Known> bf16_dot{Known::unasked};

}  // namespace

Result<void> cap_isa(std::string_view name) {
  int64_t disabled = 0;
  if (name == "avx2") disabled = HWY_AVX3 | HWY_AVX3_DL;
  else if (name == "portable") disabled = HWY_AVX3 | HWY_AVX3_DL | HWY_AVX2 | HWY_SSE4 | HWY_SSSE3;
  else if (!name.empty() && name != "avx512")
    return usage_error("TROUPE_MAX_ISA = \"{}\"; known: portable, avx2, avx512", name);
  // Not DisableTargets: Highway's next SupportedTargets() would choose from all targets again.
  hwy::SetSupportedTargetsForTest(0);
  if (disabled != 0) hwy::SetSupportedTargetsForTest(hwy::SupportedTargets() & ~disabled);
  bf16_dot = Known::unasked;
  return {};
}

Result<void> cap_isa_from_environment() {
  static const Result<void> once = [] {
    const char* cap = std::getenv("TROUPE_MAX_ISA");
    return cap_isa(cap ? cap : "");
  }();
  return once;
}

bool has_bf16_dot() {
  Known known = bf16_dot.load(std::memory_order_relaxed);
  if (known == Known::unasked) {
    known = Known::no;
#if defined(__x86_64__)
    if ((hwy::SupportedTargets() & HWY_AVX3) != 0 && __builtin_cpu_supports("avx512bf16")) known = Known::yes;
#endif
    bf16_dot.store(known, std::memory_order_relaxed);
  }
  return known == Known::yes;
}

std::string isa_name() {
  const auto targets = hwy::SupportedTargets();
  if (targets & HWY_AVX3) return has_bf16_dot() ? "avx512 + bf16" : "avx512";
  return targets & HWY_AVX2 ? "avx2" : "portable";
}

}  // namespace troupe::kernels::cpu
