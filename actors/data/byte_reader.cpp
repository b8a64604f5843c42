#include "actors/data/byte_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include "runtime/base/check.h"

namespace troupe::data {
namespace {

constexpr size_t kInputBytes = 256 * 1024;

// The file as it is, on a descriptor of its own.
class FileReader : public ByteReader {
 public:
  FileReader(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  ~FileReader() override { ::close(descriptor_); }
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  Result<size_t> read(std::span<char> out) override {
    size_t filled = 0;
    while (filled < out.size()) {
      const ssize_t n = ::read(descriptor_, out.data() + filled, out.size() - filled);
      if (n == 0) break;
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return failed("{}: cannot read at byte {}: {}", path_, position_, std::strerror(errno));
      filled += static_cast<size_t>(n);
      position_ += n;
    }
    return filled;
  }

  int64_t file_position() const override { return position_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_;
  int64_t position_ = 0;
};

// Compressed input in blocks; remembers where in the file the next unread byte lies.
class InputBlocks {
 public:
  explicit InputBlocks(std::unique_ptr<FileReader> file) : file_(std::move(file)), buffer_(kInputBytes) {}

  // Makes rest() not empty unless the file is at its end.
  Status refill() {
    if (!rest_.empty()) return {};
    const size_t n = TROUPE_TRY(file_->read(buffer_));
    rest_ = std::span(buffer_).first(n);
    return {};
  }
  std::span<char> rest() const { return rest_; }
  void consume(size_t bytes) { rest_ = rest_.subspan(bytes); }
  int64_t offset() const { return file_->file_position() - static_cast<int64_t>(rest_.size()); }
  int64_t file_position() const { return file_->file_position(); }
  const std::string& path() const { return file_->path(); }

 private:
  std::unique_ptr<FileReader> file_;
  std::vector<char> buffer_;
  std::span<char> rest_;
};

class GzipReader : public ByteReader {
 public:
  explicit GzipReader(std::unique_ptr<FileReader> file) : input_(std::move(file)) {
    constexpr int kGzipOnly = 16;
    TROUPE_CHECK(inflateInit2(&stream_, MAX_WBITS + kGzipOnly) == Z_OK);
  }
  ~GzipReader() override { inflateEnd(&stream_); }
  GzipReader(const GzipReader&) = delete;
  GzipReader& operator=(const GzipReader&) = delete;

  Result<size_t> read(std::span<char> out) override {
    size_t filled = 0;
    while (filled < out.size()) {
      TROUPE_TRY(input_.refill());
      const std::span<char> rest = input_.rest();
      if (rest.empty()) {
        if (within_member_) {
          return damaged("{}: the gzip data is cut short: it ends at byte {} within a member", input_.path(),
                         input_.offset());
        }
        break;
      }
      // gzip pads with zeros on some media; what follows the first member is either that or a member.
      if (!within_member_ && members_ > 0 && rest.front() == 0) {
        input_.consume(1);
        continue;
      }
      within_member_ = true;
      const size_t want = std::min(out.size() - filled, size_t{1} << 30);
      stream_.next_in = reinterpret_cast<Bytef*>(rest.data());
      stream_.avail_in = static_cast<uInt>(rest.size());
      stream_.next_out = reinterpret_cast<Bytef*>(out.data() + filled);
      stream_.avail_out = static_cast<uInt>(want);
      const int code = inflate(&stream_, Z_NO_FLUSH);
      input_.consume(rest.size() - stream_.avail_in);
      filled += want - stream_.avail_out;
      if (code == Z_STREAM_END) {
        ++members_;
        within_member_ = false;
        TROUPE_CHECK(inflateReset(&stream_) == Z_OK);
      } else if (code != Z_OK && code != Z_BUF_ERROR) {
        return damaged("{}: corrupt gzip data near byte {}: {}", input_.path(), input_.offset(),
                       stream_.msg != nullptr ? stream_.msg : "cannot be decompressed");
      }
    }
    return filled;
  }

  int64_t file_position() const override { return input_.file_position(); }

 private:
  InputBlocks input_;
  z_stream stream_{};
  bool within_member_ = true;  // an empty file is no gzip file
  int64_t members_ = 0;
};

class ZstandardReader : public ByteReader {
 public:
  explicit ZstandardReader(std::unique_ptr<FileReader> file) : input_(std::move(file)), stream_(ZSTD_createDStream()) {
    TROUPE_CHECK(stream_ != nullptr);
  }
  ~ZstandardReader() override { ZSTD_freeDStream(stream_); }
  ZstandardReader(const ZstandardReader&) = delete;
  ZstandardReader& operator=(const ZstandardReader&) = delete;

  Result<size_t> read(std::span<char> out) override {
    size_t filled = 0;
    while (filled < out.size()) {
      TROUPE_TRY(input_.refill());
      const std::span<char> rest = input_.rest();
      if (rest.empty() && !within_frame_) break;
      ZSTD_inBuffer in{rest.data(), rest.size(), 0};
      ZSTD_outBuffer output{out.data() + filled, out.size() - filled, 0};
      const size_t code = ZSTD_decompressStream(stream_, &output, &in);
      input_.consume(in.pos);
      filled += output.pos;
      if (ZSTD_isError(code)) {
        return damaged("{}: corrupt Zstandard data near byte {}: {}", input_.path(), input_.offset(),
                       ZSTD_getErrorName(code));
      }
      if (rest.empty() && output.pos == 0) {
        return damaged("{}: the Zstandard data is cut short: it ends at byte {} within a frame", input_.path(),
                       input_.offset());
      }
      within_frame_ = code != 0;
    }
    return filled;
  }

  int64_t file_position() const override { return input_.file_position(); }

 private:
  InputBlocks input_;
  ZSTD_DStream* stream_;
  bool within_frame_ = true;  // an empty file is no Zstandard file
};

bool ends_with(std::string_view name, std::string_view ending) {
  return name.size() > ending.size() && name.ends_with(ending);
}

}  // namespace

Result<std::unique_ptr<ByteReader>> open_bytes(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    if (errno == ENOENT) return usage_error("{}: no such file", path);
    return usage_error("{}: cannot open: {}", path, std::strerror(errno));
  }
  auto file = std::make_unique<FileReader>(path, descriptor);
  struct stat status{};
  if (::fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode)) return usage_error("{}: is a folder", path);
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL);
  if (ends_with(path, ".gz") || ends_with(path, ".dz")) {
    return std::unique_ptr<ByteReader>(std::make_unique<GzipReader>(std::move(file)));
  }
  if (ends_with(path, ".zst")) return std::unique_ptr<ByteReader>(std::make_unique<ZstandardReader>(std::move(file)));
  return std::unique_ptr<ByteReader>(std::move(file));
}

std::string name_without_compression(const std::string& path) {
  for (const std::string_view ending : {".gz", ".dz", ".zst"}) {
    if (ends_with(path, ending)) return path.substr(0, path.size() - ending.size());
  }
  return path;
}

}  // namespace troupe::data
