// One id per character, in order of code point; bytes that are not UTF-8 are characters of their own,
// after all the others. The vocabulary is what its text held, nothing more, so a character that the text
// did not hold has no id: can_encode() and try_encode() say which and where.
//
// File: tokenizer.characters, a line "troupe characters 1", then one line per id, "U+0041" for a code
// point or "0xFF" for a byte that is not UTF-8.
#pragma once
#include <array>
#include <unordered_map>

#include "actors/data/tokenizer/tokenizer.h"

namespace troupe::data {

class CharacterTokenizer final : public Tokenizer {
 public:
  // Learns the vocabulary. Errors: usage, when the text is empty.
  static Result<std::unique_ptr<CharacterTokenizer>> learn(const DocumentSource& documents);

  // From the content of a vocabulary file. Errors: damaged.
  static Result<std::unique_ptr<CharacterTokenizer>> parse(std::string_view content);

  // First line of a vocabulary file.
  static constexpr std::string_view kMagic = "troupe characters 1\n";

  std::vector<int32_t> encode(std::string_view text) const override;
  Status can_encode(std::string_view text) const override;
  std::string_view bytes_of(int32_t id) const override;
  int32_t vocabulary_size() const override { return static_cast<int32_t>(characters_.size()); }
  std::string_view kind() const override { return "characters"; }
  std::string description() const override;
  std::string fingerprint() const override;
  Status save(const std::filesystem::path& folder) const override;

 private:
  // A code point, or kInvalidByte + byte.
  static constexpr uint32_t kInvalidByte = 0x110000;

  explicit CharacterTokenizer(std::vector<uint32_t> characters);
  int32_t id_of(uint32_t character) const;

  std::vector<uint32_t> characters_;  // ascending
  std::vector<std::string> bytes_;
  std::array<int32_t, 128> ascii_ids_;
  std::unordered_map<uint32_t, int32_t> other_ids_;
};

}  // namespace troupe::data
