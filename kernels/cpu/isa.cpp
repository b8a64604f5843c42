#include "kernels/cpu/isa.h"

#include <hwy/highway.h>

#include <cstdlib>

namespace troupe::kernels::cpu {

Result<void> cap_isa(std::string_view name) {
  if (name.empty() || name == "avx512") hwy::DisableTargets(0);
  else if (name == "avx2") hwy::DisableTargets(HWY_AVX3 | HWY_AVX3_DL);
  else if (name == "portable") hwy::DisableTargets(HWY_AVX3 | HWY_AVX3_DL | HWY_AVX2 | HWY_SSE4 | HWY_SSSE3);
  else return usage_error("TROUPE_MAX_ISA = \"{}\"; known: portable, avx2, avx512", name);
  return {};
}

Result<void> cap_isa_from_environment() {
  const char* cap = std::getenv("TROUPE_MAX_ISA");
  return cap_isa(cap ? cap : "");
}

bool has_bf16_dot() {
#if defined(__x86_64__)
  return (hwy::SupportedTargets() & HWY_AVX3) != 0 && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

std::string isa_name() {
  const auto targets = hwy::SupportedTargets();
  if (targets & HWY_AVX3) return has_bf16_dot() ? "avx512 + bf16" : "avx512";
  return targets & HWY_AVX2 ? "avx2" : "portable";
}

}  // namespace troupe::kernels::cpu
