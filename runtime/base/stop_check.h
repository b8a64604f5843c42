// How work that takes long hears that nobody wants it any more: it asks now and then.
#pragma once
#include <functional>

namespace troupe {

// True: stop. From the thread that works; cheap. Empty: never.
using StopCheck = std::function<bool()>;

inline bool is_stopped(const StopCheck& stop) { return stop && stop(); }

}  // namespace troupe
