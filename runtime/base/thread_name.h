// Names of threads, as ps, top, debuggers and /proc/PID/task/TID/comm show them: "rank" and "pool" compute, "loop" and
// "comm" are the control plane. At most 15 characters.
#pragma once
#include <pthread.h>

namespace troupe {

inline void name_this_thread(const char* name) { pthread_setname_np(pthread_self(), name); }

}  // namespace troupe
