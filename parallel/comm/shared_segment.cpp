#include "parallel/comm/shared_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace troupe::parallel {

SharedSegment::~SharedSegment() {
  if (data_) munmap(data_, bytes_);
  close_handle();
}

SharedSegment::SharedSegment(SharedSegment&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      handle_(std::exchange(other.handle_, -1)) {}

SharedSegment& SharedSegment::operator=(SharedSegment&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(handle_, other.handle_);
  return *this;
}

void SharedSegment::close_handle() {
  if (handle_ >= 0) ::close(std::exchange(handle_, -1));
}

Status SharedSegment::map(size_t bytes) {
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, handle_, 0);
  if (address == MAP_FAILED) return failed("cannot map {} bytes of shared memory: {}", bytes, std::strerror(errno));
  data_ = static_cast<std::byte*>(address);
  bytes_ = bytes;
  return {};
}

Result<SharedSegment> SharedSegment::create(size_t bytes) {
  SharedSegment segment;
  segment.handle_ = memfd_create("troupe", MFD_CLOEXEC);
  if (segment.handle_ < 0 || ftruncate(segment.handle_, static_cast<off_t>(bytes)) != 0) {
    return failed("cannot create {} bytes of shared memory: {}", bytes, std::strerror(errno));
  }
  TROUPE_TRY(segment.map(bytes));
  return segment;
}

Result<SharedSegment> SharedSegment::open(int64_t process, int handle, size_t bytes) {
  SharedSegment segment;
  const std::string path = fmt::format("/proc/{}/fd/{}", process, handle);
  segment.handle_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (segment.handle_ < 0) return failed("cannot open shared memory {}: {}", path, std::strerror(errno));
  TROUPE_TRY(segment.map(bytes));
  segment.close_handle();
  return segment;
}

}  // namespace troupe::parallel
