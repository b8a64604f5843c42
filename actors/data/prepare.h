// From text to a token file, on all threads of a pool, and a cache of such files: what was encoded once
// is mapped again as long as the inputs (path, size, time of change), the options and the tokenizer's
// fingerprint are the same.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "actors/data/text_source.h"
#include "actors/data/token_file.h"
#include "actors/data/tokenizer/tokenizer.h"
#include "runtime/base/file.h"
#include "runtime/base/result.h"
#include "runtime/base/thread_pool.h"

namespace troupe::data {

// Called from one thread at a time, now and then, with bytes of the inputs on disk; with 0 of 0 where tokens of the
// cache are read. False stops the work.
using PrepareProgress = std::function<bool(int64_t bytes_done, int64_t bytes_total)>;

// Encodes what the source has left and writes it to `path`. Memory: a few MiB a thread, and 16 bytes a
// document. Errors: the source's; usage (a character that the tokenizer lacks, as "file: what"; no text at
// all); failed (cannot write); interrupted (progress said so). No error leaves a file behind.
Status build_token_file(FileSystem& file_system, TextSource& source, const Tokenizer& tokenizer, ThreadPool& pool,
                        const std::string& path, uint64_t input_fingerprint = 0, const PrepareProgress& progress = {});

struct PrepareOptions {
  TextOptions text;
  std::string cache_folder;  // made if missing
  bool verify = true;        // read every token of a reused file against its checksum
};

struct PreparedTokens {
  std::shared_ptr<const TokenFile> file;
  bool reused = false;
};

// The tokens of `paths`, from the cache if it has them. A damaged file in the cache is made again. Several
// processes may prepare the same paths: each writes a file of its own, the last one stays.
// Errors: those of list_inputs and build_token_file.
Result<PreparedTokens> prepare(FileSystem& file_system, const std::vector<std::string>& paths,
                               const PrepareOptions& options, const Tokenizer& tokenizer, ThreadPool& pool,
                               const PrepareProgress& progress = {});

}  // namespace troupe::data
