// Measures what messages between actors of this process cost, on one thread and between threads.
#pragma once
#include <cstdint>

#include "launcher/commands/figures.h"

namespace troupe::launcher {

// Two actors throw a ball to and fro. Seconds a message. All of these block.
double ping_pong(int64_t throws, int loops);
// Four actors tell a fifth. Messages a second.
double fan_in(int64_t messages_of_each, int loops);

// These and the rest, into `figures`. `scale`: of the number of messages.
Status measure_local_actors(double scale, Figures& figures);

}  // namespace troupe::launcher
