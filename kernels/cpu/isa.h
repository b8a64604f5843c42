// Which instruction sets the CPU's kernels may use. The best that the machine has, unless the environment
// variable TROUPE_MAX_ISA = portable | avx2 | avx512 caps it: results of an older machine, on this one.
#pragma once
#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace troupe::kernels::cpu {

// For the whole process, from here on; "" means no cap. Not thread-safe: call it before kernels run.
// Errors: usage, for any other name.
Result<void> cap_isa(std::string_view name);
// Applies TROUPE_MAX_ISA, the first time that it is called; make_cpu_device does so. Thread-safe.
Result<void> cap_isa_from_environment();

bool has_bf16_dot();     // AVX-512 BF16 (vdpbf16ps) may be used
std::string isa_name();  // "avx512 + bf16", "avx512", "avx2", "portable"

}  // namespace troupe::kernels::cpu
