// What several commands share.
#pragma once
#include <algorithm>
#include <thread>

namespace troupe::launcher {

// `asked`, or the machine's cores where it is 0.
inline int threads_or_default(int asked) {
  return asked > 0 ? asked : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace troupe::launcher
