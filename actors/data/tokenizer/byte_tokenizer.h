// The vocabulary "bytes": ids 0–255 are the bytes, 256 ends a document.
#pragma once
#include "actors/data/tokenizer/tokenizer.h"

namespace troupe::data {

class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr int32_t kEndOfText = 256;

  ByteTokenizer();

  std::vector<int32_t> encode(std::string_view text) const override;
  std::string_view bytes_of(int32_t id) const override;
  int32_t vocabulary_size() const override { return 257; }
  std::optional<int32_t> end_of_text() const override { return kEndOfText; }
  std::optional<int32_t> special_token(std::string_view name) const override;
  std::string_view kind() const override { return "bytes"; }
  std::string description() const override { return "bytes, 257 tokens"; }
  std::string fingerprint() const override;
  Status save(const std::filesystem::path& folder) const override;

 private:
  std::string all_bytes_;
};

}  // namespace troupe::data
