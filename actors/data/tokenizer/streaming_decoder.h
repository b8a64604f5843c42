// Turns ids into text one at a time, for a terminal or a stream: gives out whole UTF-8 characters only,
// and holds back the bytes of one that has begun. All bytes come out in the end, invalid ones too.
#pragma once
#include <string>

#include "actors/data/tokenizer/tokenizer.h"

namespace troupe::data {

// Length of the longest prefix of `bytes` that does not end inside a UTF-8 character: at most three
// bytes shorter than `bytes`.
size_t complete_utf8_prefix(std::string_view bytes);

class StreamingDecoder {
 public:
  // REQUIRES: the tokenizer outlives this.
  explicit StreamingDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // The characters that `id` completes; may be empty.
  std::string push(int32_t id);

  // What is still held back, as it is.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  std::string held_;
};

}  // namespace troupe::data
