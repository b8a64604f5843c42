// Files, with every failure a Result that names path, deed and cause. What must survive a crash is
// written through FileSystem, so that a test can fail or stop at any single operation.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace troupe {

// An open file that is written from front to back. Destroying it closes it; an error of closing is then
// lost, so close() first where that matters. Not thread-safe.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  // Writes all of it, or fails; what was written until then stays.
  virtual Status write(std::span<const std::byte> bytes) = 0;
  // Blocks until the contents are on the disk.
  virtual Status sync() = 0;
  virtual Status close() = 0;
};

struct DirectoryEntry {
  std::string name;  // without the folder
  bool is_directory = false;
  int64_t size_bytes = 0;
};

// The operations whose order decides what a crash leaves behind. Thread-safe. Errors are of the kind failed;
// environment where a file or folder is to be made in a place that is read-only or not ours.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  // Truncates what is there. Readable by all, subject to the umask.
  virtual Result<std::unique_ptr<WritableFile>> create(const std::string& path) = 0;
  // Replaces `to` atomically.
  virtual Status rename(const std::string& from, const std::string& to) = 0;
  // A file, or an empty folder. It is no error if there is none.
  virtual Status remove(const std::string& path) = 0;
  // It is no error if the folder exists. The parent must exist.
  virtual Status create_directory(const std::string& path) = 0;
  // Blocks until the folder's entries (created, renamed, removed) are on the disk.
  virtual Status sync_directory(const std::string& path) = 0;
  // Sorted by name, without "." and "..".
  virtual Result<std::vector<DirectoryEntry>> list(const std::string& path) = 0;
};

class PosixFileSystem : public FileSystem {
 public:
  Result<std::unique_ptr<WritableFile>> create(const std::string& path) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  Status create_directory(const std::string& path) override;
  Status sync_directory(const std::string& path) override;
  Result<std::vector<DirectoryEntry>> list(const std::string& path) override;
};

// With all missing parents.
Status create_directories(FileSystem& files, const std::string& path);
// With all that is in it; links are removed, not followed.
Status remove_all(FileSystem& files, const std::string& path);

// A file that appears whole or not at all: written beside its place as path + suffix, synced, renamed.
// Destroyed before commit(), it leaves no trace. Two writers of one path need different suffixes.
class AtomicFile {
 public:
  static Result<AtomicFile> create(FileSystem& files, std::string path, std::string_view suffix = ".tmp");
  ~AtomicFile();
  AtomicFile(AtomicFile&&) noexcept = default;
  AtomicFile& operator=(AtomicFile&&) = delete;

  Status write(std::string_view bytes);
  Status write(std::span<const std::byte> bytes);
  // Syncs, closes, renames, syncs the folder. After an error the old file stands, unless only the last of
  // these failed: then the new one stands, but a power cut may undo it.
  Status commit();

 private:
  AtomicFile(FileSystem& files, std::string path, std::string temporary, std::unique_ptr<WritableFile> file);
  FileSystem* files_;
  std::string path_;
  std::string temporary_;
  std::unique_ptr<WritableFile> file_;  // null once committed or failed
};

Status write_file_atomically(FileSystem& files, const std::string& path, std::string_view contents);

// The whole file. Errors also where it is longer than `limit_bytes`.
Result<std::string> read_file(const std::string& path, int64_t limit_bytes = int64_t{1} << 40);

// The folder of a path: "a/b" → "a", "b" → ".", "/b" → "/".
std::string parent_directory(std::string_view path);
bool exists(const std::string& path);
Result<int64_t> file_size_bytes(const std::string& path);
// What an unprivileged writer may still write to the disk that holds `path`, which must exist.
Result<int64_t> free_space_bytes(const std::string& path);

// A file's bytes, mapped read-only; pages are read when touched. The file must not shrink meanwhile.
// Reading is thread-safe.
class MappedFile {
 public:
  enum class Access { normal, sequential, random, soon };

  static Result<MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }
  // A hint how the bytes will be read (madvise); never fails.
  void advise(Access access) const;

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes_;
};

// Appends lines to a file, e.g. metrics.jsonl: one write(2) each, so that lines of several processes do
// not mix and a crash tears at most the last one. Opening cuts off a torn last line. Not thread-safe.
class LineWriter {
 public:
  static Result<LineWriter> open(const std::string& path);
  ~LineWriter();
  LineWriter(LineWriter&& other) noexcept;
  LineWriter& operator=(LineWriter&& other) noexcept;

  // REQUIRES: no line end in `line`; one is added.
  Status write(std::string_view line);

 private:
  LineWriter(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {}
  int descriptor_;
  std::string path_;
  bool torn_ = false;  // the last write failed halfway: the next starts a line of its own
};

}  // namespace troupe
