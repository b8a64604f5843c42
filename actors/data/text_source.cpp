#include "actors/data/text_source.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <system_error>

#include "runtime/base/check.h"

namespace troupe::data {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLongestLine = size_t{1} << 30;
constexpr size_t kCutWindow = 64 * 1024;

bool is_json_lines(const std::string& path) {
  const std::string name = name_without_compression(path);
  return name.ends_with(".jsonl") || name.ends_with(".ndjson");
}

Result<InputFile> input_file(const fs::path& path) {
  std::error_code code;
  InputFile file{.path = path.string()};
  file.bytes = static_cast<int64_t>(fs::file_size(path, code));
  if (code) return usage_error("{}: cannot read: {}", file.path, code.message());
  const auto modified = fs::last_write_time(path, code).time_since_epoch();
  if (code) return usage_error("{}: cannot read: {}", file.path, code.message());
  file.modified_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(modified).count();
  return file;
}

Status list_folder(const fs::path& folder, std::vector<InputFile>& files) {
  std::error_code code;
  std::vector<fs::path> paths;
  for (fs::recursive_directory_iterator entry(folder, code), end; !code && entry != end; entry.increment(code)) {
    const bool hidden = entry->path().filename().string().starts_with('.');
    std::error_code ignored;  // a link that leads nowhere is no file
    if (entry->is_directory(ignored)) {
      if (hidden) entry.disable_recursion_pending();
    } else if (!hidden && entry->is_regular_file(ignored)) {
      paths.push_back(entry->path());
    }
  }
  if (code) return usage_error("{}: cannot list the folder: {}", folder.string(), code.message());
  std::sort(paths.begin(), paths.end());
  const size_t before = files.size();
  for (const fs::path& path : paths) {
    InputFile file = TROUPE_TRY(input_file(path));
    if (file.bytes > 0) files.push_back(std::move(file));
  }
  if (files.size() == before) return usage_error("{}: no file with data in this folder", folder.string());
  return {};
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }
bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

}  // namespace

Result<std::vector<InputFile>> list_inputs(const std::vector<std::string>& paths) {
  if (paths.empty()) return usage_error("no path to read data from");
  std::vector<InputFile> files;
  for (const std::string& path : paths) {
    std::error_code code;
    const fs::file_status status = fs::status(path, code);
    if (!fs::exists(status)) return usage_error("{}: no such file or folder", path);
    if (fs::is_directory(status)) {
      TROUPE_TRY(list_folder(path, files));
      continue;
    }
    if (!fs::is_regular_file(status)) return usage_error("{}: is neither a file nor a folder", path);
    files.push_back(TROUPE_TRY(input_file(path)));
    if (files.back().bytes == 0) return usage_error("{}: the file is empty", path);
  }
  return files;
}

size_t fragment_cut(std::string_view text, size_t limit) {
  TROUPE_CHECK(limit > 0 && limit < text.size());
  const size_t earliest = limit > kCutWindow ? limit - kCutWindow : 0;
  for (const char white : {'\n', ' '}) {
    for (size_t cut = limit; cut > earliest; --cut) {
      if (text[cut] == white && is_letter(text[cut - 1])) return cut;
    }
  }
  size_t cut = limit;
  while (cut > 1 && limit - cut < 3 && is_continuation(text[cut])) --cut;
  return is_continuation(text[cut]) ? limit : cut;
}

Result<TextSource> TextSource::create(std::vector<InputFile> files, TextOptions options) {
  TROUPE_CHECK(options.fragment_bytes >= 2);
  JsonField field = TROUPE_TRY(JsonField::parse(options.field));
  return TextSource(std::move(files), std::move(options), std::move(field));
}

TextSource::TextSource(std::vector<InputFile> files, TextOptions options, JsonField field)
    : files_(std::move(files)), options_(std::move(options)), field_(std::move(field)) {
  for (const InputFile& file : files_) bytes_total_ += file.bytes;
}
TextSource::TextSource(TextSource&&) noexcept = default;
TextSource& TextSource::operator=(TextSource&&) noexcept = default;
TextSource::~TextSource() = default;

int64_t TextSource::bytes_done() const { return bytes_before_ + (reader_ ? reader_->file_position() : 0); }

std::string TextSource::where() const {
  if (file_ >= files_.size()) return files_.empty() ? "" : files_.back().path;
  return json_ ? fmt::format("{}:{}", files_[file_].path, line_) : files_[file_].path;
}

void TextSource::close_file() {
  reader_.reset();
  bytes_before_ += files_[file_].bytes;
  ++file_;
}

// Reads on until `wanted` bytes lie in the buffer, or the file ends.
Status TextSource::fill(size_t wanted) {
  if (end_ - begin_ >= wanted || at_end_) return {};
  std::copy(buffer_.begin() + static_cast<ptrdiff_t>(begin_), buffer_.begin() + static_cast<ptrdiff_t>(end_),
            buffer_.begin());
  end_ -= begin_;
  begin_ = 0;
  if (buffer_.size() < 2 * wanted) buffer_.resize(2 * wanted);
  const size_t room = buffer_.size() - end_;
  const size_t n = TROUPE_TRY(reader_->read(std::span(buffer_).subspan(end_)));
  end_ += n;
  at_end_ = n < room;
  return {};
}

Result<std::optional<Fragment>> TextSource::next() {
  while (file_ < files_.size()) {
    if (!reader_) {
      reader_ = TROUPE_TRY(open_bytes(files_[file_].path));
      json_ = is_json_lines(files_[file_].path);
      at_end_ = within_document_ = false;
      line_ = 0;
      begin_ = end_ = 0;
      json_text_.clear();
      json_given_ = 0;
    }
    std::optional<Fragment> fragment = json_ ? TROUPE_TRY(next_json()) : TROUPE_TRY(next_text());
    if (fragment) return fragment;
    close_file();
  }
  return std::optional<Fragment>();
}

Fragment TextSource::take(size_t document_bytes, size_t separator_bytes, bool ends_document) {
  const std::string_view text(buffer_.data() + begin_, document_bytes);
  begin_ += document_bytes + separator_bytes;
  within_document_ = !ends_document;
  return {text, ends_document};
}

Result<std::optional<Fragment>> TextSource::next_text() {
  const std::string& separator = options_.separator;
  const size_t limit = static_cast<size_t>(options_.fragment_bytes);
  // Enough to know that a fragment of `limit` bytes is not followed by the document's end.
  const size_t wanted = limit + separator.size() + 1;
  while (true) {
    std::string_view text(buffer_.data() + begin_, end_ - begin_);
    size_t found = separator.empty() ? std::string_view::npos : text.substr(0, wanted).find(separator);
    if (found == std::string_view::npos && text.size() < wanted && !at_end_) {
      TROUPE_TRY(fill(wanted));
      continue;
    }
    if (found == 0) {
      TROUPE_CHECK(!within_document_);
      begin_ += separator.size();
      continue;
    }
    if (found != std::string_view::npos && found <= limit) return std::optional(take(found, separator.size(), true));
    if (text.size() > limit) return std::optional(take(fragment_cut(text, limit), 0, false));
    if (text.empty()) return std::optional<Fragment>();
    return std::optional(take(text.size(), 0, true));
  }
}

Result<std::optional<Fragment>> TextSource::next_json() {
  const size_t limit = static_cast<size_t>(options_.fragment_bytes);
  while (json_given_ == json_text_.size()) {
    size_t searched = 0;
    size_t length = 0;
    while (true) {
      const std::string_view text(buffer_.data() + begin_, end_ - begin_);
      const size_t found = text.find('\n', searched);
      if (found != std::string_view::npos || at_end_) {
        length = std::min(found, text.size());
        break;
      }
      searched = text.size();
      if (searched >= kLongestLine) {
        return damaged("{}:{}: the line is longer than 1 GiB", files_[file_].path, line_ + 1);
      }
      TROUPE_TRY(fill(std::max(size_t{256} * 1024, 2 * text.size())));
    }
    if (length == 0 && begin_ == end_) return std::optional<Fragment>();
    std::string_view line(buffer_.data() + begin_, length);
    begin_ = std::min(begin_ + length + 1, end_);
    if (++line_ == 1 && line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
    json_text_.clear();
    json_given_ = 0;
    if (is_blank(line)) continue;
    if (Status status = field_.extract(line, json_text_); !status) {
      return std::move(status).error().within(fmt::format("{}:{}", files_[file_].path, line_));
    }
  }
  const std::string_view rest = std::string_view(json_text_).substr(json_given_);
  const size_t length = rest.size() > limit ? fragment_cut(rest, limit) : rest.size();
  json_given_ += length;
  return std::optional(Fragment{rest.substr(0, length), length == rest.size()});
}

}  // namespace troupe::data
