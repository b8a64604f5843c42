#include "actors/data/tokenizer/streaming_decoder.h"

#include <utility>

namespace troupe::data {

size_t complete_utf8_prefix(std::string_view bytes) {
  // Look back over at most three continuation bytes for a lead that wants more than there is.
  for (size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
    const auto byte = static_cast<unsigned char>(bytes[bytes.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    const size_t wanted = byte >= 0xF0 && byte < 0xF5 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC2 ? 2 : 1;
    return byte < 0xF5 && wanted > back ? bytes.size() - back : bytes.size();
  }
  return bytes.size();
}

std::string StreamingDecoder::push(int32_t id) {
  held_ += tokenizer_.bytes_of(id);
  const size_t whole = complete_utf8_prefix(held_);
  std::string out = held_.substr(0, whole);
  held_.erase(0, whole);
  return out;
}

std::string StreamingDecoder::finish() { return std::exchange(held_, {}); }

}  // namespace troupe::data
