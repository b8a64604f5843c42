// Memory that processes of one host share. It has no name: one process creates it (memfd), the others open it
// through /proc while the first holds it open, and it goes away with the last process that maps it, however those
// die. Contents begin as zeros; pages cost memory when they are first touched.
#pragma once
#include <cstddef>
#include <cstdint>

#include "runtime/base/result.h"

namespace troupe::parallel {

class SharedSegment {
 public:
  SharedSegment() = default;
  ~SharedSegment();
  SharedSegment(SharedSegment&& other) noexcept;
  SharedSegment& operator=(SharedSegment&& other) noexcept;

  static Result<SharedSegment> create(size_t bytes);
  // What another process of this host created: its process id and handle() there.
  static Result<SharedSegment> open(int64_t process, int handle, size_t bytes);

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  int handle() const { return handle_; }
  void close_handle();  // once everybody has opened it; the memory stays

 private:
  Status map(size_t bytes);

  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  int handle_ = -1;
};

}  // namespace troupe::parallel
