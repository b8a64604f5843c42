// How far apart two words are, for messages that name what was meant.
#pragma once
#include <cstddef>
#include <string_view>

namespace troupe {

// Insertions, deletions, substitutions and swaps of neighbours that turn one into the other (optimal
// string alignment). Cost: the product of the lengths.
size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace troupe
