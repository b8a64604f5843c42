#include "actors/data/prepare.h"

#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <span>
#include <system_error>

#include "runtime/base/check.h"

namespace troupe::data {
namespace {

namespace fs = std::filesystem;

// Text that one thread encodes in one go: a long fragment, or many short documents.
struct Job {
  struct Piece {
    size_t text_end;
    size_t tokens_end = 0;
    bool ends_document;
  };

  std::string text;
  std::vector<Piece> pieces;
  std::string where;  // of the first piece
  std::vector<int32_t> tokens;
  std::optional<Error> error;

  void clear() {
    text.clear();
    pieces.clear();
    tokens.clear();
    error.reset();
  }
};

struct Batch {
  std::vector<Job> jobs;
  size_t used = 0;  // the first ones are filled
  bool last = false;
  std::optional<Error> error;
};

// Fills all jobs, or so many that each of `threads` has one where fragments are longer than a job should be.
void read_batch(TextSource& source, size_t threads, Batch& batch) {
  constexpr size_t kJobBytes = 256 * 1024;
  batch.used = 0;
  size_t bytes = 0;
  while (batch.used < batch.jobs.size() && (batch.used < threads || bytes < batch.jobs.size() * kJobBytes)) {
    Job& job = batch.jobs[batch.used];
    job.clear();
    while (job.text.size() < kJobBytes) {
      Result<std::optional<Fragment>> fragment = source.next();
      if (!fragment.ok()) {
        batch.error = std::move(fragment).error();
        return;
      }
      if (!*fragment) {
        batch.last = true;
        break;
      }
      if (job.pieces.empty()) job.where = source.where();
      job.text += (*fragment)->text;
      job.pieces.push_back({.text_end = job.text.size(), .ends_document = (*fragment)->ends_document});
    }
    if (!job.pieces.empty()) ++batch.used;
    if (batch.last) return;
    bytes += job.text.size();
  }
}

void encode(const Tokenizer& tokenizer, Job& job) {
  size_t begin = 0;
  for (Job::Piece& piece : job.pieces) {
    const std::string_view text = std::string_view(job.text).substr(begin, piece.text_end - begin);
    Result<std::vector<int32_t>> ids = tokenizer.try_encode(text);
    if (!ids.ok()) {
      job.error = std::move(ids).error().within(job.where);
      return;
    }
    if (job.pieces.size() == 1) {
      job.tokens = *std::move(ids);
    } else {
      job.tokens.insert(job.tokens.end(), ids->begin(), ids->end());
    }
    piece.tokens_end = job.tokens.size();
    begin = piece.text_end;
  }
}

Status write_batch(const Batch& batch, TokenFileWriter& writer) {
  for (size_t j = 0; j < batch.used; ++j) {
    const Job& job = batch.jobs[j];
    if (job.error) return *job.error;
    size_t text_begin = 0;
    size_t begin = 0;
    for (const Job::Piece& piece : job.pieces) {
      const std::span<const int32_t> tokens = std::span(job.tokens).subspan(begin, piece.tokens_end - begin);
      TROUPE_TRY(writer.append(tokens, static_cast<int64_t>(piece.text_end - text_begin), piece.ends_document));
      begin = piece.tokens_end;
      text_begin = piece.text_end;
    }
  }
  return {};
}

uint64_t hash(const std::string& text) { return XXH3_64bits(text.data(), text.size()); }

// What decides which tokens come out, apart from the files' contents.
std::string identity(const std::vector<std::string>& paths, const TextOptions& text, const Tokenizer& tokenizer) {
  std::string identity = fmt::format("{}\n{}:{}\n{}:{}\n{}\n", tokenizer.fingerprint(), text.field.size(), text.field,
                                     text.separator.size(), text.separator, text.fragment_bytes);
  for (const std::string& path : paths) {
    std::error_code ignored;
    const fs::path absolute = fs::absolute(path, ignored);
    identity += (absolute.empty() ? fs::path(path) : absolute.lexically_normal()).string() + '\n';
  }
  return identity;
}

uint64_t fingerprint_of(const std::vector<InputFile>& files, const std::string& identity) {
  std::string text = identity;
  for (const InputFile& file : files) text += fmt::format("{}\n{} {}\n", file.path, file.bytes, file.modified_ns);
  return hash(text);
}

// The paths' own name, cleaned, so that a person can tell the files of a cache apart.
std::string stem_of(const std::vector<std::string>& paths) {
  fs::path path(paths.front());
  if (!path.has_filename()) path = path.parent_path();
  std::string stem = path.filename().string();
  stem = stem.substr(0, std::min(stem.find('.', 1), size_t{40}));
  for (char& c : stem) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
    if (!plain) c = '_';
  }
  return stem.empty() ? "data" : stem;
}

}  // namespace

Status build_token_file(FileSystem& file_system, TextSource& source, const Tokenizer& tokenizer, ThreadPool& pool,
                        const std::string& path, uint64_t input_fingerprint, const PrepareProgress& progress) {
  constexpr size_t kJobsPerThread = 8;
  const size_t threads = static_cast<size_t>(pool.size());
  TokenFileWriter writer = TROUPE_TRY(TokenFileWriter::create(file_system, path,
                                                              {.tokenizer_fingerprint = tokenizer.fingerprint(),
                                                               .input_fingerprint = input_fingerprint,
                                                               .separator = tokenizer.end_of_text(),
                                                               .vocabulary_size = tokenizer.vocabulary_size()}));
  // One batch is read while another is encoded and a third is written.
  Batch batches[3];
  for (Batch& batch : batches) batch.jobs.resize(kJobsPerThread * threads);
  Batch* reading = &batches[0];
  Batch* encoding = &batches[1];
  Batch* writing = &batches[2];
  bool at_end = false;
  while (!at_end || reading->used + encoding->used > 0) {
    std::swap(writing, encoding);
    std::swap(encoding, reading);
    reading->used = 0;
    Status written;
    pool.parallel_for(static_cast<int64_t>(2 + encoding->used), [&](int64_t i) {
      if (i == 0) {
        if (!at_end) read_batch(source, threads, *reading);
      } else if (i == 1) {
        written = write_batch(*writing, writer);
      } else {
        encode(tokenizer, encoding->jobs[static_cast<size_t>(i - 2)]);
      }
    });
    TROUPE_TRY(std::move(written));
    if (reading->error) return *std::move(reading->error);
    at_end = reading->last || at_end;
    if (progress && !progress(source.bytes_done(), source.bytes_total())) {
      return Error(ErrorKind::interrupted, "stopped while encoding the data");
    }
  }
  if (writer.tokens() == 0) return usage_error("{}: there is no text in the data", source.where());
  return writer.finish();
}

Result<PreparedTokens> prepare(FileSystem& file_system, const std::vector<std::string>& paths,
                               const PrepareOptions& options, const Tokenizer& tokenizer, ThreadPool& pool,
                               const PrepareProgress& progress) {
  std::vector<InputFile> files = TROUPE_TRY(list_inputs(paths));
  TextOptions text = options.text;
  // SentencePiece puts a blank before whatever it encodes, so none of its texts can be cut.
  if (tokenizer.kind() == "sentencepiece") text.fragment_bytes = int64_t{64} << 20;
  const std::string name = identity(paths, text, tokenizer);
  const uint64_t fingerprint = fingerprint_of(files, name);
  const fs::path path = fs::path(options.cache_folder) / fmt::format("{}-{:016x}.tokens", stem_of(paths), hash(name));

  std::error_code code;
  if (fs::exists(path, code)) {
    Result<std::shared_ptr<const TokenFile>> file = TokenFile::open(path.string());
    if (file.ok() && (*file)->info().input_fingerprint == fingerprint &&
        (*file)->info().tokenizer_fingerprint == tokenizer.fingerprint() &&
        (*file)->info().separator == tokenizer.end_of_text()) {
      const Status verified = options.verify ? (*file)->verify([&] { return progress && !progress(0, 0); }) : Status();
      if (verified.ok()) return PreparedTokens{*std::move(file), true};
      if (verified.error().kind() == ErrorKind::interrupted) return verified.error();
    }
  }
  if (!options.cache_folder.empty()) TROUPE_TRY(create_directories(file_system, options.cache_folder));
  TextSource source = TROUPE_TRY(TextSource::create(std::move(files), std::move(text)));
  TROUPE_TRY(build_token_file(file_system, source, tokenizer, pool, path.string(), fingerprint, progress));
  return PreparedTokens{TROUPE_TRY(TokenFile::open(path.string())), false};
}

}  // namespace troupe::data
