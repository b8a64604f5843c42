// Stands before every header of Cap'n Proto 0.9, which C++20 compilers else refuse: capnp/blob.h compares a
// const char* with a StringPtr, and the reversed operators of C++20 make that ambiguous.
#pragma once
#include <kj/string.h>

namespace kj {
inline bool operator==(const char* a, StringPtr b) { return StringPtr(a) == b; }
}  // namespace kj
