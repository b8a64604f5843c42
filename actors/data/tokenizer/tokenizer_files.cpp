#include "actors/data/tokenizer/tokenizer_files.h"

#include <toml++/toml.h>
#include <xxhash.h>

#include <array>

#include "runtime/base/file.h"
#include "runtime/base/json.h"

namespace troupe::data {
namespace {

constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr auto kBase64Value = [] {
  std::array<int8_t, 256> value{};
  value.fill(-1);
  for (size_t i = 0; i < kBase64.size(); ++i) value[static_cast<unsigned char>(kBase64[i])] = static_cast<int8_t>(i);
  return value;
}();

std::string toml_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

}  // namespace

Result<TokenizerHeader> parse_header(std::string_view text, const std::string& where) {
  TokenizerHeader header;
  try {
    const toml::table table = toml::parse(text);
    const int64_t format = table["format"].value_or<int64_t>(0);
    if (format != 1) return damaged("{}: format = {}, but this program reads format 1", where, format);
    const auto text_of = [&table](std::string_view key) { return table[key].value_or<std::string>(""); };
    header.kind = text_of("kind");
    header.vocabulary = text_of("vocabulary");
    header.vocabulary_size = table["vocabulary_size"].value_or<int64_t>(0);
    header.fingerprint = text_of("fingerprint");
    header.pattern = text_of("pattern");
    if (header.vocabulary.find('/') != std::string::npos) {
      return damaged("{}: vocabulary = \"{}\" must be a file name without a folder", where, header.vocabulary);
    }
    if (const toml::table* special = table["special_tokens"].as_table()) {
      for (const auto& [name, id] : *special) {
        const auto value = id.value<int64_t>();
        if (!value || *value < 0 || *value > INT32_MAX - 1) {
          return damaged("{}: special token \"{}\" needs an id ≥ 0", where, std::string_view(name.str()));
        }
        header.special_tokens.emplace(name.str(), static_cast<int32_t>(*value));
      }
    }
  } catch (const toml::parse_error& error) {
    return damaged("{}:{}: {}", where, error.source().begin.line, error.description());
  }
  return header;
}

std::string format_header(const TokenizerHeader& header) {
  std::string out = fmt::format("format = 1\nkind = {}\n", toml_string(header.kind));
  if (!header.vocabulary.empty()) out += fmt::format("vocabulary = {}\n", toml_string(header.vocabulary));
  out +=
      fmt::format("vocabulary_size = {}\nfingerprint = {}\n", header.vocabulary_size, toml_string(header.fingerprint));
  if (!header.pattern.empty()) out += fmt::format("pattern = {}\n", toml_string(header.pattern));
  if (!header.special_tokens.empty()) {
    out += "\n[special_tokens]\n";
    for (const auto& [name, id] : header.special_tokens) out += fmt::format("{} = {}\n", toml_string(name), id);
  }
  return out;
}

Status write_file(const std::filesystem::path& path, std::string_view content) {
  PosixFileSystem files;
  const std::string name = path.string();
  TROUPE_TRY(create_directories(files, parent_directory(name)));
  return write_file_atomically(files, name, content);
}

std::string to_base64(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const auto byte = [&](size_t j) -> uint32_t {
      return i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0;
    };
    const uint32_t group = byte(0) << 16 | byte(1) << 8 | byte(2);
    const size_t digits = std::min<size_t>(3, bytes.size() - i) + 1;
    for (size_t j = 0; j < 4; ++j) out += j < digits ? kBase64[group >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

bool from_base64(std::string_view text, std::string& bytes) {
  if (text.size() % 4 != 0) return false;
  size_t padding = 0;
  while (padding < 2 && !text.empty() && text.back() == '=') text.remove_suffix(1), ++padding;
  uint32_t group = 0;
  int bits = 0;
  for (const char c : text) {
    const int value = kBase64Value[static_cast<unsigned char>(c)];
    if (value < 0) return false;
    group = group << 6 | static_cast<uint32_t>(value);
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes += static_cast<char>(group >> bits & 0xFF);
    }
  }
  return (group & ((1u << bits) - 1)) == 0;
}

Fingerprint::Fingerprint() : state_(XXH3_createState()) { XXH3_64bits_reset(static_cast<XXH3_state_t*>(state_)); }
Fingerprint::~Fingerprint() { XXH3_freeState(static_cast<XXH3_state_t*>(state_)); }

void Fingerprint::add(std::string_view bytes) {
  const uint64_t length = bytes.size();
  XXH3_64bits_update(static_cast<XXH3_state_t*>(state_), &length, sizeof length);
  XXH3_64bits_update(static_cast<XXH3_state_t*>(state_), bytes.data(), bytes.size());
}

std::string Fingerprint::hex() const {
  return fmt::format("{:016x}", XXH3_64bits_digest(static_cast<const XXH3_state_t*>(state_)));
}

}  // namespace troupe::data
