// Documents from files, one after another, in bounded memory and with their bytes kept as they are.
//   folder                     every file below it, sorted by path; names that begin with '.' are left out
//   *.jsonl, *.ndjson          one document a line (json_field.h); blank lines are skipped
//   any other file             one document, or several between separators; empty ones are skipped
// each of them also as .gz, .dz or .zst (byte_reader.h).
//
// A long document comes as several fragments, so that it can be encoded on several threads and never
// lies in memory as a whole. Fragments are cut before a line end, else a blank, that follows an ASCII
// letter: no pre-tokenisation in use lets a token cross that point, so the ids of the fragments are the
// ids of the whole. Text without such a point in 64 KiB is cut between two UTF-8 characters.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "actors/data/byte_reader.h"
#include "actors/data/json_field.h"
#include "runtime/base/result.h"

namespace troupe::data {

struct TextOptions {
  std::string field = "text";           // of JSON lines: a name or a template
  std::string separator;                // of other text: cuts a file into documents, and is left out; "" does not cut
  int64_t fragment_bytes = 256 * 1024;  // the longest fragment, at least 2; JSON lines may be longer than that
};

struct InputFile {
  std::string path;
  int64_t bytes = 0;  // as on disk
  int64_t modified_ns = 0;

  friend bool operator==(const InputFile&, const InputFile&) = default;
};

// The files that the paths stand for, in order. Errors: usage (no path, missing, empty file or a folder
// without files). Empty files within a folder are left out.
Result<std::vector<InputFile>> list_inputs(const std::vector<std::string>& paths);

// A piece of a document. `text` is valid until the next call of the source that gave it.
struct Fragment {
  std::string_view text;  // never empty
  bool ends_document = true;
};

// Not thread-safe.
class TextSource {
 public:
  // Opens nothing yet. Errors: usage (the template of options.field).
  static Result<TextSource> create(std::vector<InputFile> files, TextOptions options);

  // The next fragment; nullopt after the last. After an error the source is of no use.
  // Errors: those of byte_reader.h, and damaged for a bad JSON line, as "file:line: what".
  Result<std::optional<Fragment>> next();

  int64_t bytes_total() const { return bytes_total_; }  // of the files on disk
  int64_t bytes_done() const;                           // of those, read
  // The file that the last fragment came from, as "file" or "file:line".
  std::string where() const;

  TextSource(TextSource&&) noexcept;
  TextSource& operator=(TextSource&&) noexcept;
  ~TextSource();

 private:
  TextSource(std::vector<InputFile> files, TextOptions options, JsonField field);

  Status fill(size_t wanted);
  Result<std::optional<Fragment>> next_text();
  Result<std::optional<Fragment>> next_json();
  Fragment take(size_t document_bytes, size_t separator_bytes, bool ends_document);
  void close_file();

  std::vector<InputFile> files_;
  TextOptions options_;
  JsonField field_;
  int64_t bytes_total_ = 0;
  int64_t bytes_before_ = 0;  // of the files that are done

  size_t file_ = 0;  // index of the one that is open, or to open next
  std::unique_ptr<ByteReader> reader_;
  bool json_ = false;
  bool at_end_ = false;           // of the open file: what is left lies in buffer_
  bool within_document_ = false;  // its last fragment did not end it
  int64_t line_ = 0;              // of JSON lines, from 1
  std::vector<char> buffer_;      // [begin_, end_) is read and not yet given out
  size_t begin_ = 0;
  size_t end_ = 0;
  std::string json_text_;  // of the current line, given out from json_given_ on
  size_t json_given_ = 0;
};

// The length of the first fragment to cut off `text`, at most `limit` < text.size(), at least 1.
size_t fragment_cut(std::string_view text, size_t limit);

}  // namespace troupe::data
