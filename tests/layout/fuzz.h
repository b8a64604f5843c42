#pragma once
#include "tests/layout/run_case.h"

namespace troupe::layout {

// "": the layout computes what one rank does. Else the difference, which may be a collective that takes too long.
std::string try_case(const Case& of, std::chrono::milliseconds deadline = std::chrono::seconds(60));
// The same of a drawn case; a failure is of the simplest case that was found to fail, with the line that repeats it.
std::string try_seed(uint64_t seed, DType compute = DType::f64);

}  // namespace troupe::layout
