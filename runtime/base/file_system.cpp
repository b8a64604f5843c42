// The writing side of file.h: POSIX calls, and what is composed of them.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/file.h"

namespace troupe {
namespace {

// A place that may not be written to is for the owner of the machine to mend, not for another try.
Error not_created(const std::string& path, std::string_view what) {
  const bool forbidden = errno == EROFS || errno == EACCES || errno == EPERM;
  return {forbidden ? ErrorKind::environment : ErrorKind::failed,
          fmt::format("{}: {}: {}", path, what, std::strerror(errno))};
}

class PosixFile : public WritableFile {
 public:
  PosixFile(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {}
  ~PosixFile() override {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  Status write(std::span<const std::byte> bytes) override {
    TROUPE_CHECK(descriptor_ >= 0, "{} is closed", path_);
    for (std::span<const std::byte> left = bytes; !left.empty();) {
      const ssize_t written = ::write(descriptor_, left.data(), left.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) {
        return failed("{}: cannot write {} bytes at offset {}: {}", path_, left.size(), offset_, std::strerror(errno));
      }
      left = left.subspan(static_cast<size_t>(written));
      offset_ += written;
    }
    return {};
  }

  Status sync() override {
    TROUPE_CHECK(descriptor_ >= 0, "{} is closed", path_);
    while (::fsync(descriptor_) != 0) {
      if (errno != EINTR)
        return failed("{}: cannot bring {} bytes to the disk: {}", path_, offset_, std::strerror(errno));
    }
    return {};
  }

  Status close() override {
    if (::close(std::exchange(descriptor_, -1)) == 0 || errno == EINTR) return {};  // Linux closes before EINTR
    return failed("{}: cannot close after {} bytes: {}", path_, offset_, std::strerror(errno));
  }

 private:
  int descriptor_;
  std::string path_;
  int64_t offset_ = 0;
};

Status remove_tree(FileSystem& files, const std::string& path, bool is_directory) {
  if (is_directory) {
    for (const DirectoryEntry& entry : TROUPE_TRY(files.list(path))) {
      TROUPE_TRY(remove_tree(files, path + "/" + entry.name, entry.is_directory));
    }
  }
  return files.remove(path);
}

}  // namespace

Result<std::unique_ptr<WritableFile>> PosixFileSystem::create(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0) return not_created(path, "cannot create the file");
  return std::unique_ptr<WritableFile>(std::make_unique<PosixFile>(descriptor, path));
}

Status PosixFileSystem::rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    return failed("{}: cannot rename to {}: {}", from, to, std::strerror(errno));
  return {};
}

Status PosixFileSystem::remove(const std::string& path) {
  struct stat info{};
  const bool is_directory = ::lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  const int status = is_directory ? ::rmdir(path.c_str()) : ::unlink(path.c_str());
  if (status != 0 && errno != ENOENT) return failed("{}: cannot remove: {}", path, std::strerror(errno));
  return {};
}

Status PosixFileSystem::create_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0777) == 0) return {};
  const int error = errno;
  struct stat info{};
  if (error == EEXIST && ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return {};
  errno = error;
  return not_created(path, "cannot create the folder");
}

Status PosixFileSystem::sync_directory(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return failed("{}: cannot open the folder: {}", path, std::strerror(errno));
  int status;
  while ((status = ::fsync(descriptor)) != 0 && errno == EINTR) {
  }
  const int error = errno;
  ::close(descriptor);
  errno = error;
  if (status != 0) return failed("{}: cannot bring the folder to the disk: {}", path, std::strerror(errno));
  return {};
}

Result<std::vector<DirectoryEntry>> PosixFileSystem::list(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
  if (!directory) return failed("{}: cannot list the folder: {}", path, std::strerror(errno));
  std::vector<DirectoryEntry> entries;
  errno = 0;
  while (const dirent* entry = ::readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    struct stat info{};
    // An entry that vanished since is left out.
    if (name != "." && name != ".." &&
        ::fstatat(::dirfd(directory.get()), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0) {
      entries.push_back({std::string(name), S_ISDIR(info.st_mode), static_cast<int64_t>(info.st_size)});
    }
    errno = 0;
  }
  if (errno != 0) return failed("{}: cannot list the folder: {}", path, std::strerror(errno));
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return entries;
}

Status create_directories(FileSystem& files, const std::string& path) {
  for (size_t end = 0; end != std::string::npos;) {
    end = path.find('/', end + 1);
    const std::string prefix = path.substr(0, end);
    if (!prefix.empty() && prefix.back() != '/') TROUPE_TRY(files.create_directory(prefix));
  }
  return {};
}

Status remove_all(FileSystem& files, const std::string& path) {
  std::string_view whole = path;
  while (whole.size() > 1 && whole.back() == '/') whole.remove_suffix(1);
  const std::string name(whole.substr(whole.rfind('/') + 1));
  TROUPE_CHECK(!name.empty() && name != "." && name != "..", "remove_all of \"{}\"", path);
  const std::string parent = parent_directory(whole);
  if (!exists(parent)) return {};
  for (const DirectoryEntry& entry : TROUPE_TRY(files.list(parent))) {
    if (entry.name == name) return remove_tree(files, std::string(whole), entry.is_directory);
  }
  return {};
}

AtomicFile::AtomicFile(FileSystem& files, std::string path, std::string temporary, std::unique_ptr<WritableFile> file)
    : files_(&files), path_(std::move(path)), temporary_(std::move(temporary)), file_(std::move(file)) {}

Result<AtomicFile> AtomicFile::create(FileSystem& files, std::string path, std::string_view suffix) {
  std::string temporary = path + std::string(suffix);
  auto file = TROUPE_TRY(files.create(temporary));
  return AtomicFile(files, std::move(path), std::move(temporary), std::move(file));
}

AtomicFile::~AtomicFile() {
  if (!file_) return;
  file_.reset();
  (void)files_->remove(temporary_);
}

Status AtomicFile::write(std::string_view bytes) {
  return write(std::as_bytes(std::span<const char>(bytes.data(), bytes.size())));
}

Status AtomicFile::write(std::span<const std::byte> bytes) {
  TROUPE_CHECK(file_, "{} was committed", path_);
  return file_->write(bytes);
}

Status AtomicFile::commit() {
  TROUPE_CHECK(file_, "{} was committed", path_);
  TROUPE_TRY(file_->sync());
  TROUPE_TRY(file_->close());
  TROUPE_TRY(files_->rename(temporary_, path_));
  file_.reset();
  return files_->sync_directory(parent_directory(path_));
}

Status write_file_atomically(FileSystem& files, const std::string& path, std::string_view contents) {
  auto file = TROUPE_TRY(AtomicFile::create(files, path));
  TROUPE_TRY(file.write(contents));
  return file.commit();
}

}  // namespace troupe
