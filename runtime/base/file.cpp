// The reading side of file.h, and LineWriter.
#include "runtime/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/base/check.h"

namespace troupe {
namespace {

// Closes when it goes.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
  Descriptor& operator=(Descriptor&&) = delete;
  int get() const { return number_; }
  int release() { return std::exchange(number_, -1); }

 private:
  int number_;
};

struct Opened {
  Descriptor descriptor;
  struct stat info;
};

Result<Opened> open_to_read(const std::string& path) {
  Opened opened{Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), {}};
  if (opened.descriptor.get() < 0 || ::fstat(opened.descriptor.get(), &opened.info) != 0) {
    return failed("{}: cannot open the file: {}", path, std::strerror(errno));
  }
  if (S_ISDIR(opened.info.st_mode)) return failed("{}: is a folder, where a file is wanted", path);
  return opened;
}

// Where the last whole line ends.
Result<int64_t> end_of_last_line(int descriptor, const std::string& path, int64_t size_bytes) {
  char buffer[4096];
  for (int64_t end = size_bytes; end > 0;) {
    const int64_t begin = std::max<int64_t>(0, end - static_cast<int64_t>(sizeof(buffer)));
    const ssize_t got = ::pread(descriptor, buffer, static_cast<size_t>(end - begin), begin);
    if (got < 0 && errno == EINTR) continue;
    if (got != end - begin)
      return failed("{}: cannot read {} bytes at offset {}: {}", path, end - begin, begin, std::strerror(errno));
    const size_t newline = std::string_view(buffer, static_cast<size_t>(got)).rfind('\n');
    if (newline != std::string_view::npos) return begin + static_cast<int64_t>(newline) + 1;
    end = begin;
  }
  return int64_t{0};
}

}  // namespace

Result<std::string> read_file(const std::string& path, int64_t limit_bytes) {
  const Opened opened = TROUPE_TRY(open_to_read(path));
  // One byte more than the file is said to hold, so that its end is seen; pipes and /proc say 0.
  const int64_t expected = std::min(static_cast<int64_t>(opened.info.st_size), limit_bytes) + 1;
  std::string contents(static_cast<size_t>(std::max<int64_t>(expected, 4096)), '\0');
  size_t length = 0;
  for (;;) {
    const ssize_t got = ::read(opened.descriptor.get(), contents.data() + length, contents.size() - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed("{}: cannot read at offset {}: {}", path, length, std::strerror(errno));
    if (got == 0) break;
    length += static_cast<size_t>(got);
    if (static_cast<int64_t>(length) > limit_bytes) {
      return failed("{}: is longer than {} bytes", path, limit_bytes);
    }
    if (length == contents.size()) contents.resize(2 * contents.size());
  }
  contents.resize(length);
  return contents;
}

std::string parent_directory(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(path.substr(0, std::max<size_t>(slash, 1)));
}

bool exists(const std::string& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0;
}

Result<int64_t> file_size_bytes(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0)
    return failed("{}: cannot ask for the file's size: {}", path, std::strerror(errno));
  if (S_ISDIR(info.st_mode)) return failed("{}: is a folder, where a file is wanted", path);
  return static_cast<int64_t>(info.st_size);
}

Result<int64_t> free_space_bytes(const std::string& path) {
  struct statvfs info{};
  if (::statvfs(path.c_str(), &info) != 0)
    return failed("{}: cannot ask for free space: {}", path, std::strerror(errno));
  return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
}

Result<MappedFile> MappedFile::open(const std::string& path) {
  const Opened opened = TROUPE_TRY(open_to_read(path));
  const auto size = static_cast<size_t>(opened.info.st_size);
  if (size == 0) return MappedFile({});
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, opened.descriptor.get(), 0);
  if (address == MAP_FAILED) return failed("{}: cannot map {} bytes: {}", path, size, std::strerror(errno));
  return MappedFile({static_cast<const std::byte*>(address), size});
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

void MappedFile::advise(Access access) const {
  if (bytes_.empty()) return;
  int advice = MADV_NORMAL;
  switch (access) {
    case Access::normal: break;
    case Access::sequential: advice = MADV_SEQUENTIAL; break;
    case Access::random: advice = MADV_RANDOM; break;
    case Access::soon: advice = MADV_WILLNEED; break;
  }
  ::madvise(const_cast<std::byte*>(bytes_.data()), bytes_.size(), advice);
}

Result<LineWriter> LineWriter::open(const std::string& path) {
  Descriptor descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  struct stat info{};
  if (descriptor.get() < 0 || ::fstat(descriptor.get(), &info) != 0) {
    return failed("{}: cannot open the file to append: {}", path, std::strerror(errno));
  }
  if (S_ISREG(info.st_mode)) {
    const int64_t end = TROUPE_TRY(end_of_last_line(descriptor.get(), path, info.st_size));
    if (end < info.st_size && ::ftruncate(descriptor.get(), end) != 0) {
      return failed("{}: cannot cut off the torn last line at offset {}: {}", path, end, std::strerror(errno));
    }
  }
  return LineWriter(descriptor.release(), path);
}

LineWriter::~LineWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

LineWriter::LineWriter(LineWriter&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::move(other.path_)), torn_(other.torn_) {}

LineWriter& LineWriter::operator=(LineWriter&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(path_, other.path_);
  std::swap(torn_, other.torn_);
  return *this;
}

Status LineWriter::write(std::string_view line) {
  TROUPE_CHECK(descriptor_ >= 0 && line.find('\n') == std::string_view::npos, "no line for {}: {}", path_, line);
  const std::string whole = fmt::format("{}{}\n", torn_ ? "\n" : "", line);
  ssize_t written;
  do written = ::write(descriptor_, whole.data(), whole.size());
  while (written < 0 && errno == EINTR);
  if (written == static_cast<ssize_t>(whole.size())) {
    torn_ = false;
    return {};
  }
  if (written < 0) return failed("{}: cannot append {} bytes: {}", path_, whole.size(), std::strerror(errno));
  torn_ = torn_ || written > 0;
  return failed("{}: only {} of {} bytes could be appended; the disk may be full", path_, written, whole.size());
}

}  // namespace troupe
