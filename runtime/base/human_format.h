// Numbers for people: short, about three digits, with a unit. Not for files that machines read.
#pragma once
#include <cstdint>
#include <string>

namespace troupe {

// 512 B, 1.5 KiB, 120 MiB, 16.0 EiB.
std::string human_bytes(double bytes);
// 950, 1.2K, 34.5M, 405B (10^9), 15.6T, 2.0Q (10^15); from 10^18 on, as a power of ten.
std::string human_count(double count);
// 850us, 120ms, 5.2s, 42s, 1m05s, 2h03m, 3d04h; "?" for what is negative, infinite or no number.
std::string human_duration(double seconds);

}  // namespace troupe
