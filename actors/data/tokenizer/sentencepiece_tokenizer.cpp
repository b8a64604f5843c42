#include "actors/data/tokenizer/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include "actors/data/tokenizer/tokenizer_files.h"
#include "actors/data/tokenizer/utf8.h"
#include "runtime/base/check.h"

namespace troupe::data {
namespace {

constexpr std::string_view kSpaceSign = "\xE2\x96\x81";  // U+2581
constexpr size_t kStretch = 32 << 10;  // bytes: the library's heaps stay in cache, and the text can be shared out

// Appended to a serialised model, this is merged into its normalizer_spec (field 3): add_dummy_prefix
// (field 3) = false. Protocol buffers merge a message that comes twice.
constexpr std::string_view kNoSpaceBefore("\x1A\x02\x18\x00", 4);

static_assert(sizeof(int) == sizeof(int32_t));

}  // namespace

struct SentencePieceTokenizer::Processors {
  sentencepiece::SentencePieceProcessor first;  // as the model says
  sentencepiece::SentencePieceProcessor later;  // without the space before the text
};

SentencePieceTokenizer::SentencePieceTokenizer() : processors_(std::make_unique<Processors>()) {}
SentencePieceTokenizer::~SentencePieceTokenizer() = default;

Result<std::unique_ptr<SentencePieceTokenizer>> SentencePieceTokenizer::parse(std::string model) {
  std::unique_ptr<SentencePieceTokenizer> tokenizer(new SentencePieceTokenizer);
  tokenizer->model_ = std::move(model);
  TROUPE_TRY(tokenizer->learn_model());
  return tokenizer;
}

Status SentencePieceTokenizer::learn_model() {
  auto& [first, later] = *processors_;
  for (const auto& status :
       {first.LoadFromSerializedProto(model_), later.LoadFromSerializedProto(model_ + std::string(kNoSpaceBefore))}) {
    if (!status.ok()) return damaged("not a SentencePiece model that this library reads: {}", status.error_message());
  }
  const int32_t size = first.GetPieceSize();
  bytes_.resize(static_cast<size_t>(size));
  std::vector<int32_t> byte_ids(256, -1);
  bool newline_in_piece = false;
  for (int32_t id = 0; id < size; ++id) {
    const std::string& piece = first.IdToPiece(id);
    std::string& bytes = bytes_[static_cast<size_t>(id)];
    if (first.IsControl(id)) continue;
    if (first.IsUnknown(id)) {
      unknown_ = id;
      bytes = " \xE2\x81\x87 ";  // what the library shows for it
    } else if (first.IsByte(id)) {
      const int byte = std::stoi(piece.substr(1, 4), nullptr, 16);  // "<0x0A>"
      bytes = static_cast<char>(byte);
      byte_ids[static_cast<size_t>(byte)] = id;
    } else {
      for (size_t at = 0; at < piece.size();) {
        const bool space = std::string_view(piece).substr(at).starts_with(kSpaceSign);
        bytes += space ? ' ' : piece[at];
        at += space ? kSpaceSign.size() : 1;
      }
      newline_in_piece |= bytes.find('\n') != std::string::npos;
    }
  }
  if (std::find(byte_ids.begin(), byte_ids.end(), -1) == byte_ids.end()) byte_ids_ = std::move(byte_ids);
  if (first.eos_id() >= 0) end_of_text_ = first.eos_id();
  const auto probe = first.EncodeAsPieces("a");
  adds_space_ = !probe.empty() && probe[0].starts_with(kSpaceSign);
  // A newline is its own token and no normalisation reaches over it: then it separates.
  const std::string spaced = "  a \n  b\n\n c  \n";
  std::string back;
  for (const int id : later.EncodeAsIds(spaced)) back += bytes_[static_cast<size_t>(id)];
  cuts_at_newline_ = !byte_ids_.empty() && !newline_in_piece && back == spaced &&
                     later.EncodeAsIds("\n") == std::vector<int>{byte_ids_['\n']};
  return {};
}

std::vector<std::string_view> SentencePieceTokenizer::stretches(std::string_view text) const {
  std::vector<std::string_view> result;
  while (cuts_at_newline_ && text.size() > kStretch) {
    const size_t newline = text.find('\n', kStretch);
    if (newline == std::string_view::npos) break;
    result.push_back(text.substr(0, newline + 1));
    text.remove_prefix(newline + 1);
  }
  result.push_back(text);
  return result;
}

void SentencePieceTokenizer::encode_stretch(std::string_view text, bool first, std::vector<int32_t>& ids) const {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  const auto* end = p + text.size();
  std::vector<int> found;
  while (p < end) {
    const auto* valid = p;
    while (valid < end) {
      const CodePoint character = decode_utf8(valid, end);
      if (!character.valid && !byte_ids_.empty()) break;
      valid += character.length;
    }
    if (valid > p) {
      const auto& processor = first ? processors_->first : processors_->later;
      const auto status = processor.Encode({reinterpret_cast<const char*>(p), static_cast<size_t>(valid - p)}, &found);
      TROUPE_CHECK(status.ok(), "SentencePiece: {}", status.error_message());
      ids.insert(ids.end(), found.begin(), found.end());
      p = valid;
    } else {
      ids.push_back(byte_ids_[*p++]);
    }
    first = false;
  }
}

std::vector<int32_t> SentencePieceTokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  bool first = true;
  for (const std::string_view stretch : stretches(text)) {
    encode_stretch(stretch, first, ids);
    first = false;
  }
  return ids;
}

std::vector<int32_t> SentencePieceTokenizer::encode_parallel(std::string_view text, ThreadPool& pool) const {
  const auto parts = stretches(text);
  std::vector<std::vector<int32_t>> found(parts.size());
  pool.parallel_for(static_cast<int64_t>(parts.size()), [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    encode_stretch(parts[at], at == 0, found[at]);
  });
  std::vector<int32_t> ids;
  for (const auto& part : found) ids.insert(ids.end(), part.begin(), part.end());
  return ids;
}

std::string SentencePieceTokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  bool begun = false;
  for (const int32_t id : ids) {
    std::string_view bytes = bytes_of(id);
    if (bytes.empty()) continue;
    if (!begun && adds_space_ && bytes[0] == ' ' && id != unknown_) bytes.remove_prefix(1);
    begun = true;
    text += bytes;
  }
  return text;
}

std::string_view SentencePieceTokenizer::bytes_of(int32_t id) const {
  TROUPE_CHECK(id >= 0 && id < vocabulary_size(), "token id {} is not below {}", id, vocabulary_size());
  return bytes_[static_cast<size_t>(id)];
}

std::optional<int32_t> SentencePieceTokenizer::special_token(std::string_view name) const {
  const auto& processor = processors_->first;
  const int id = processor.PieceToId(name);
  if (processor.IdToPiece(id) == name && processor.IsControl(id)) return id;
  return std::nullopt;
}

std::string SentencePieceTokenizer::description() const {
  return fmt::format("SentencePiece, {} tokens", bytes_.size());
}

std::string SentencePieceTokenizer::fingerprint() const {
  Fingerprint hash;
  hash.add("sentencepiece");
  hash.add(model_);
  return hash.hex();
}

Status SentencePieceTokenizer::save(const std::filesystem::path& folder) const {
  TROUPE_TRY(write_file(folder / "tokenizer.model", model_));
  return write_file(folder / "tokenizer.toml", format_header({.kind = "sentencepiece",
                                                              .vocabulary = "tokenizer.model",
                                                              .vocabulary_size = vocabulary_size(),
                                                              .fingerprint = fingerprint()}));
}

}  // namespace troupe::data
