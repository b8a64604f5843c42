// What the tokenizers' files have in common: tokenizer.toml, which says what a folder holds, base64, and
// hashing for fingerprints.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace troupe::data {

// tokenizer.toml. Written as
//   format = 1
//   kind = "bpe"
//   vocabulary = "tokenizer.tiktoken"      # file name, beside this file; none for "bytes"
//   vocabulary_size = 32768
//   fingerprint = "0123456789abcdef"
//   pattern = "gpt2"                       # BPE only, as are the special tokens
//   [special_tokens]
//   "<|endoftext|>" = 32767
struct TokenizerHeader {
  std::string kind = {};
  std::string vocabulary = {};
  int64_t vocabulary_size = 0;
  std::string fingerprint = {};
  std::string pattern = {};
  std::map<std::string, int32_t> special_tokens = {};
};

// Errors: damaged, with the line that is wrong.
Result<TokenizerHeader> parse_header(std::string_view toml, const std::string& where);
std::string format_header(const TokenizerHeader& header);

// Replaces the file at once: a reader sees the old content or all of the new. Makes missing folders.
Status write_file(const std::filesystem::path& path, std::string_view content);

std::string to_base64(std::string_view bytes);

// Appends the bytes; false when `text` is not base64.
bool from_base64(std::string_view text, std::string& bytes);

// Hashes strings with their lengths, so that no two sequences of strings are the same input.
class Fingerprint {
 public:
  Fingerprint();
  ~Fingerprint();
  Fingerprint(const Fingerprint&) = delete;
  Fingerprint& operator=(const Fingerprint&) = delete;

  void add(std::string_view bytes);
  std::string hex() const;  // 16 digits

 private:
  void* state_;  // XXH3_state_t
};

}  // namespace troupe::data
