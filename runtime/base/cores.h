// The cores that this process may use.
#pragma once

namespace troupe {

// How many this thread may run on.
int usable_cores();

// Of `ranks` processes with `threads` threads each that together have exactly as much work as there are cores: keeps
// this thread, and those it starts from now on, to the cores of `rank`. False, and nothing is changed, where the
// numbers do not match: with cores to spare, or too few, the operating system knows better, and other programs'
// threads, too.
bool keep_to_own_cores(int rank, int ranks, int threads);

}  // namespace troupe
