#include "actors/data/token_file.h"

#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>
#include <vector>

#include "runtime/base/check.h"

namespace troupe::data {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are mapped as they are");

constexpr char kMagic[8] = {'T', 'R', 'P', 'T', 'O', 'K', 'E', 'N'};
constexpr char kEndMagic[8] = {'T', 'R', 'P', 'T', 'K', 'E', 'N', 'D'};
constexpr uint32_t kVersion = 1;
constexpr int32_t kMostShortIds = 65536;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t token_bytes;
  char tokenizer_fingerprint[16];
  uint64_t input_fingerprint;
  int64_t separator;
  uint64_t vocabulary_size;
  uint64_t zero;
};
static_assert(sizeof(Header) == 64);

struct Trailer {
  uint64_t tokens;
  uint64_t documents;
  uint64_t token_checksum;
  uint64_t index_checksum;
  uint64_t zero;
  char magic[8];
};
static_assert(sizeof(Trailer) == 48);
constexpr size_t kTrailerChecked = 24;  // what comes before index_checksum

// XXH3 of several pieces as if they were one.
class Checksum {
 public:
  Checksum() : state_(XXH3_createState(), XXH3_freeState) {
    TROUPE_CHECK(state_ != nullptr);
    XXH3_64bits_reset(state_.get());
  }
  void add(const void* data, size_t bytes) { XXH3_64bits_update(state_.get(), data, bytes); }
  uint64_t value() const { return XXH3_64bits_digest(state_.get()); }

 private:
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state_;
};

}  // namespace

Result<std::shared_ptr<const TokenFile>> TokenFile::open(const std::string& path) {
  MappedFile mapped = TROUPE_TRY(MappedFile::open(path));
  std::shared_ptr<TokenFile> file(new TokenFile(path, std::move(mapped)));
  TROUPE_TRY(file->parse());
  return std::shared_ptr<const TokenFile>(std::move(file));
}

Status TokenFile::parse() {
  const char* data = file_.text().data();
  const size_t size = file_.text().size();
  Header header;
  Trailer trailer;
  if (size < sizeof header + sizeof trailer) return damaged("{}: not a token file: {} bytes", path_, size);
  std::memcpy(&header, data, sizeof header);
  std::memcpy(&trailer, data + size - sizeof trailer, sizeof trailer);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) return damaged("{}: not a token file", path_);
  if (header.version != kVersion) {
    return damaged("{}: token file version {}, this program reads version {}", path_, header.version, kVersion);
  }
  if (std::memcmp(trailer.magic, kEndMagic, sizeof kEndMagic) != 0) {
    return damaged("{}: the token file is cut short ({} bytes)", path_, size);
  }
  const size_t body = size - sizeof(Header) - sizeof(Trailer);
  const bool sizes_agree = (header.token_bytes == 2 || header.token_bytes == 4) &&
                           trailer.tokens <= body / header.token_bytes && trailer.documents < body / 16 &&
                           (trailer.tokens * header.token_bytes + 7) / 8 * 8 + 16 * (trailer.documents + 1) == body;
  if (!sizes_agree) {
    return damaged("{}: {} tokens of {} documents do not fit a file of {} bytes", path_, trailer.tokens,
                   trailer.documents, size);
  }
  const size_t index_bytes = 16 * (trailer.documents + 1);
  const char* index = data + size - sizeof(Trailer) - index_bytes;
  Checksum checksum;
  checksum.add(data, sizeof(Header));
  checksum.add(index, index_bytes);
  checksum.add(data + size - sizeof(Trailer), kTrailerChecked);
  if (checksum.value() != trailer.index_checksum) return damaged("{}: checksum mismatch in header or index", path_);

  info_.tokenizer_fingerprint.assign(header.tokenizer_fingerprint, sizeof header.tokenizer_fingerprint);
  info_.input_fingerprint = header.input_fingerprint;
  if (header.separator >= 0) info_.separator = static_cast<int32_t>(header.separator);
  info_.vocabulary_size = static_cast<int32_t>(header.vocabulary_size);
  token_bytes_ = header.token_bytes;
  tokens_ = static_cast<int64_t>(trailer.tokens);
  documents_ = static_cast<int64_t>(trailer.documents);
  token_checksum_ = trailer.token_checksum;
  first_token_ = reinterpret_cast<const uint64_t*>(index);
  bytes_before_ = first_token_ + documents_ + 1;
  return {};
}

Status TokenFile::verify(const StopCheck& stop) const {
  constexpr size_t kPieceBytes = size_t{64} << 20;
  const size_t bytes = (static_cast<size_t>(tokens_) * token_bytes_ + 7) / 8 * 8;
  const char* tokens = file_.text().data() + sizeof(Header);
  Checksum checksum;
  for (size_t begin = 0; begin < bytes; begin += kPieceBytes) {
    if (is_stopped(stop)) return Error(ErrorKind::interrupted, fmt::format("{}: stopped while it was verified", path_));
    checksum.add(tokens + begin, std::min(kPieceBytes, bytes - begin));
  }
  if (checksum.value() == token_checksum_) return {};
  return damaged("{}: checksum mismatch in the tokens, bytes {}-{}", path_, sizeof(Header), sizeof(Header) + bytes - 1);
}

int32_t TokenFile::token(int64_t position) const {
  int32_t id;
  copy(position, {&id, 1});
  return id;
}

void TokenFile::copy(int64_t begin, std::span<int32_t> out) const {
  TROUPE_CHECK(begin >= 0 && begin + static_cast<int64_t>(out.size()) <= tokens_, "tokens {}+{} of {}", begin,
               out.size(), tokens_);
  if (out.empty()) return;
  const char* from = file_.text().data() + sizeof(Header) + static_cast<size_t>(begin) * token_bytes_;
  if (token_bytes_ == 4) {
    std::memcpy(out.data(), from, out.size_bytes());
  } else {
    const uint16_t* ids = reinterpret_cast<const uint16_t*>(from);
    std::copy(ids, ids + out.size(), out.begin());
  }
}

int64_t TokenFile::document_of(int64_t position) const {
  TROUPE_CHECK(position >= 0 && position < tokens_, "token {} of {}", position, tokens_);
  const uint64_t* end = first_token_ + documents_;
  return std::upper_bound(first_token_, end, static_cast<uint64_t>(position)) - first_token_ - 1;
}

struct TokenFileWriter::State {
  explicit State(AtomicFile f) : file(std::move(f)) {}

  Status write(const void* data, size_t bytes) {
    return file.write(std::string_view(static_cast<const char*>(data), bytes));
  }

  // Appends ids to `pending`, as they will lie in the file.
  void put(std::span<const int32_t> ids) {
    if (ids.empty()) return;
    const size_t before = pending.size();
    pending.resize(before + ids.size() * header.token_bytes);
    if (header.token_bytes == 4) {
      std::memcpy(pending.data() + before, ids.data(), ids.size_bytes());
    } else {
      for (size_t i = 0; i < ids.size(); ++i) {
        const uint16_t id = static_cast<uint16_t>(ids[i]);
        std::memcpy(pending.data() + before + 2 * i, &id, sizeof id);
      }
    }
    tokens += ids.size();
  }

  Status flush() {
    token_checksum.add(pending.data(), pending.size());
    TROUPE_TRY(write(pending.data(), pending.size()));
    pending.clear();
    return {};
  }

  AtomicFile file;
  Header header{};
  std::vector<char> pending;
  Checksum token_checksum;
  uint64_t tokens = 0;
  uint64_t text_bytes = 0;
  bool within_document = false;
  std::vector<uint64_t> first_token;
  std::vector<uint64_t> bytes_before;
};

TokenFileWriter::TokenFileWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
TokenFileWriter::TokenFileWriter(TokenFileWriter&&) noexcept = default;
TokenFileWriter& TokenFileWriter::operator=(TokenFileWriter&&) noexcept = default;
TokenFileWriter::~TokenFileWriter() = default;

Result<TokenFileWriter> TokenFileWriter::create(FileSystem& files, const std::string& path, TokenFileInfo info) {
  TROUPE_CHECK(info.tokenizer_fingerprint.size() == 16, "fingerprint \"{}\"", info.tokenizer_fingerprint);
  auto state = std::make_unique<State>(TROUPE_TRY(AtomicFile::create(files, path, fmt::format(".{}.tmp", ::getpid()))));
  Header& header = state->header;
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.token_bytes = info.vocabulary_size <= kMostShortIds ? 2 : 4;
  std::memcpy(header.tokenizer_fingerprint, info.tokenizer_fingerprint.data(), sizeof header.tokenizer_fingerprint);
  header.input_fingerprint = info.input_fingerprint;
  header.separator = info.separator.value_or(-1);
  header.vocabulary_size = static_cast<uint64_t>(info.vocabulary_size);
  TROUPE_TRY(state->write(&header, sizeof header));
  return TokenFileWriter(std::move(state));
}

Status TokenFileWriter::append(std::span<const int32_t> tokens, int64_t text_bytes, bool ends_document) {
  constexpr size_t kFlushBytes = 1024 * 1024;
  State& s = *state_;
  uint32_t highest = 0;
  for (const int32_t id : tokens) highest = std::max(highest, static_cast<uint32_t>(id));
  TROUPE_CHECK(highest < s.header.vocabulary_size || tokens.empty(), "token {} of a vocabulary of {}", highest,
               s.header.vocabulary_size);
  if (!tokens.empty() && !s.within_document) {
    s.first_token.push_back(s.tokens);
    s.bytes_before.push_back(s.text_bytes);
    s.within_document = true;
    if (s.tokens > 0 && s.header.separator >= 0) {
      const int32_t separator = static_cast<int32_t>(s.header.separator);
      s.put({&separator, 1});
    }
  }
  s.put(tokens);
  s.text_bytes += static_cast<uint64_t>(text_bytes);
  if (ends_document) s.within_document = false;
  return s.pending.size() < kFlushBytes ? Status() : s.flush();
}

int64_t TokenFileWriter::tokens() const { return static_cast<int64_t>(state_->tokens); }

Status TokenFileWriter::finish() {
  State& s = *state_;
  s.pending.resize(s.pending.size() + (8 - s.tokens * s.header.token_bytes % 8) % 8);
  TROUPE_TRY(s.flush());
  s.first_token.push_back(s.tokens);
  s.bytes_before.push_back(s.text_bytes);
  Trailer trailer{};
  trailer.tokens = s.tokens;
  trailer.documents = s.first_token.size() - 1;
  trailer.token_checksum = s.token_checksum.value();
  const size_t table_bytes = s.first_token.size() * sizeof(uint64_t);
  Checksum checksum;
  checksum.add(&s.header, sizeof s.header);
  checksum.add(s.first_token.data(), table_bytes);
  checksum.add(s.bytes_before.data(), table_bytes);
  checksum.add(&trailer, kTrailerChecked);
  trailer.index_checksum = checksum.value();
  std::memcpy(trailer.magic, kEndMagic, sizeof kEndMagic);
  TROUPE_TRY(s.write(s.first_token.data(), table_bytes));
  TROUPE_TRY(s.write(s.bytes_before.data(), table_bytes));
  TROUPE_TRY(s.write(&trailer, sizeof trailer));
  return s.file.commit();
}

}  // namespace troupe::data
