#include "runtime/base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace troupe {
namespace {

std::string host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "?";
  return name.data();
}

std::string holder_of(int descriptor) {
  std::array<char, 512> text{};
  const ssize_t length = pread(descriptor, text.data(), text.size() - 1, 0);
  std::string holder(text.data(), length > 0 ? static_cast<size_t>(length) : 0);
  if (const size_t end = holder.find('\n'); end != std::string::npos) holder.resize(end);
  return holder.empty() ? "another process" : holder;
}

}  // namespace

Result<FileLock> FileLock::take(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) {
    const ErrorKind kind = errno == EROFS || errno == EACCES ? ErrorKind::environment : ErrorKind::failed;
    return Error(kind, fmt::format("{}: cannot be opened: {}", path, std::strerror(errno)));
  }
  FileLock lock(descriptor);
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return usage_error("{}: held by {}", path, holder_of(descriptor));
    if (errno != ENOLCK && errno != EOPNOTSUPP && errno != ENOSYS)
      return failed("{}: cannot be locked: {}", path, std::strerror(errno));
  }
  const std::string holder = fmt::format("process {} on {}\n", getpid(), host_name());
  // Only for the message of who comes later: a full disk must not stop the one who holds the lock.
  if (ftruncate(descriptor, 0) == 0) (void)!pwrite(descriptor, holder.data(), holder.size(), 0);
  return lock;
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) close(descriptor_);
}

FileLock::FileLock(FileLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

}  // namespace troupe
