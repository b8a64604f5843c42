// A folder or job that one process may hold at a time: an advisory lock (flock) on a file, which says who holds it.
#pragma once
#include <string>

#include "runtime/base/result.h"

namespace troupe {

// Held until destroyed; the kernel gives it free when the process ends, however it does.
class FileLock {
 public:
  // Creates the file if need be. Errors: usage, "held by process 411 on n2" if another process holds it; failed. On a
  // file system that knows no locks it is held by whoever asks.
  static Result<FileLock> take(const std::string& path);
  ~FileLock();
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;

 private:
  explicit FileLock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

}  // namespace troupe
