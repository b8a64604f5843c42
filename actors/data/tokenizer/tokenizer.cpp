#include "actors/data/tokenizer/tokenizer.h"

#include "actors/data/tokenizer/bpe_tokenizer.h"
#include "actors/data/tokenizer/byte_tokenizer.h"
#include "actors/data/tokenizer/character_tokenizer.h"
#include "actors/data/tokenizer/sentencepiece_tokenizer.h"
#include "actors/data/tokenizer/tokenizer_files.h"
#include "runtime/base/file.h"

namespace troupe::data {

std::vector<int32_t> Tokenizer::encode_parallel(std::string_view text, ThreadPool&) const { return encode(text); }

Status Tokenizer::can_encode(std::string_view) const { return {}; }

Result<std::vector<int32_t>> Tokenizer::try_encode(std::string_view text) const {
  TROUPE_TRY(can_encode(text));
  return encode(text);
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) text += bytes_of(id);
  return text;
}

namespace {

using Path = std::filesystem::path;
using Loaded = Result<std::unique_ptr<Tokenizer>>;

template <class T>
Loaded widen(Result<std::unique_ptr<T>> result, const std::string& where) {
  if (!result.ok()) return std::move(result).error().within(where);
  return std::unique_ptr<Tokenizer>(*std::move(result));
}

// "base64 rank" on the first line.
bool looks_like_ranks(std::string_view content) {
  const std::string_view line = content.substr(0, content.find('\n'));
  const size_t space = line.find(' ');
  std::string bytes;
  return space != std::string_view::npos && space > 0 && from_base64(line.substr(0, space), bytes) &&
         line.find_first_not_of("0123456789\r", space + 1) == std::string_view::npos;
}

// A serialised ModelProto begins with its first piece: field 1, length-delimited.
bool looks_like_sentencepiece(std::string_view content) { return content.size() > 16 && content[0] == '\x0A'; }

Loaded load_with_header(const Path& header_path) {
  const std::string where = header_path.string();
  const std::string text = TROUPE_TRY(read_file(where));
  const TokenizerHeader header = TROUPE_TRY(parse_header(text, where));
  std::string content;
  std::string vocabulary_name = where;
  if (header.kind != "bytes") {
    if (header.vocabulary.empty()) return damaged("{}: vocabulary = \"FILE\" is missing", where);
    const Path vocabulary = header_path.parent_path() / header.vocabulary;
    vocabulary_name = vocabulary.string();
    auto read = read_file(vocabulary_name);
    if (!read.ok()) return damaged("{}: its vocabulary cannot be read: {}", where, read.error().message());
    content = *std::move(read);
  }
  const auto load = [&]() -> Loaded {
    if (header.kind == "bytes") return std::unique_ptr<Tokenizer>(std::make_unique<ByteTokenizer>());
    if (header.kind == "characters") return widen(CharacterTokenizer::parse(content), vocabulary_name);
    if (header.kind == "sentencepiece") {
      return widen(SentencePieceTokenizer::parse(std::move(content)), vocabulary_name);
    }
    if (header.kind == "bpe") {
      return widen(BpeTokenizer::from_ranks(content, header.special_tokens, header.pattern), vocabulary_name);
    }
    return damaged("{}: kind = \"{}\" is not bpe, sentencepiece, characters or bytes", where, header.kind);
  };
  auto tokenizer = load();
  if (!tokenizer.ok()) return tokenizer;
  const auto& loaded = **tokenizer;
  if (header.vocabulary_size != 0 && header.vocabulary_size != loaded.vocabulary_size()) {
    return damaged("{}: holds {} tokens, but {} says vocabulary_size = {}", vocabulary_name, loaded.vocabulary_size(),
                   where, header.vocabulary_size);
  }
  if (!header.fingerprint.empty() && header.fingerprint != loaded.fingerprint()) {
    return damaged("{}: its fingerprint is {}, but {} says {}: one of the two was changed", vocabulary_name,
                   loaded.fingerprint(), where, header.fingerprint);
  }
  return tokenizer;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::string& spec, const DocumentSource& training_text) {
  if (spec == "bytes") return std::unique_ptr<Tokenizer>(std::make_unique<ByteTokenizer>());
  if (spec == "characters") {
    if (!training_text)
      return usage_error("tokenizer \"characters\" is learnt from a training text, and there is none here");
    return widen(CharacterTokenizer::learn(training_text), "tokenizer \"characters\"");
  }
  std::error_code error;
  const Path path(spec);
  if (std::filesystem::is_directory(path, error)) {
    const Path header = path / "tokenizer.toml";
    if (!std::filesystem::exists(header, error)) return usage_error("{}: no tokenizer.toml in this folder", spec);
    return load_with_header(header);
  }
  if (!std::filesystem::exists(path, error)) {
    return usage_error("tokenizer \"{}\": no such file or folder (nor \"bytes\" or \"characters\")", spec);
  }
  if (path.extension() == ".toml") return load_with_header(path);
  std::string content = TROUPE_TRY(read_file(spec));
  if (content.starts_with(CharacterTokenizer::kMagic)) return widen(CharacterTokenizer::parse(content), spec);
  if (looks_like_ranks(content)) {
    Path header = path;
    header.replace_extension(".toml");
    if (std::filesystem::exists(header, error)) return load_with_header(header);
    return widen(BpeTokenizer::from_ranks(content), spec);
  }
  if (looks_like_sentencepiece(content)) return widen(SentencePieceTokenizer::parse(std::move(content)), spec);
  return usage_error(
      "{}: not a tokenizer: neither a tiktoken rank file, a SentencePiece model nor a character vocabulary", spec);
}

}  // namespace troupe::data
