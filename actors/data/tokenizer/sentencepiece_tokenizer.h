// SentencePiece models (.model), by their library: unigram and BPE, such as Llama 2's. Ids equal the
// library's for every UTF-8 text. Invalid UTF-8, which the library would replace, becomes byte tokens
// where the model has them, and the valid stretches between are encoded each on its own.
//
// decode() is exact: it gives back the text's bytes for a model with byte fallback that does not
// normalise (Llama 2), except that U+2581, the models' own sign for a space, comes back as a space; else
// what the model's normalisation made of the text. Control tokens decode to nothing.
#pragma once
#include "actors/data/tokenizer/tokenizer.h"

namespace troupe::data {

class SentencePieceTokenizer final : public Tokenizer {
 public:
  // From the content of a .model file. Errors: damaged.
  static Result<std::unique_ptr<SentencePieceTokenizer>> parse(std::string model);

  ~SentencePieceTokenizer() override;

  std::vector<int32_t> encode(std::string_view text) const override;
  std::vector<int32_t> encode_parallel(std::string_view text, ThreadPool& pool) const override;
  std::string decode(std::span<const int32_t> ids) const override;
  std::string_view bytes_of(int32_t id) const override;
  int32_t vocabulary_size() const override { return static_cast<int32_t>(bytes_.size()); }
  std::optional<int32_t> end_of_text() const override { return end_of_text_; }
  std::optional<int32_t> special_token(std::string_view name) const override;
  std::string_view kind() const override { return "sentencepiece"; }
  std::string description() const override;
  std::string fingerprint() const override;
  Status save(const std::filesystem::path& folder) const override;

 private:
  struct Processors;

  SentencePieceTokenizer();
  Status learn_model();
  std::vector<std::string_view> stretches(std::string_view text) const;
  void encode_stretch(std::string_view text, bool first, std::vector<int32_t>& ids) const;

  std::string model_;  // the file, byte for byte
  std::unique_ptr<Processors> processors_;
  std::vector<std::string> bytes_;
  std::vector<int32_t> byte_ids_;  // [256], or empty without byte fallback
  std::optional<int32_t> end_of_text_;
  int32_t unknown_ = 0;
  bool adds_space_ = false;       // the text is encoded as if a space stood before it
  bool cuts_at_newline_ = false;  // what stands on two sides of a newline is encoded independently
};

}  // namespace troupe::data
