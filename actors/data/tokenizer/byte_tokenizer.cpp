#include "actors/data/tokenizer/byte_tokenizer.h"

#include "actors/data/tokenizer/tokenizer_files.h"
#include "runtime/base/check.h"

namespace troupe::data {
namespace {

constexpr std::string_view kEndOfTextName = "<|endoftext|>";

}  // namespace

ByteTokenizer::ByteTokenizer() {
  for (int byte = 0; byte < 256; ++byte) all_bytes_ += static_cast<char>(byte);
}

std::vector<int32_t> ByteTokenizer::encode(std::string_view text) const {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  return {bytes, bytes + text.size()};
}

std::string_view ByteTokenizer::bytes_of(int32_t id) const {
  TROUPE_CHECK(id >= 0 && id < vocabulary_size(), "token id {} is not below {}", id, vocabulary_size());
  if (id == kEndOfText) return kEndOfTextName;
  return std::string_view(all_bytes_).substr(static_cast<size_t>(id), 1);
}

std::optional<int32_t> ByteTokenizer::special_token(std::string_view name) const {
  if (name == kEndOfTextName) return kEndOfText;
  return std::nullopt;
}

std::string ByteTokenizer::fingerprint() const {
  Fingerprint hash;
  hash.add("bytes");
  return hash.hex();
}

Status ByteTokenizer::save(const std::filesystem::path& folder) const {
  return write_file(folder / "tokenizer.toml",
                    format_header({.kind = "bytes", .vocabulary_size = 257, .fingerprint = fingerprint()}));
}

}  // namespace troupe::data
