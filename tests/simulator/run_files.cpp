#include "tests/simulator/run_files.h"

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>

#include "runtime/base/check.h"
#include "tests/simulator/rank.h"

namespace troupe::simulator {
namespace {

constexpr std::string_view kMemory = "/dev/shm";
constexpr std::string_view kStep = "/step-", kStaged = "/.tmp-step-";

Error no_room(const std::string& path) { return failed("{}: No space left on device", path); }

template <class T>
T done(Result<T> result) {
  TROUPE_CHECK(result.ok(), "{}", result.error().message());
  return std::move(result).value();
}

}  // namespace

Recipe::Recipe() {
  const bool memory = access(std::string(kMemory).c_str(), W_OK) == 0;
  folder_ =
      (memory ? std::string(kMemory) : std::filesystem::temp_directory_path().string()) + "/troupe-simulator-XXXXXX";
  TROUPE_CHECK(mkdtemp(folder_.data()) != nullptr, "{}: no scratch folder", folder_);
  std::filesystem::current_path(folder_);
  PosixFileSystem files;
  TROUPE_CHECK(write_file_atomically(files, "text", std::string(4000, 'a')).ok());
  Config parsed =
      done(Config::parse("[model]\nlayers = 1\nwidth = 8\nheads = 1\n"
                         "[data]\ntrain = \"text\"\ntokenizer = \"bytes\"\nvalidation_fraction = 0\n"
                         "[train]\nsteps = 10\nsequence_length = 8\nglobal_batch = 60\n",
                         "simulated.toml"));
  setup = done(train::RunSetup::read(parsed));
  ThreadPool pool(1);
  const Status opened = setup.open_data(".", files, pool);
  TROUPE_CHECK(opened.ok(), "{}", opened.error().message());
  config = parsed.to_toml();
  config_json = parsed.to_json();
}

Recipe::~Recipe() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

Recipe& recipe() {
  static Recipe made;
  return made;
}

int64_t step_of(const std::string& folder) {
  const size_t at = folder.rfind(kStep);
  if (at == std::string::npos || folder.find('/', at + 1) != std::string::npos) return -1;
  return std::atoll(folder.c_str() + at + kStep.size());
}

Result<std::unique_ptr<WritableFile>> RunFiles::create(const std::string& path) {
  if (disk_.full) return no_room(path);
  return PosixFileSystem::create(path);
}

Status RunFiles::create_directory(const std::string& path) {
  if (disk_.full) return no_room(path);
  return PosixFileSystem::create_directory(path);
}

Status RunFiles::rename(const std::string& from, const std::string& to) {
  TROUPE_TRY(PosixFileSystem::rename(from, to));
  if (to.ends_with("/generation")) ledger_.lease_taken(start_, std::atoll(done(read_file(to)).c_str()));
  if (const int64_t step = step_of(from); step >= 0) ledger_.removed(step);
  if (const int64_t step = step_of(to); step >= 0 && from.find(kStaged) != std::string::npos) {
    ledger_.published(step, std::atoll(from.c_str() + from.rfind("-g") + 2), holds_state_after(to, step));
  }
  return {};
}

Status RunFiles::remove(const std::string& path) {
  TROUPE_TRY(PosixFileSystem::remove(path));
  if (const int64_t step = step_of(path); step >= 0) ledger_.removed(step);
  return {};
}

}  // namespace troupe::simulator
