#include "runtime/base/cores.h"

#include <sched.h>

#include <algorithm>
#include <thread>

namespace troupe {

int usable_cores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return CPU_COUNT(&cores);
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

bool keep_to_own_cores(int rank, int ranks, int threads) {
  cpu_set_t cores, own;
  if (ranks < 2 || sched_getaffinity(0, sizeof(cores), &cores) != 0 || CPU_COUNT(&cores) != ranks * threads)
    return false;
  CPU_ZERO(&own);
  for (int core = 0, index = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &cores)) continue;
    if (index++ / threads == rank) CPU_SET(core, &own);
  }
  return sched_setaffinity(0, sizeof(own), &own) == 0;
}

}  // namespace troupe
