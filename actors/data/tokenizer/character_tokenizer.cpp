#include "actors/data/tokenizer/character_tokenizer.h"

#include <algorithm>
#include <charconv>

#include "actors/data/tokenizer/tokenizer_files.h"
#include "actors/data/tokenizer/utf8.h"
#include "runtime/base/check.h"

namespace troupe::data {
namespace {

// Calls visit(character, offset) for each character of `text` until it returns false.
template <class Visit>
void each_character(std::string_view text, uint32_t invalid_base, Visit visit) {
  const auto* begin = reinterpret_cast<const unsigned char*>(text.data());
  const auto* end = begin + text.size();
  for (const auto* p = begin; p < end;) {
    const CodePoint character = decode_utf8(p, end);
    const uint32_t value = character.valid ? character.value : invalid_base + character.value;
    if (!visit(value, static_cast<size_t>(p - begin))) return;
    p += character.length;
  }
}

}  // namespace

CharacterTokenizer::CharacterTokenizer(std::vector<uint32_t> characters) : characters_(std::move(characters)) {
  ascii_ids_.fill(-1);
  for (size_t i = 0; i < characters_.size(); ++i) {
    const uint32_t character = characters_[i];
    if (character < 128) {
      ascii_ids_[character] = static_cast<int32_t>(i);
    } else {
      other_ids_.emplace(character, static_cast<int32_t>(i));
    }
    std::string& bytes = bytes_.emplace_back();
    if (character >= kInvalidByte) {
      bytes += static_cast<char>(character - kInvalidByte);
    } else {
      append_utf8(bytes, character);
    }
  }
}

Result<std::unique_ptr<CharacterTokenizer>> CharacterTokenizer::learn(const DocumentSource& documents) {
  std::vector<bool> seen(kInvalidByte + 256);
  while (const auto document = documents()) {
    each_character(*document, kInvalidByte, [&seen](uint32_t character, size_t) {
      seen[character] = true;
      return true;
    });
  }
  std::vector<uint32_t> characters;
  for (uint32_t character = 0; character < seen.size(); ++character) {
    if (seen[character]) characters.push_back(character);
  }
  if (characters.empty()) return usage_error("a character vocabulary cannot be learnt from an empty text");
  return std::unique_ptr<CharacterTokenizer>(new CharacterTokenizer(std::move(characters)));
}

Result<std::unique_ptr<CharacterTokenizer>> CharacterTokenizer::parse(std::string_view content) {
  if (!content.starts_with(kMagic)) return damaged("line 1 is not \"troupe characters 1\"");
  content.remove_prefix(kMagic.size());
  std::vector<uint32_t> characters;
  for (size_t line_number = 2; !content.empty(); ++line_number) {
    const size_t newline = content.find('\n');
    const std::string_view line = content.substr(0, newline);
    content.remove_prefix(newline == std::string_view::npos ? content.size() : newline + 1);
    uint32_t value = 0;
    const char* end = line.data() + line.size();
    const bool is_byte = line.starts_with("0x");
    const bool is_code_point = line.starts_with("U+");
    if ((!is_byte && !is_code_point) || std::from_chars(line.data() + 2, end, value, 16).ptr != end ||
        (is_byte && (value < 0x80 || value > 0xFF)) ||
        (is_code_point && (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)))) {
      return damaged("line {} is neither \"U+\" with a code point nor \"0x\" with a byte from 80 to FF", line_number);
    }
    if (is_byte) value += kInvalidByte;
    if (!characters.empty() && characters.back() >= value) return damaged("line {} is out of order", line_number);
    characters.push_back(value);
  }
  if (characters.empty()) return damaged("the vocabulary is empty");
  return std::unique_ptr<CharacterTokenizer>(new CharacterTokenizer(std::move(characters)));
}

int32_t CharacterTokenizer::id_of(uint32_t character) const {
  if (character < 128) return ascii_ids_[character];
  const auto found = other_ids_.find(character);
  return found == other_ids_.end() ? -1 : found->second;
}

std::vector<int32_t> CharacterTokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size());
  each_character(text, kInvalidByte, [&](uint32_t character, size_t) {
    ids.push_back(id_of(character));
    return ids.back() >= 0;
  });
  if (!ids.empty() && ids.back() < 0) {
    const Status status = can_encode(text);
    TROUPE_CHECK(status.ok(), "{}", status.error().message());
  }
  return ids;
}

Status CharacterTokenizer::can_encode(std::string_view text) const {
  Status status;
  each_character(text, kInvalidByte, [&](uint32_t character, size_t offset) {
    if (id_of(character) >= 0) return true;
    if (character >= kInvalidByte) {
      status = usage_error("byte 0x{:02X} at offset {} (not UTF-8) is not in the character vocabulary of {}",
                           character - kInvalidByte, offset, characters_.size());
    } else {
      std::string shown;
      if (character > 0x20 && character != 0x7F) append_utf8(shown += " '", character), shown += '\'';
      status = usage_error("character U+{:04X}{} at byte {} is not in the character vocabulary of {}", character, shown,
                           offset, characters_.size());
    }
    return false;
  });
  return status;
}

std::string_view CharacterTokenizer::bytes_of(int32_t id) const {
  TROUPE_CHECK(id >= 0 && id < vocabulary_size(), "token id {} is not below {}", id, vocabulary_size());
  return bytes_[static_cast<size_t>(id)];
}

std::string CharacterTokenizer::description() const { return fmt::format("characters, {} tokens", bytes_.size()); }

std::string CharacterTokenizer::fingerprint() const {
  Fingerprint hash;
  hash.add("characters");
  for (const std::string& bytes : bytes_) hash.add(bytes);
  return hash.hex();
}

Status CharacterTokenizer::save(const std::filesystem::path& folder) const {
  std::string content(kMagic);
  for (const uint32_t character : characters_) {
    content += character >= kInvalidByte ? fmt::format("0x{:02X}\n", character - kInvalidByte)
                                         : fmt::format("U+{:04X}\n", character);
  }
  TROUPE_TRY(write_file(folder / "tokenizer.characters", content));
  return write_file(folder / "tokenizer.toml", format_header({.kind = "characters",
                                                              .vocabulary = "tokenizer.characters",
                                                              .vocabulary_size = vocabulary_size(),
                                                              .fingerprint = fingerprint()}));
}

}  // namespace troupe::data
