#include "actors/data/token_stream.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/base/check.h"

namespace troupe::data {
namespace {

// Bytes of text of tokens [begin, end), id by id.
int64_t bytes_of(const TokenFile& file, int64_t begin, int64_t end, const Tokenizer& tokenizer) {
  constexpr int64_t kAtOnce = 64 * 1024;
  std::vector<int32_t> ids;
  int64_t bytes = 0;
  for (; begin < end; begin += static_cast<int64_t>(ids.size())) {
    ids.resize(static_cast<size_t>(std::min(kAtOnce, end - begin)));
    file.copy(begin, ids);
    for (const int32_t id : ids) bytes += static_cast<int64_t>(tokenizer.bytes_of(id).size());
  }
  return bytes;
}

}  // namespace

TokenStream::TokenStream(std::shared_ptr<const TokenFile> file) : TokenStream(file, 0, file->tokens()) {}

TokenStream::TokenStream(std::shared_ptr<const TokenFile> file, int64_t begin, int64_t end)
    : file_(std::move(file)), begin_(begin), end_(end) {
  TROUPE_CHECK(0 <= begin && begin <= end && end <= file_->tokens(), "tokens {}-{} of {}", begin, end, file_->tokens());
}

void TokenStream::first_visible(int64_t begin, std::span<int32_t> out) const {
  if (out.empty()) return;
  const int64_t window = begin_ + begin;
  const int64_t window_end = window + static_cast<int64_t>(out.size());
  int64_t document = file_->document_of(window);
  for (int64_t position = window; position < window_end; ++document) {
    const int64_t document_end = std::min(file_->document_begin(document + 1), window_end);
    std::fill(out.begin() + (position - window), out.begin() + (document_end - window),
              static_cast<int32_t>(position - window));
    position = document_end;
  }
}

std::pair<TokenStream, TokenStream> TokenStream::split_tail(double fraction) const {
  TROUPE_CHECK(fraction > 0 && fraction < 1, "fraction {}", fraction);
  const int64_t head = static_cast<int64_t>(std::floor(static_cast<double>(size()) * (1 - fraction)));
  return {TokenStream(file_, begin_, begin_ + head), TokenStream(file_, begin_ + head, end_)};
}

int64_t TokenStream::text_bytes(int64_t begin, int64_t end, const Tokenizer& tokenizer) const {
  return text_bytes_before(begin_ + end, tokenizer) - text_bytes_before(begin_ + begin, tokenizer);
}

int64_t TokenStream::text_bytes_before(int64_t position, const Tokenizer& tokenizer) const {
  if (position == file_->tokens()) return file_->text_bytes();
  const int64_t document = file_->document_of(position);
  const int64_t separators = document > 0 && file_->info().separator ? 1 : 0;  // they have no text
  const int64_t first = file_->document_begin(document) + separators;
  const int64_t last = file_->document_begin(document + 1);
  const int64_t before = file_->text_bytes_before(document);
  const int64_t after = file_->text_bytes_before(document + 1);
  if (position <= first) return before;
  if (position - first <= last - position)
    return std::min(before + bytes_of(*file_, first, position, tokenizer), after);
  return std::max(after - bytes_of(*file_, position, last, tokenizer), before);
}

}  // namespace troupe::data
